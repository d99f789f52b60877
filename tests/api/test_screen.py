"""The screening list: what it finds, what it does then, and that no text can hang the API with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from services.api import screen
from services.api.conversation import Conversation, Message, Tool, ToolCall
from services.api.errors import InvalidRequest
from services.api.screen import Pattern, Screen, ScreenError
from services.shared import settings
from tests.api.scripted import Stand, stand
from tests.conftest import environment

LIST = """
[[pattern]]
name = "project-x"
regex = 'project\\s+nightingale'
action = "refuse"

[[pattern]]
name = "id-number"
regex = '\\b\\d{6}-\\d{4}\\b'
action = "flag"

[[pattern]]
name = "secret.word"
regex = 'Geheim|机密'
action = "flag"

[[pattern]]
name = "catastrophe"
regex = '^boom (\\w+\\s?)*;$'
action = "refuse"
"""


@pytest.fixture(scope="module")
def screened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    home = tmp_path_factory.mktemp("screen")
    (home / "screen.toml").write_text(LIST)
    with stand(home, API__SCREEN=home / "screen.toml") as standing:
        standing.engine.answer("Hello")
        yield standing


def ask(api: Stand, *texts: str, **more: object) -> httpx.Response:
    messages = [{"role": "assistant" if number % 2 else "user", "content": text} for number, text in enumerate(texts)]
    return httpx.post(api.url + "/v1/chat/completions", json={"messages": messages, **more}, timeout=60)


def test_a_request_is_refused_with_the_patterns_name(screened: Stand) -> None:
    before = len(screened.engine.requests)
    response = ask(screened, "Tell me about Project Nightingale.")
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "screened")
    assert error["message"] == "the request is refused by this appliance's screening list (project-x)"
    assert len(screened.engine.requests) == before, "the engine has seen it"
    assert "x-cloister-flagged" not in response.headers


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_flagged_and_answered(screened: Stand, stream: bool) -> None:
    response = ask(screened, "I am 123456-7890, GEHEIM.", stream=stream)
    assert response.status_code == 200 and "Hello" in response.text
    assert response.headers["x-cloister-flagged"] == "id-number, secret.word"


def test_others_are_neither(screened: Stand) -> None:
    response = ask(screened, "Tell me about nightingales.")
    assert response.status_code == 200 and "x-cloister-flagged" not in response.headers


@pytest.mark.parametrize(
    "text",
    [
        "PROJECT NIGHTINGALE",
        "project\n\nnightingale",
        "ｐｒｏｊｅｃｔ　ｎｉｇｈｔｉｎｇａｌｅ",
        "pro\u200bject night\u00adingale",
        "\u202eproject\u2060 nightin\ufe0fgale",
        "𝐩𝐫𝐨𝐣𝐞𝐜𝐭 nightingale",
        "pro\U000e0041ject ⓝⓘⓖⓗⓣⓘⓝⓖⓐⓛⓔ",
    ],
)
def test_disguises_that_unicode_knows_are_seen_through(screened: Stand, text: str) -> None:
    assert ask(screened, f"About {text}!").json()["error"]["code"] == "screened"


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "project nightingale"}, {"role": "user", "content": "?"}],
        [{"role": "developer", "content": "project nightingale"}, {"role": "user", "content": "?"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "project nightingale"}, {"role": "user", "content": "?"}],
        [{"role": "user", "content": [{"type": "text", "text": "project "}, {"type": "text", "text": "nightingale"}]}],
    ],
)
def test_every_role_is_looked_at(screened: Stand, messages: list[dict[str, object]]) -> None:
    response = httpx.post(screened.url + "/v1/chat/completions", json={"messages": messages})
    assert response.json()["error"]["code"] == "screened"


def test_tools_are_looked_at() -> None:
    call = ToolCall("1", "name-1", '{"a": "arguments-1"}')
    tool = Tool("name-2", "description-2", {"type": "object", "properties": {"schema-2": {"description": "鸡"}}})
    found = list(screen.texts(Conversation((Message("assistant", "said", (call,)), Message("tool", "result", call_id="1")), (tool,))))
    for text in ("said", "result", "name-1", "arguments-1", "name-2", "description-2", "schema-2", "鸡"):
        assert any(text in other for other in found), text


def test_flags_of_requests_at_the_same_time_do_not_mix(screened: Stand) -> None:
    texts = ["123456-7890", "geheim", "nothing"] * 5
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda text: ask(screened, text), texts))
    wanted = {"123456-7890": "id-number", "geheim": "secret.word", "nothing": None}
    assert [response.headers.get("x-cloister-flagged") for response in responses] == [wanted[text] for text in texts]


def test_only_the_name_is_logged(screened: Stand, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(screened, "Is Heidi 123456-7890?")
        ask(screened, "Heidi and project nightingale")
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("screened")]
    assert lines == ["screened action=flag pattern=id-number", "screened action=refuse pattern=project-x"]
    assert "Heidi" not in caplog.text and "123456" not in caplog.text


def test_no_text_can_hang_the_api(screened: Stand) -> None:
    """A text for which a careless pattern would compute for years is refused, and others are answered meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(ask, screened, "boom " + "many words " * 40 + "!")
        longest = 0.0
        while not hanging.done():
            began = time.monotonic()
            assert httpx.get(screened.url + "/livez", timeout=60).status_code == 200
            longest = max(longest, time.monotonic() - began)
        response = hanging.result()
    assert longest < 1, "the event loop was blocked"
    assert response.status_code == 400 and response.json()["error"]["code"] == "screened"
    assert response.json()["error"]["message"] == "the request could not be screened in 1 s of computing: shorten its texts"
    assert ask(screened, "fine").status_code == 200


