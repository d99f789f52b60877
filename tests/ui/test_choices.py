"""What is chosen, from whatever a browser sends to the fields of a request, and what may be chosen as the dialog tells it."""

from __future__ import annotations

import asyncio
import json
from html import unescape
from typing import Any

import pytest

from services.api.openai_schema import ChatRequest
from services.ui import choices, choices_panel
from services.ui.chat import Chat
from services.ui.choices import BOUNDS, OWN, Choices, parse
from services.ui.client import Client, Model, Status
from services.ui.conversation import Conversation, Turn
from services.ui.status import Watch
from services.ui.texts import EN, ZH, Words
from services.ui.told import Told
from tests.ui import fake as say
from tests.ui.fake import FakeApi

ALL = {
    "system": "Be brief.",
    "temperature": 0.3,
    "top_p": 0.9,
    "max_tokens": 100,
    "thinking": True,
    "thinking_budget": 50,
    "adapter": "poet",
}
SAID = [{"role": "user", "content": "q"}]


def test_what_is_chosen_is_read_and_sent_and_nothing_else() -> None:
    assert parse(ALL) == Choices("Be brief.", 0.3, 0.9, 100, True, 50, "poet")
    assert parse(ALL).fields() == {
        "temperature": 0.3,
        "top_p": 0.9,
        "max_completion_tokens": 100,
        "enable_thinking": True,
        "thinking_budget": 50,
        "model": "poet",
    }
    assert parse({}) == OWN and OWN.fields() == {} and OWN.messages(SAID) == SAID
    assert parse({"temperature": 0}).fields() == {"temperature": 0}


@pytest.mark.parametrize(
    "chosen", [{"thinking": False}, {"thinking": False, "thinking_budget": 9}, {"thinking": True, "thinking_budget": 0}]
)
def test_no_thought_is_asked_for_in_one_way(chosen: dict[str, Any]) -> None:
    assert parse(chosen).fields() == {"enable_thinking": False}


def test_the_system_prompt_comes_first() -> None:
    assert parse(ALL).messages(SAID) == [{"role": "system", "content": "Be brief."}, *SAID]
    assert parse({"system": "  \n "}) == OWN


HOSTILE: list[tuple[str, list[Any]]] = [
    ("system", [1, None, ["a"], {"a": 1}, "x" * (choices.LONGEST + 1), "half \ud83d", True]),
    ("temperature", ["0.5", -0.1, 2.1, float("nan"), float("inf"), 10**400, True, [0.5], None]),
    ("top_p", [0, 0.001, 1.01, "1", False, {}]),
    ("max_tokens", [0, -1, 1.5, 10.0, 10**12, "10", True, float("inf")]),
    ("thinking", [1, 0, "false", "", [], None]),
    ("thinking_budget", [-1, 0.5, 2**31, "0", False]),
    ("adapter", [7, "x" * 300, "\udc00", ["poet"], None]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HOSTILE for value in values])
def test_what_is_no_choice_is_dropped_and_the_others_stay(name: str, value: Any) -> None:
    others = {key: other for key, other in ALL.items() if key != name}
    assert parse({**others, name: value, "messages": [], "stream": False}) == parse(others)


@pytest.mark.parametrize("value", [None, 1, "text", [], [ALL], True, float("nan")])
def test_what_is_no_object_is_no_choice(value: Any) -> None:
    assert parse(value) == OWN


@pytest.mark.parametrize("name", BOUNDS)
def test_the_api_takes_what_may_be_chosen(name: str) -> None:
    for value in (BOUNDS[name].least, BOUNDS[name].most):
        chosen = parse({**ALL, name: value})
        request = ChatRequest.model_validate({"messages": chosen.messages(SAID), **chosen.fields()})
        assert request.unknown() == []
        request.conversation()
        request.wanted("")


def test_every_choice_goes_with_the_question_and_with_what_follows(fake: FakeApi) -> None:
    async def play() -> None:
        async with Client(fake.url) as client:
            chat, talk = Chat(client, Watch(client, age=0).current), Conversation([Turn("q", "Hm.", stage="cut")])
            async for _ in chat.answer("me", talk, parse({**ALL, "messages": ["mine"], "stream": False}), go_on=True):
                pass

    asyncio.run(play())
    (asked,) = fake.asked
    assert [message["role"] for message in asked["messages"]] == ["system", "user", "assistant"]
    assert asked["messages"][0]["content"] == "Be brief." and asked["stream"] is True
    assert {name: asked[name] for name in parse(ALL).fields()} == parse(ALL).fields()


def status(**model: Any) -> Status:
    told = {**say.READY, "model": {**say.MODEL, **model}}
    return Status("ready", None, Model("demo", "Demo", "q4_k_m", 8192, "demo"), None, Told(json.loads(json.dumps(told))))


@pytest.mark.parametrize("words", [EN, ZH])
def test_the_dialog_tells_bounds_and_the_models_own(words: Words) -> None:
    shown, w = unescape(choices_panel.show(status(), words)), words.choices
    assert all(text in shown for text in (w.own.format(value="0.6"), w.own.format(value="0.95"), w.own.format(value="4,096")))
    assert w.any_number.format(least="0.01", most="1") in shown
    assert w.whole_number.format(least="0", most="8,192") in shown
    assert 'name="adapter"' not in shown, "there is none"


def test_without_a_model_the_dialog_promises_nothing() -> None:
    for now in (Status("starting"), Status("loading", told=Told(say.LOADING)), Status("ready", told=Told({"model": {"defaults": "?"}}))):
        shown = choices_panel.show(now, EN)
        assert shown.count(f'placeholder="{unescape(EN.choices.own_unknown)}"'.replace("'", "&#x27;")) == 3
        assert 'name="adapter"' not in shown
    assert 'class="known"' not in choices_panel.show(Status("loading", told=Told(say.LOADING)), EN)


def test_names_are_text() -> None:
    shown = choices_panel.show(status(title="<b>T</b>", adapters=['"><script>', 7, "poet"]), EN)
    assert "<script>" not in shown and "<b>" not in shown
    assert '<option value="&quot;&gt;&lt;script&gt;">' in shown and '<option value="poet">poet</option>' in shown
