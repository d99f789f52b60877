"""Ollama's dialect as Ollama's own client speaks it, over real HTTP, with an engine that plays a script."""

from __future__ import annotations

import asyncio
import functools
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import ollama
import pytest

from tests.api.dialects import CALLED, SCHEMA, THOUGHT, TWO_CALLS, back, dying, prompt, refusals, scored
from tests.api.scripted import Stand, accepted, failed, finished, queued, tag, text

QUESTION: list[Any] = [{"role": "user", "content": "Why?"}]
WEATHER = {"type": "function", "function": {"name": "weather", "description": "How it is outside", "parameters": SCHEMA}}


@functools.cache
def client(api: Stand) -> ollama.Client:
    return ollama.Client(host=api.url, timeout=30)


def post(api: Stand, path: str, body: Any) -> httpx.Response:
    return httpx.post(api.url + path, json=body, timeout=30)


def lines(api: Stand, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """A streamed answer, line by line."""
    response = post(api, path, body)
    assert response.status_code == 200 and response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


# --- answers ---


def test_a_chat(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    done = client(api).chat("scripted:latest", QUESTION)
    assert done.message.role == "assistant" and done.message.content == "Because." and done.message.thinking == "hmmm"
    assert done.done and done.done_reason == "stop" and done.model == "scripted:latest" and not done.message.tool_calls
    assert (done.prompt_eval_count, done.eval_count) == (7, 5)
    assert (done.load_duration, done.prompt_eval_duration, done.eval_duration) == (500_000_000, 250_000_000, 2_000_000_000)
    assert done.total_duration is not None and done.total_duration >= 2_750_000_000
    said = datetime.fromisoformat(str(done.created_at))
    assert abs((datetime.now(UTC) - said).total_seconds()) < 60


def test_a_streamed_chat(api: Stand) -> None:
    api.engine.play(queued(1), *THOUGHT)
    parts = list(client(api).chat("scripted", QUESTION, stream=True))
    assert [part.message.thinking for part in parts] == ["hm", "mm", None, None, None]
    assert [part.message.content for part in parts] == ["", "", "Be", "cause.", ""]
    assert [part.done for part in parts] == [False] * 4 + [True]
    assert parts[-1].done_reason == "stop" and parts[-1].eval_count == 5 and parts[0].eval_count is None


def test_streaming_is_what_happens_unless_it_is_refused(api: Stand) -> None:
    assert len(lines(api, "/api/chat", {"model": "scripted", "messages": QUESTION})) == 3
    assert len(lines(api, "/api/generate", {"model": "scripted", "prompt": "Why?"})) == 3


def test_the_async_client(api: Stand) -> None:
    async def scene() -> tuple[Any, list[str], Any]:
        api.engine.play(*THOUGHT)
        home = ollama.AsyncClient(host=api.url, timeout=30)
        done = await home.chat("scripted", QUESTION)
        parts = [part.message.content async for part in await home.chat("scripted", QUESTION, stream=True)]
        return done, parts, await home.generate("scripted", "Why?")

    done, parts, generated = asyncio.run(scene())
    assert done.message.content == "Because." and "".join(parts) == "Because." and generated.response == "Because."


def test_generate(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    done = client(api).generate("scripted", "Why?", system="Be brief.")
    assert done.response == "Because." and done.thinking == "hmmm" and done.done_reason == "stop" and done.context is None
    assert prompt(api) == "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Why?<｜Assistant｜><think>\n"
    parts = list(client(api).generate("scripted", "Why?", stream=True))
    assert [(part.response, part.thinking) for part in parts] == [("", "hm"), ("", "mm"), ("Be", None), ("cause.", None), ("", None)]


def test_a_raw_prompt_has_no_template(api: Stand) -> None:
    api.engine.play(accepted(), text("lazy", " dog"), finished("length"))
    done = client(api).generate("scripted", "The quick <｜User｜>", raw=True)
    assert done.response == "lazy dog" and done.done_reason == "length"
    assert [part for part in api.engine.requests[-1].prompt if not part[0]] == [(False, "The quick <｜User｜>")]
    assert "<｜Assistant｜>" not in prompt(api)


def test_nothing_asked_loads_the_model(api: Stand) -> None:
    for done in (client(api).chat("scripted"), client(api).generate("scripted", keep_alive=0)):
        assert done.done and done.done_reason == "load"
    assert not api.engine.requests


def test_options_reach_the_engine(api: Stand) -> None:
    options = {"temperature": 0.1, "top_k": 7, "top_p": 0.5, "min_p": 0.2, "seed": 3, "num_predict": 11, "stop": ["END"]}
    penalties = {"repeat_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": -0.5}
    idle = {"num_thread": 3, "num_gpu": 99, "num_ctx": 2048, "mirostat": 0, "use_mmap": True, "repeat_last_n": -1}
    client(api).chat("scripted", QUESTION, options=options | penalties | idle)
    sent = api.engine.requests[-1]
    chosen = {name: getattr(sent.sampling, name) for name in (*options, *penalties) if name not in ("num_predict", "stop")}
    assert chosen == {name: value for name, value in (options | penalties).items() if name not in ("num_predict", "stop")}
    assert sent.max_tokens == 11 and sent.stop == ("END",)


@pytest.mark.parametrize("unlimited", [-1, -2])
def test_no_limit_and_any_seed(api: Stand, unlimited: int) -> None:
    client(api).chat("scripted", QUESTION, options={"num_predict": unlimited, "seed": -1})
    assert api.engine.requests[-1].max_tokens == 0 and api.engine.requests[-1].sampling.seed is None


def test_json(api: Stand) -> None:
    for form, wanted in (("json", {"type": "object"}), (SCHEMA, SCHEMA)):
        client(api).chat("scripted", QUESTION, format=form)  # type: ignore[arg-type]
        assert json.loads(api.engine.requests[-1].sampling.json_schema or "") == wanted
        client(api).generate("scripted", "Why?", format=form)  # type: ignore[arg-type]
        assert json.loads(api.engine.requests[-1].sampling.json_schema or "") == wanted
    client(api).chat("scripted", QUESTION, format="")
    assert api.engine.requests[-1].sampling.json_schema is None


def test_think(tooled: Stand) -> None:
    client(tooled).chat("scripted", QUESTION, think=False)
    assert tooled.engine.requests[-1].thought_limit == 0 and prompt(tooled).endswith("<think>\n\n</think>\n\n")
    client(tooled).chat("scripted", QUESTION, think=True)
    assert tooled.engine.requests[-1].thought_limit is None and prompt(tooled).endswith("assistant\n")
    limits = []
    for level in ("low", "medium", "high"):
        client(tooled).generate("scripted", "Why?", think=level)  # type: ignore[arg-type]
        limits.append(tooled.engine.requests[-1].thought_limit)
    assert limits[0] is not None and limits[1] is not None and 0 < limits[0] < limits[1]


def test_logprobs(api: Stand) -> None:
    api.engine.play(accepted(), tag("</think>"), scored("Hi"), scored("!"), finished())
    done = client(api).chat("scripted", QUESTION, logprobs=True, top_logprobs=2)
    assert done.logprobs is not None and [(entry.token, entry.logprob) for entry in done.logprobs] == [("Hi", -0.5), ("!", -0.5)]
    assert [other.token for other in done.logprobs[0].top_logprobs or ()] == ["Hi", "�"]
    assert api.engine.requests[-1].sampling.logprobs == 2
    parts = list(client(api).generate("scripted", "Why?", logprobs=True, stream=True))
    assert [part.logprobs[0].token for part in parts if part.logprobs] == ["Hi", "!"]
    assert api.engine.requests[-1].sampling.logprobs == 0


# --- tools ---


def test_a_tool_is_called_and_answers(tooled: Stand) -> None:
    tooled.engine.play(*CALLED)
    done = client(tooled).chat("scripted", QUESTION, tools=[WEATHER])
    assert done.message.content == "I look." and done.done_reason == "stop" and done.message.tool_calls
    assert [(c.function.name, c.function.arguments) for c in done.message.tool_calls] == [("weather", {"city": "Köln"})]
    assert '"description": "How it is outside"' in prompt(tooled)
    turns = [*QUESTION, done.message, {"role": "tool", "tool_name": "weather", "content": "rain"}]
    client(tooled).chat("scripted", turns, tools=[WEATHER])
    assert '<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call><|im_end|>\n<|im_start|>tool\nrain' in prompt(tooled)


def test_streamed_calls_come_whole(tooled: Stand) -> None:
    tooled.engine.play(*TWO_CALLS)
    parts = list(client(tooled).chat("scripted", QUESTION, tools=[WEATHER], stream=True))
    called = [call for part in parts for call in part.message.tool_calls or ()]
    assert [call.function.arguments for call in called] == [{"city": "Köln"}] * 2
    assert "".join(part.message.content or "" for part in parts) == "" and parts[-1].done_reason == "stop"


def test_the_examples_with_curl(api: Stand) -> None:
    """`curl -d` calls everything a form; a web page that does so names its origin."""
    body = json.dumps({"model": "scripted", "prompt": "Why?", "stream": False})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for headers in (form, {"Content-Type": "text/plain; charset=utf-8"}, {}):
        assert httpx.post(f"{api.url}/api/generate", content=body, headers=headers, timeout=30).json()["response"] == "Hello there"
        assert httpx.post(f"{api.url}/api/show", content='{"model": "scripted"}', headers=headers, timeout=30).status_code == 200
    page = httpx.post(f"{api.url}/api/generate", content=body, headers={**form, "Origin": api.url}, timeout=30)
    assert page.status_code >= 400


def test_a_python_function_is_a_tool(tooled: Stand) -> None:
    def weather(city: str) -> str:
        """How it is outside.

        Args:
            city: where
        """
        return city

    tooled.engine.play(*CALLED)
    done = client(tooled).chat("scripted", QUESTION, tools=[weather])
    assert done.message.tool_calls and done.message.tool_calls[0].function.name == "weather"


def test_a_template_without_tools_refuses_them(api: Stand) -> None:
    with pytest.raises(ollama.ResponseError, match="tools") as error:
        client(api).chat("scripted", QUESTION, tools=[WEATHER])
    assert error.value.status_code == 400


# --- what is here ---


def test_lists(api: Stand) -> None:
    home = client(api)
    assert [model.model for model in home.list().models] == ["scripted:latest", "poet:latest"]
    model = home.list().models[0]
    assert model.digest == "0" * 64 and model.size == 5 and model.details and model.details.quantization_level == "Q4_K_M"
    running = home.ps().models[0]
    assert running.name == "scripted:latest" and running.context_length == 4096 and running.expires_at
    assert running.expires_at > datetime.now(UTC)
    assert post(api, "/api/chat", {"model": "poet:latest", "messages": QUESTION}).status_code == 200
    assert api.engine.requests[-1].adapter == "poet"


def test_show(api: Stand, tooled: Stand) -> None:
    shown = client(api).show("scripted")
    assert shown.modelinfo and shown.modelinfo["general.architecture"] == "qwen2" and shown.modelinfo["qwen2.context_length"] == 8192
    assert shown.capabilities == ["completion", "thinking"] and shown.details and shown.details.family == "qwen2"
    assert shown.template and "<｜User｜>" in shown.template and "temperature 0.6" in (shown.parameters or "")
    assert client(tooled).show("scripted").capabilities == ["completion", "tools", "thinking"]
    with pytest.raises(ollama.ResponseError, match="not here"):
        client(api).show("llama3")


def test_the_root_answers_as_clients_probe_it(api: Stand) -> None:
    assert httpx.get(api.url).text == "Ollama is running" and httpx.head(api.url).status_code == 200
    version = [int(part) for part in httpx.get(f"{api.url}/api/version").json()["version"].split(".")]
    assert version >= [0, 9, 0]  # since then clients may send `think`


def test_models_come_in_only_through_init(api: Stand) -> None:
    home = client(api)
    blob = "/api/blobs/sha256:" + "0" * 64
    for act in (
        lambda: home.pull("llama3"),
        lambda: list(home.pull("llama3", stream=True)),
        lambda: home.push("scripted"),
        lambda: home.create("mine", from_="scripted"),
        lambda: home._request_raw("DELETE", "/api/delete", json={"model": "scripted"}),
        lambda: home._request_raw("POST", "/api/copy", json={"source": "scripted", "destination": "mine"}),
        lambda: home._request_raw("POST", blob, content=b"weights"),
    ):
        with pytest.raises(ollama.ResponseError, match="init") as error:
            act()
        assert error.value.status_code == 403
    assert httpx.head(api.url + blob).status_code == 403


def test_no_embeddings(api: Stand) -> None:
    for ask in (lambda: client(api).embed("scripted", "text"), lambda: client(api).embeddings("scripted", "text")):
        with pytest.raises(ollama.ResponseError, match="'scripted' makes no embeddings") as error:
            ask()
        assert error.value.status_code == 400


# --- what is refused ---


@pytest.mark.parametrize(
    ("path", "more", "named"),
    [
        ("chat", {"messages": [{"role": "user", "content": "?", "images": ["aGk="]}]}, "messages.0.images"),
        ("chat", {"messages": [{"role": "wizard", "content": "?"}]}, "messages.0.role"),
        ("chat", {"options": {"mirostat": 2}}, "options.mirostat"),
        ("chat", {"options": {"typical_p": 0.5}}, "options.typical_p"),
        ("chat", {"options": {"temperature": -1}}, "options.temperature"),
        ("chat", {"options": {"num_predict": "many"}}, "options.num_predict"),
        ("chat", {"format": "xml"}, "format"),
        ("chat", {"think": "enormously"}, "think"),
        ("chat", {"truncate": True}, "truncate"),
        ("generate", {"suffix": "end"}, "suffix"),
        ("generate", {"context": [1, 2]}, "context"),
        ("generate", {"images": ["aGk="]}, "images"),
        ("generate", {"template": "{{ .Prompt }}"}, "template"),
        ("generate", {"raw": True, "system": "Be brief."}, "system"),
    ],
)
def test_a_known_field_that_is_not_served_is_refused_by_name(api: Stand, path: str, more: dict[str, Any], named: str) -> None:
    response = post(api, f"/api/{path}", {"model": "scripted", "messages": QUESTION, "prompt": "Why?", "stream": False} | more)
    assert response.status_code == 400 and named in response.json()["error"] and list(response.json()) == ["error"]


def test_what_changes_nothing_is_accepted(api: Stand) -> None:
    body = {"model": "scripted", "prompt": "Why?", "stream": False, "context": [], "suffix": "", "images": None, "keep_alive": "5m"}
    response = post(api, "/api/generate", body | {"options": {"num_ctx": 4096, "mirostat_tau": 5.0}})
    assert response.status_code == 200 and "x-cloister-ignored" not in response.headers


def test_what_nobody_knows_is_listed(api: Stand) -> None:
    body = {"model": "scripted", "messages": QUESTION, "stream": False, "colour": 1, "options": {"num_ctx": 99999, "zest": 1}}
    response = post(api, "/api/chat", body)
    assert response.headers["x-cloister-ignored"] == "colour, options.num_ctx, options.zest"


# --- errors ---


@pytest.mark.parametrize(("path", "more"), [("/api/chat", {"messages": QUESTION}), ("/api/generate", {"prompt": "Why?"})])
def test_errors_have_ollamas_form(api: Stand, path: str, more: dict[str, Any]) -> None:
    found = refusals(api, path, {"model": "scripted", **more})
    assert {name: response.status_code for name, response in found.items()} == {
        "model": 404,
        "context": 400,
        "overloaded": 429,
        "internal": 500,
    }
    assert all(list(response.json()) == ["error"] for response in found.values())
    assert "gpt-5" in found["model"].json()["error"] and "5000 tokens" in found["context"].json()["error"]
    assert found["overloaded"].headers["retry-after"] == "7"
    missing = httpx.post(api.url + path, content=b"{", timeout=30)
    assert missing.status_code == 400 and "JSON" in missing.json()["error"]
    assert "error" in httpx.get(f"{api.url}/api/nothing").json() and httpx.get(f"{api.url}/api/chat").status_code == 405


def test_the_engine_dies_in_mid_stream(api: Stand) -> None:
    dying(api)
    said = []
    with pytest.raises(ollama.ResponseError, match="restarted"):
        for part in client(api).chat("scripted", QUESTION, stream=True):
            said.append(part.message.content)
    assert said == ["so far"]
    back(api)
    api.engine.play(accepted(), tag("</think>"), text("so far"), failed("internal", "it broke"))
    assert lines(api, "/api/generate", {"model": "scripted", "prompt": "Why?"})[-1] == {"error": "it broke"}