def test_a_megabyte_is_screened_in_time(screened: Stand) -> None:
    assert ask(screened, "Ｔext 鸡 ; " * 100_000).status_code == 200
    assert ask(screened, "Text 鸡 ; " * 100_000 + "Project Nightingale").json()["error"]["code"] == "screened"


def test_a_check_that_nobody_waits_for_does_not_confuse_the_next() -> None:
    async def scene() -> None:
        screening = Screen([Pattern("a", "needle", "refuse")])
        for _ in range(3):
            task = asyncio.create_task(screening.check_texts(["needle " * 50_000]))
            await asyncio.sleep(0.01)
            task.cancel()
            await screening.check_texts(["hay"])
        with pytest.raises(InvalidRequest):
            await screening.check_texts(["hay", "a needle", "\ud800"])
        await screening.close()

    asyncio.run(scene())


def test_nothing_is_started_without_patterns() -> None:
    async def scene() -> None:
        screening = Screen()
        await screening.check_texts(["anything"])
        assert screening._child._process is None

    asyncio.run(scene())


ENTRY = '[[pattern]]\nname = "a"\nregex = "b"\naction = "flag"\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must hold [[pattern]] tables and nothing else; found nothing"),
        ("pattern = 3", "must hold [[pattern]] tables and nothing else; found pattern"),
        (f'other = "x"\n{ENTRY}', "must hold [[pattern]] tables and nothing else; found other, pattern"),
        ("[[pattern]", "is not valid TOML: "),
        (ENTRY.replace('name = "a"\n', ""), "pattern 1 must have name, regex and action; found regex, action"),
        (ENTRY + ENTRY.replace("flag", "log"), "pattern 2 (a): action must be refuse or flag; found 'log'"),
        (ENTRY + ENTRY, "two patterns are named a"),
        (ENTRY.replace('"a"', '"a b"'), "pattern 1: name must be up to 64 letters"),
        (ENTRY.replace('"b"', '"("'), "pattern 1 (a): regex is not a regular expression: missing )"),
        (ENTRY.replace('"b"', '"b*"'), "pattern 1 (a): regex must be text that does not match everything; found 'b*'"),
        (ENTRY.replace('"b"', "7"), "pattern 1 (a): regex must be text that does not match everything; found 7"),
    ],
)
def test_a_wrong_file_stops_the_start(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "screen.toml"
    file.write_text(content)
    with pytest.raises(ScreenError) as error:
        screen.read(file)
    assert message in str(error.value) and str(error.value).startswith(f"[api] screen: {file}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScreenError, match=r"gone\.toml can't be read \(No such file or directory\)"):
        screen.read(tmp_path / "gone.toml")
    assert settings.load(environment(tmp_path)).api.screen is None
