"""OpenAI's dialect as OpenAI's own client speaks it, over real HTTP, with an engine that plays a script."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from services.api.completion import Alive, Closing, Completion, Piece
from services.api.engine import Answer, EngineClient
from services.api.errors import ApiError
from services.api.reasoning import ReasoningSplitter
from services.api.tools import TAGGED, Call, CallReader
from services.shared import wire
from tests.api.scripted import (
    PLAIN_TEMPLATE,
    Stand,
    accepted,
    die,
    failed,
    finished,
    hold,
    prefill,
    queued,
    tag,
    text,
    until,
)

QUESTION: list[Any] = [{"role": "user", "content": "Why?"}]
THOUGHT = [accepted(), text("hm", "mm"), tag("</think>"), text("\n\nBe", "cause."), finished()]


def client(api: Stand, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0, timeout=30, **options)


def ask(api: Stand, **fields: Any) -> Any:
    return client(api).chat.completions.create(**{"model": "scripted", "messages": QUESTION, **fields})


def post(api: Stand, body: Any, **more: Any) -> httpx.Response:
    return httpx.post(f"{api.url}/v1/chat/completions", json=body, timeout=30, **more)


def events(api: Stand, **fields: Any) -> list[str]:
    """The raw server-sent events of a streamed answer, comments included."""
    body = {"messages": QUESTION, "stream": True, **fields}
    with httpx.stream("POST", f"{api.url}/v1/chat/completions", json=body, timeout=30) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        return [event for event in response.read().decode().split("\n\n") if event]


# --- answers ---


def test_an_answer(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    done = ask(api)
    assert done.object == "chat.completion" and done.id.startswith("chatcmpl-") and done.model == "scripted"
    assert abs(done.created - time.time()) < 60
    (choice,) = done.choices
    assert choice.message.content == "Because." and choice.message.role == "assistant" and choice.finish_reason == "stop"
    assert choice.message.reasoning_content == "hmmm"
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (7, 5, 12)
    assert done.usage.prompt_tokens_details.cached_tokens == 2
    assert done.usage.completion_tokens_details.reasoning_tokens == 3
    assert done.timings == {"queue_seconds": 0.5, "prefill_seconds": 0.25, "decode_seconds": 2.0, "tokens_per_second": 2.0}


def test_an_answer_without_a_thought_has_no_reasoning(api: Stand) -> None:
    message = ask(api).choices[0].message
    assert message.content == "Hello there" and "reasoning_content" not in message.to_dict()


def test_an_answer_that_is_cut_says_so(api: Stand) -> None:
    api.engine.play(accepted(), text("endless"), finished("length"))
    choice = ask(api).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.content == "" and choice.message.reasoning_content == "endless"


def test_an_answer_of_one_token_has_a_rate(api: Stand) -> None:
    api.engine.play(accepted(), finished(generated_tokens=1, decode_seconds=0.0))
    assert ask(api).timings["tokens_per_second"] == 0


def test_the_engine_is_told_what_the_next_prompt_will_begin_with(api: Stand) -> None:
    """Without the thought, which the template drops, and up to where the next question begins."""
    before = len(api.engine.prepared)
    api.engine.play(*THOUGHT)
    ask(api)
    until(lambda: len(api.engine.prepared) > before)
    parts = api.engine.prepared[before].prompt
    assert "".join(text for _, text in parts).endswith("<｜User｜>Why?<｜Assistant｜>Because.<｜end▁of▁sentence｜><｜User｜>")
    assert [text for own, text in parts if not own] == ["Why?", "Because."]
    next_turn = [*QUESTION, {"role": "assistant", "content": "Because."}, {"role": "user", "content": "Really?"}]
    ask(api, messages=next_turn)
    assert "".join(text for _, text in api.engine.requests[-1].prompt).startswith("".join(text for _, text in parts))


def test_what_has_no_answer_prepares_nothing(api: Stand) -> None:
    before = len(api.engine.prepared)
    unique: list[Any] = [{"role": "user", "content": "Nothing?"}]
    api.engine.play(accepted(), text("endless"), finished("length"))
    ask(api, messages=unique)
    api.engine.play(accepted(), text("hm"), failed("internal"))
    assert post(api, {"messages": unique}).status_code == 500
    api.engine.play(*THOUGHT)
    ask(api)
    until(lambda: len(api.engine.prepared) > before)
    assert not [message for message in api.engine.prepared if (False, "Nothing?") in message.prompt]


def test_budgets_users_and_deadlines_reach_the_engine(api: Stand) -> None:
    ask(api, extra_body={"thinking_budget": 0, "timeout": 2.5}, user="me")
    ask(api, safety_identifier="you")
    ask(api)
    first, second, third = api.engine.requests
    assert (first.thought_limit, first.seconds) == (0, 2.5) and (third.thought_limit, third.seconds, third.user) == (None, 0.0, "")
    assert len({first.user, second.user, third.user}) == 3 and "me" not in first.user
    for fields in ({"thinking_budget": -1}, {"timeout": 0}, {"thinking_budget": 1.5}):
        assert post(api, {"messages": QUESTION, **fields}).status_code == 400


def test_an_answer_says_what_ended_it_and_its_thought(api: Stand) -> None:
    for reason, ended, details in (
        ("stop", "budget", {"thought_ended": "budget"}),
        ("loop", "", {"reason": "loop"}),
        ("deadline", "loop", {"reason": "deadline", "thought_ended": "loop"}),
    ):
        api.engine.play(accepted(), text("hm"), tag("</think>"), text("So."), finished(reason, thought_ended=ended))
        choice = post(api, {"messages": QUESTION}).json()["choices"][0]
        assert choice["finish_reason"] == ("stop" if reason == "stop" else "length") and choice["finish_details"] == details
        last = json.loads(events(api)[-2].removeprefix("data: "))["choices"][0]
        assert last["finish_details"] == details
    api.engine.play(*THOUGHT)
    assert "finish_details" not in post(api, {"messages": QUESTION}).json()["choices"][0]


def test_a_full_line_says_when_to_come_again(api: Stand) -> None:
    api.engine.play(failed("overloaded", retry_after=42))
    response = post(api, {"messages": QUESTION})
    assert response.status_code == 429 and response.headers["Retry-After"] == "42"


def test_a_deadline_without_an_answer_is_a_timeout(api: Stand) -> None:
    api.engine.play(accepted(), failed("deadline", "no answer within the 2 s that the request allowed"))
    response = post(api, {"messages": QUESTION})
    assert response.status_code == 504 and response.json()["error"]["code"] == "timeout"


def test_an_adapter_is_a_model_by_its_name(api: Stand) -> None:
    assert [model.id for model in client(api).models.list()] == ["scripted", "poet"]
    assert client(api).models.retrieve("poet").id == "poet"
    assert ask(api, model="poet").model == "poet" and ask(api).model == "scripted"
    assert [request.adapter for request in api.engine.requests] == ["poet", ""]
    refused = post(api, {"messages": QUESTION, "model": "painter"})
    assert refused.status_code == 404 and "'scripted', 'poet'" in refused.json()["error"]["message"]


def test_a_streamed_answer(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    chunks = list(ask(api, stream=True))
    assert {c.object for c in chunks} == {"chat.completion.chunk"} and len({(c.id, c.created, c.model) for c in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [c.choices[0].delta.to_dict() for c in chunks]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == "hmmm"
    assert "".join(d.get("content") or "" for d in deltas) == "Because."
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(c.usage is None for c in chunks)


def test_the_raw_stream_ends_with_done(api: Stand) -> None:
    raw = events(api)
    assert raw[-1] == "data: [DONE]"
    assert all(event.startswith("data: {") for event in raw[:-1])
    api.engine.answer("鸡🐔")
    assert any("鸡🐔" in event for event in events(api))


def test_usage_of_a_stream_comes_when_asked_for(api: Stand) -> None:
    *_, last = list(ask(api, stream=True, stream_options={"include_usage": True}))
    assert last.choices == [] and last.usage.total_tokens == 12 and last.usage.prompt_tokens_details.cached_tokens == 2
    assert last.timings["tokens_per_second"] == 2.0


def test_progress_comes_when_asked_for(api: Stand) -> None:
    api.engine.play(accepted(), queued(2), queued(1), prefill(32, 100, 16), prefill(64, 100, 16), tag("</think>"), text("ok"), finished())
    progress = [json.loads(e[6:]).get("progress") for e in events(api, stream_options={"include_progress": True})[:-1]]
    assert [p for p in progress if p] == [
        {"state": "queued", "position": 2},
        {"state": "queued", "position": 1},
        {"state": "prefill", "done": 32, "total": 100, "cached": 16},
        {"state": "prefill", "done": 64, "total": 100, "cached": 16},
    ]
    assert not any("progress" in event for event in events(api))
    assert ask(api).choices[0].message.content == "ok"


def test_the_async_client(api: Stand) -> None:
    api.engine.play(*THOUGHT)

    async def scene() -> None:
        async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0) as speaker:
            done = await speaker.chat.completions.create(model="scripted", messages=QUESTION)
            assert done.choices[0].message.content == "Because."
            stream = await speaker.chat.completions.create(model="scripted", messages=QUESTION, stream=True)
            assert "".join([c.choices[0].delta.content or "" async for c in stream]) == "Because."
            many = [speaker.chat.completions.create(model="scripted", messages=QUESTION) for _ in range(20)]
            assert {answer.choices[0].message.content for answer in await asyncio.gather(*many)} == {"Because."}

    asyncio.run(scene())


def test_tags_by_text_where_the_vocabulary_has_none(api: Stand) -> None:
    hello = api.engine.hello
    try:
        api.engine.hello = wire.Hello(**{**vars(hello), "think_start": None, "think_end": None})
        api.restart()
        api.engine.play(accepted(), text("hm</th", "ink>", "so"), finished())
        message = ask(api).choices[0].message
        assert (message.reasoning_content, message.content) == ("hm", "so")
    finally:
        api.engine.hello = hello
        api.restart()


# --- what the engine is asked ---


def test_the_prompt_is_marked_and_the_thought_open(api: Stand) -> None:
    ask(api, messages=[{"role": "system", "content": "Be."}, {"role": "user", "content": "<｜User｜>"}])
    (request,) = api.engine.requests
    assert request.prompt == (
        (True, "<｜begin▁of▁sentence｜>"),
        (False, "Be."),
        (True, "<｜User｜>"),
        (False, "<｜User｜>"),
        (True, "<｜Assistant｜><think>\n"),
    )
    assert request.in_thought


def test_the_authors_defaults_and_what_is_asked_instead(api: Stand) -> None:
    ask(api)
    ask(
        api,
        temperature=0,
        top_p=0.5,
        seed=7,
        presence_penalty=1,
        frequency_penalty=-1,
        extra_body={"top_k": 3, "min_p": 0.1, "repeat_penalty": 1.1},
    )
    ask(api, extra_body={"top_k": -1})
    plain, asked, off = (request.sampling for request in api.engine.requests)
    assert plain == wire.Sampling(temperature=0.6, top_p=0.95, top_k=50)
    assert asked == wire.Sampling(0, 0.5, 3, 0.1, 1.1, 1, -1, 7)
    assert off.top_k == 0


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, 0),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 10**30}, 4096),
    ],
)
def test_max_tokens(api: Stand, fields: dict[str, int], most: int) -> None:
    ask(api, **fields)
    assert api.engine.requests[0].max_tokens == most


def test_stop_and_ignore_eos(api: Stand) -> None:
    ask(api, stop="a", extra_body={"ignore_eos": True})
    ask(api, stop=["a", "b"])
    ask(api, stop=None)
    assert [(r.stop, r.ignore_eos) for r in api.engine.requests] == [(("a",), True), (("a", "b"), False), ((), False)]


def test_content_parts_and_developer_messages(api: Stand) -> None:
    parts = [{"type": "text", "text": "Why"}, {"type": "text", "text": "?"}]
    ask(api, messages=[{"role": "developer", "content": "Be."}, {"role": "user", "content": parts}])
    assert [text for own, text in api.engine.requests[0].prompt if not own] == ["Be.", "Why?"]


def test_an_earlier_thought_is_not_repeated(api: Stand) -> None:
    earlier = {"role": "assistant", "content": "<think>SECRET</think>\n\nSo.", "reasoning_content": "SECRET", "refusal": None}
    ask(api, messages=[*QUESTION, earlier, *QUESTION])
    assert [text for own, text in api.engine.requests[0].prompt if not own] == ["Why?", "So.", "Why?"]


# --- models ---


def test_models(api: Stand) -> None:
    speaker = client(api)
    model, _ = speaker.models.list().data
    assert (model.id, model.object, model.owned_by, model.created) == ("scripted", "model", "cloister", 1795503600)
    assert model.context_length == 4096
    assert speaker.models.retrieve("scripted").id == "scripted" == speaker.models.retrieve("some/scripted").id
    with pytest.raises(openai.NotFoundError) as error:
        speaker.models.retrieve("gpt-4")
    assert error.value.code == "model_not_found"


@pytest.mark.parametrize("name", ["scripted", "Scripted Model", "some/scripted", "default", "", None])
def test_the_loaded_model_has_several_names(api: Stand, name: str | None) -> None:
    body = {"messages": QUESTION} | ({"model": name} if name is not None else {})
    assert post(api, body).json()["model"] == "scripted"


def test_another_model_is_not_here(api: Stand) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        ask(api, model="gpt-4")
    assert error.value.code == "model_not_found" and error.value.param == "model" and "'scripted'" in str(error.value)
    assert api.engine.requests == []


# --- errors ---


@pytest.mark.parametrize(
    ("step", "kind", "status", "code"),
    [
        (
            failed("context_length_exceeded", "the prompt has 5000 tokens, but the context holds 4096"),
            openai.BadRequestError,
            400,
            "context_length_exceeded",
        ),
        (failed("invalid"), openai.BadRequestError, 400, None),
        (failed("overloaded"), openai.RateLimitError, 429, "overloaded"),
        (failed("shutdown"), openai.InternalServerError, 503, "unavailable"),
        (failed("internal"), openai.InternalServerError, 500, "engine_failed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals_of_the_engine(
    api: Stand, step: Any, kind: type[openai.APIStatusError], status: int, code: str | None, stream: bool
) -> None:
    """As HTTP errors, of streams too: nothing has been sent yet."""
    api.engine.play(step)
    with pytest.raises(kind) as error:
        ask(api, stream=stream)
    assert error.value.status_code == status and error.value.code == code
    assert ("retry-after" in error.value.response.headers) == (status in (429, 503))
    if code == "context_length_exceeded":
        assert "5000" in error.value.message and "4096" in error.value.message and error.value.param == "messages"


def test_a_failure_in_mid_answer(api: Stand) -> None:
    api.engine.play(accepted(), text("so far"), failed("internal", "went wrong"))
    with pytest.raises(openai.InternalServerError) as error:
        ask(api)
    assert error.value.code == "engine_failed"
    with pytest.raises(openai.APIError) as broken:
        list(ask(api, stream=True))
    assert "went wrong" in str(broken.value)
    last = events(api)[-1]
    assert json.loads(last[6:]) == {"error": {"message": "went wrong", "type": "server_error", "param": None, "code": "engine_failed"}}


def test_the_engine_dies_in_mid_stream_and_comes_back(api: Stand) -> None:
    api.engine.play(accepted(), text("so far"), 0.05, die)
    raw = events(api)
    assert "so far" in raw[1] and json.loads(raw[-1][6:])["error"]["code"] == "engine_failed"
    until(lambda: api.app.state.appliance.state() == "ready")
    with pytest.raises(openai.InternalServerError) as error:
        ask(api)
    assert error.value.status_code == 500 and error.value.code == "engine_failed"
    until(lambda: api.app.state.appliance.state() == "ready")
    api.engine.answer("back")
    assert ask(api).choices[0].message.content == "back"


def test_without_an_engine_it_is_503_with_retry_after(api: Stand) -> None:
    api.engine_down()
    try:
        with pytest.raises(openai.InternalServerError) as error:
            ask(api)
        assert error.value.status_code == 503 and error.value.code == "unavailable"
        assert int(error.value.response.headers["retry-after"]) >= 1
        with pytest.raises(openai.InternalServerError):
            client(api).models.list()
        began = time.monotonic()
        api.engine_up()
        assert time.monotonic() - began < 5
        assert ask(api).choices[0].message.content == "Hello there"
    finally:
        api.restart()


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"functions": [{}]},
        {"function_call": "auto"},
        {"modalities": ["audio"]},
        {"audio": {}},
        {"prediction": {}},
        {"web_search_options": {}},
        {"verbosity": "low"},
        {"store": True},
    ],
)
def test_known_but_unsupported_fields_are_refused_by_name(api: Stand, fields: dict[str, Any]) -> None:
    name = next(iter(fields))
    error = post(api, {"messages": QUESTION, **fields})
    assert error.status_code == 400 and error.json()["error"]["param"] == name
    assert error.json()["error"]["code"] == "unsupported_parameter" and name in error.json()["error"]["message"]
    assert api.engine.requests == []


def test_their_values_that_change_nothing_are_fine(api: Stand) -> None:
    idle = {
        "tools": [],
        "tool_choice": "none",
        "logprobs": False,
        "logit_bias": {},
        "response_format": {"type": "text"},
        "n": 1,
        "store": False,
    }
    response = post(api, {"messages": QUESTION, **idle, "user": "me", "metadata": {"a": "b"}, "service_tier": "auto"})
    assert response.status_code == 200 and "x-cloister-ignored" not in response.headers


def test_unknown_fields_are_ignored_and_named_in_a_header(api: Stand) -> None:
    assert post(api, {"messages": QUESTION, "zebra": 1, "ant": 2}).headers["x-cloister-ignored"] == "ant, zebra"
    with httpx.stream("POST", f"{api.url}/v1/chat/completions", json={"messages": QUESTION, "stream": True, "ant": 2}) as response:
        assert response.headers["x-cloister-ignored"] == "ant"


def test_odd_names_of_unknown_fields_harm_nothing(api: Stand) -> None:
    names = ["a\r\nSet-Cookie: x=1", "鸡", "", "\0", "x" * 100_000, *[f"field {n}" for n in range(5000)]]
    response = post(api, {"messages": QUESTION, **dict.fromkeys(names, 1)})
    assert response.status_code == 200 and "set-cookie" not in response.headers
    assert len(response.headers["x-cloister-ignored"]) < 4000


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "Why?"}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}, "messages.0.tool_calls.0.function"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"stop": ""}, "stop.0"),
        ({"stop": ["a", ""]}, "stop.1"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"seed": 2**64}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"stream": "perhaps"}, "stream"),
    ],
)
def test_wrong_fields_are_refused_by_name(api: Stand, fields: dict[str, Any], param: str) -> None:
    response = post(api, {"messages": QUESTION, **fields})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error" and error["message"]
    assert error["param"] == param, error
    assert api.engine.requests == []


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(api: Stand, name: str, value: str) -> None:
    """They are no JSON, but Python's parser takes them."""
    body = f'{{"messages": [{{"role": "user", "content": "Why?"}}], "{name}": {value}}}'
    response = httpx.post(f"{api.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400 and response.json()["error"]["param"] == name
    assert api.engine.requests == []


HALF = "\ud83d"  # of a surrogate pair


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"messages": [{"role": "user", "content": HALF}]}, 400),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]}, 400),
        ({"messages": [{"role": HALF, "content": "x"}]}, 400),
        ({"messages": [{"role": "user", "content": "x", "name": HALF}]}, 200),
        ({"stop": HALF}, 400),
        ({"stop": ["a", HALF]}, 400),
        ({"model": HALF}, 404),
        ({"temperature": HALF}, 400),
        ({"tools": HALF}, 400),
        ({"user": HALF}, 400),
        ({"unknown": HALF}, 200),
        ({HALF: 1}, 400),
    ],
)
def test_half_of_a_surrogate_pair(api: Stand, fields: dict[str, Any], status: int) -> None:
    """Valid JSON, but no text: refused where it would count, and nothing breaks for the others."""
    body = json.dumps({"messages": QUESTION, **fields})
    response = httpx.post(f"{api.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    assert ask(api).choices[0].message.content == "Hello there"
    until(lambda: not api.app.state.appliance.engine._answers)


def test_a_base_model_can_not_chat(api: Stand) -> None:
    try:
        api.prepare(template=None)
        api.restart()
        with pytest.raises(openai.InternalServerError) as error:
            ask(api)
        assert error.value.code == "template_error" and "no chat template" in str(error.value)
    finally:
        api.prepare()
        api.restart()


def test_a_conversation_that_the_template_refuses(api: Stand) -> None:
    try:
        api.prepare(template="{{ raise_exception('no system messages') if messages[0].role == 'system' }}" + PLAIN_TEMPLATE)
        api.restart()
        with pytest.raises(openai.BadRequestError) as error:
            ask(api, messages=[{"role": "system", "content": "Be."}])
        assert "no system messages" in str(error.value) and error.value.param == "messages"
        assert ask(api).choices[0].message.content
    finally:
        api.prepare()
        api.restart()


def test_nothing_is_left_of_any_request(api: Stand) -> None:
    """After all that, no mailbox of an answer stays behind."""
    until(lambda: not api.app.state.appliance.engine._answers)


# --- hanging up ---


def hang_up(api: Stand, stream: bool, ready: Callable[[], bool], **fields: Any) -> float:
    """Send a request over a plain socket, hang up when `ready`; seconds until the engine was told."""
    body = json.dumps({"messages": QUESTION, "stream": stream, **fields}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", api.port)) as connection:
        connection.sendall(head.encode() + body)
        until(ready)
    began = time.monotonic()
    until(lambda: api.engine.cancelled)
    return next(iter(api.engine.cancelled.values())) - began


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("silent", [False, True])
def test_a_client_that_hangs_up_is_cancelled_within_250_ms(api: Stand, stream: bool, silent: bool) -> None:
    """In the middle of the text, and while nothing comes."""
    api.engine.play(accepted(), *([hold] if silent else [text("x"), 0.01] * 2000))
    times = []
    for _ in range(3):
        api.engine.requests.clear()
        api.engine.cancelled.clear()
        times.append(hang_up(api, stream, lambda: bool(api.engine.requests)))
        until(lambda: not api.engine.open)
    print("cancelled after", ", ".join(f"{1000 * t:.0f} ms" for t in times))
    assert min(times) < 0.25
    until(lambda: not api.app.state.appliance.engine._answers)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_before_its_request_is_accepted(api: Stand, stream: bool) -> None:
    api.engine.play(0.3, accepted(), hold)
    hang_up(api, stream, lambda: bool(api.engine.requests))
    until(lambda: not api.engine.open)
    until(lambda: not api.app.state.appliance.engine._answers)


def test_a_finished_answer_is_not_cancelled(api: Stand) -> None:
    ask(api)
    list(ask(api, stream=True))
    until(lambda: not api.engine.open)
    assert api.engine.cancelled == {}


# --- silence ---


def test_a_silent_stream_says_that_it_is_alive(api: Stand) -> None:
    api.engine.play(accepted(), 5.6, tag("</think>"), text("at last"), finished())
    raw = events(api)
    assert raw.count(": still working") == 1
    assert "at last" in raw[2]
    assert raw[-1] == "data: [DONE]"


def test_alive_comes_again_and_again_but_never_between_events() -> None:
    answered: list[str] = []

    async def scene() -> list[object]:
        async def on_hello(_: wire.Hello) -> None:
            raise AssertionError("nobody connects")

        answer = Answer(EngineClient(Path("unused"), on_hello), "r")
        splitter = ReasoningSplitter(in_thought=False, by_token=True)
        completion = Completion(answer, splitter, lambda text, calls: answered.append(text))

        found: list[object] = []
        async for event in completion.events(0.02):
            found.append(event)
            if len(found) == 2:  # the engine wakes up
                for word in "abc":
                    answer.put(wire.Delta("r", word, False, 1))
                answer.put(wire.Finished("r", "stop", 1, 0, 3, 0, 0, 0, 0))
        return found

    found = asyncio.run(scene())
    assert [type(event) for event in found] == [Alive, Alive, Piece, Piece, Piece, Closing] and answered == ["abc"]


def test_a_call_that_is_told_at_its_end_only_is_no_silence_before() -> None:
    async def scene() -> list[object]:
        async def on_hello(_: wire.Hello) -> None:
            raise AssertionError("nobody connects")

        answer = Answer(EngineClient(Path("unused"), on_hello), "r")
        reader = CallReader(TAGGED, {"weather"})
        completion = Completion(answer, ReasoningSplitter(in_thought=False, by_token=True), lambda text, calls: None, reader)

        async def engine() -> None:
            answer.put(wire.Delta("r", '<tool_call>{"name": "weather", "arguments": {"city": "', False, 1))
            for _ in range(30):
                await asyncio.sleep(0.01)
                answer.put(wire.Delta("r", "x", False, 1))
            answer.put(wire.Delta("r", '"}}</tool_call>', False, 1))
            answer.put(wire.Finished("r", "stop", 1, 0, 3, 0, 0, 0, 0))

        task = asyncio.create_task(engine())
        found = [event async for event in completion.events(0.05)]
        await task
        return found

    found = asyncio.run(scene())
    alive = [isinstance(event, Alive) for event in found]
    assert sum(alive) >= 2 and alive == sorted(alive, reverse=True)
    assert [type(event) for event in found if not isinstance(event, Alive)] == [Call, Call, Closing]


def test_an_engine_that_accepts_nothing_is_an_error() -> None:
    """After a minute in the real one; here the wait itself."""

    async def scene() -> None:
        async def on_hello(_: wire.Hello) -> None:
            raise AssertionError("nobody connects")

        answer = Answer(EngineClient(Path("unused"), on_hello), "r")
        assert await answer.event(0.05) is None
        answer.put(wire.Failed("r", "internal", "broken"))
        with pytest.raises(ApiError, match="broken"):
            await answer.event(0.05)

    asyncio.run(scene())
