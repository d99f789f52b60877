"""Anthropic's dialect as Anthropic's own client speaks it, over real HTTP, with an engine that plays a script."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pydantic
import pytest

from services.api import anthropic as dialect
from services.api.completion import Alive
from services.api.reasoning import Piece
from services.shared import wire
from tests.api.dialects import CALLED, SCHEMA, THOUGHT, TWO_CALLS, back, dying, prompt, refusals
from tests.api.scripted import Stand, accepted, finished, prefill, queued, tag, text

QUESTION: list[Any] = [{"role": "user", "content": "Why?"}]
THINK: Any = {"type": "enabled", "budget_tokens": 1024}
WEATHER: Any = {"name": "weather", "description": "How it is outside", "input_schema": SCHEMA}


@functools.cache
def client(api: Stand) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=api.url, api_key="none", max_retries=0, timeout=30)


def ask(api: Stand, **fields: Any) -> Any:
    return client(api).messages.create(**{"model": "scripted", "max_tokens": 100, "messages": QUESTION, **fields})


def post(api: Stand, **fields: Any) -> httpx.Response:
    return httpx.post(f"{api.url}/v1/messages", json={"model": "scripted", "max_tokens": 100, "messages": QUESTION, **fields}, timeout=30)


def events(api: Stand, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    """The raw events of a streamed answer: their names and their data."""
    told = []
    for event in post(api, stream=True, **fields).text.split("\n\n"):
        if event and not event.startswith(":"):  # a comment says that it goes on
            name, data = event.split("\n")
            told.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return told


# --- answers ---


def test_a_message(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    done = ask(api, thinking=THINK)
    assert done.type == "message" and done.role == "assistant" and done.id.startswith("msg_") and done.model == "scripted"
    thought, answer = done.content
    assert thought.type == "thinking" and thought.thinking == "hmmm" and thought.signature
    assert answer.type == "text" and answer.text == "Because."
    assert done.stop_reason == "end_turn" and done.stop_sequence is None
    assert (done.usage.input_tokens, done.usage.cache_read_input_tokens, done.usage.output_tokens) == (5, 2, 5)
    assert done.usage.output_tokens_details.thinking_tokens == 3
    assert api.engine.requests[-1].max_tokens == 100


def test_a_stream(api: Stand) -> None:
    api.engine.play(accepted(), queued(1), prefill(7, 7, 2), *THOUGHT[1:])
    told = events(api, thinking=THINK)
    assert [name for name, _ in told] == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_delta"),
        *("content_block_stop", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    for name, data in told:
        assert data["type"] == name
        pydantic.TypeAdapter(anthropic.types.RawMessageStreamEvent).validate_python(data)
    usage = told[0][1]["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (5, 2)
    assert [data["delta"]["type"] for _, data in told[2:5]] == ["thinking_delta", "thinking_delta", "signature_delta"]
    assert told[-2][1]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_the_clients_streaming_helper(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    with client(api).messages.stream(model="scripted", max_tokens=100, messages=QUESTION, thinking=THINK) as stream:
        said = list(stream.text_stream)
        done = stream.get_final_message()
    assert said == ["Be", "cause."] and [block.type for block in done.content] == ["thinking", "text"]
    assert done.usage.output_tokens == 5 and done.usage.input_tokens == 5 and done.stop_reason == "end_turn"


def test_the_async_client(api: Stand) -> None:
    async def scene() -> tuple[Any, Any]:
        api.engine.play(*THOUGHT)
        async with anthropic.AsyncAnthropic(base_url=api.url, api_key="none", max_retries=0, timeout=30) as home:
            done = await home.messages.create(model="scripted", max_tokens=100, messages=QUESTION, thinking=THINK)
            async with home.messages.stream(model="scripted", max_tokens=100, messages=QUESTION, thinking=THINK) as stream:
                return done, await stream.get_final_message()

    whole, streamed = asyncio.run(scene())
    assert [block.type for block in streamed.content] == ["thinking", "text"] and streamed.content[1].text == whole.content[1].text
    assert whole.usage == streamed.usage


def test_a_thought_that_nobody_asked_for_is_thought_but_not_sent(api: Stand) -> None:
    """As Anthropic has it: who does not name `thinking` reads content[0].text."""
    api.engine.play(*THOUGHT)
    done = ask(api)
    assert [block.type for block in done.content] == ["text"] and done.content[0].text == "Because."
    assert done.usage.output_tokens == 5 and done.usage.output_tokens_details.thinking_tokens == 3
    assert api.engine.requests[-1].thought_limit is None and prompt(api).endswith("<think>\n")
    told = events(api)
    assert [name for name, _ in told] == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert told[1][1]["index"] == 0 and "hm" not in str(told) and told[-2][1]["usage"]["output_tokens"] == 5


def test_where_the_thought_took_all_tokens_the_first_block_is_an_empty_text(api: Stand) -> None:
    api.engine.play(accepted(), text("hmmm"), finished("length", generated_tokens=100))
    done = ask(api)
    assert [block.text for block in done.content] == [""] and done.stop_reason == "max_tokens"
    with client(api).messages.stream(model="scripted", max_tokens=100, messages=QUESTION) as stream:
        assert [block.text for block in stream.get_final_message().content] == [""]  # type: ignore[union-attr]
    assert [block.type for block in ask(api, thinking=THINK).content] == ["thinking"]


class Slow:
    """A completion that has nothing to say for a while, or nothing that is shown."""

    async def events(self) -> AsyncIterator[Any]:
        for event in (wire.Queued("r", 1), Alive(), wire.Prefill("r", 7, 7, 0), Alive(), Piece("thinking", "Hm"), Piece("answer", "Hi")):
            yield event


@pytest.mark.parametrize(
    ("shown", "thought"),
    [
        ("nothing", ["ping"]),
        ("place", ["content_block_start", "content_block_delta", "content_block_stop"]),
        ("thought", ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]),
    ],
)
def test_a_silent_stream_pings(shown: Any, thought: list[str]) -> None:
    async def told() -> list[str]:
        stream = dialect.events(Slow(), dialect.Reply("scripted", 5, shown), silence=0)  # type: ignore[arg-type]
        return [event.decode().split("\n")[0].removeprefix("event: ") async for event in stream]

    comment = ": still working"
    assert asyncio.run(told()) == [
        *(comment, "message_start", "ping", comment, "ping"),
        *(*thought, "content_block_start", "content_block_delta"),
    ]


def test_a_thought_that_is_not_shown_pings_only_after_a_while(api: Stand) -> None:
    api.engine.play(accepted(), text(*"thinking"), tag("</think>"), text("Hi"), finished())
    assert "ping" not in [name for name, _ in events(api)]


def test_what_ends_an_answer(api: Stand) -> None:
    for step, reason, sequence in (
        (finished(stop="END"), "stop_sequence", "END"),
        (finished("length", generated_tokens=100), "max_tokens", None),
        (finished("length", generated_tokens=50), "model_context_window_exceeded", None),
        (finished("deadline", generated_tokens=50), "max_tokens", None),
    ):
        api.engine.play(accepted(), tag("</think>"), text("so"), step)
        done = ask(api, stop_sequences=["END"])
        assert (done.stop_reason, done.stop_sequence) == (reason, sequence)
    assert api.engine.requests[-1].stop == ("END",)


# --- what is asked ---


def test_system_and_blocks_reach_the_prompt(api: Stand) -> None:
    blocks = [{"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Two."}]
    history = [
        {"role": "user", "content": blocks},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "secret", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Yes."},
            ],
        },
        {"role": "user", "content": "A"},
        {"role": "user", "content": "B"},
    ]
    response = post(api, system=blocks, messages=history)
    assert response.status_code == 200 and "x-cloister-ignored" not in response.headers
    assert prompt(api) == (
        "<｜begin▁of▁sentence｜>One.\n\nTwo.<｜User｜>One.\n\nTwo.<｜Assistant｜>Yes.<｜end▁of▁sentence｜><｜User｜>A\n\nB<｜Assistant｜><think>\n"
    )
    ask(api, system="Be brief.", messages=[*QUESTION, {"role": "system", "content": "Now."}, *QUESTION])
    assert [said for own, said in api.engine.requests[-1].prompt if not own] == ["Be brief.", "Why?", "Now.", "Why?"]


def test_an_answer_can_be_sent_back_as_it_came(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    done = ask(api, thinking=THINK)
    assert len(done.content) == 2
    ask(api, messages=[*QUESTION, {"role": "assistant", "content": done.content}, {"role": "user", "content": "Really?"}])
    assert [said for own, said in api.engine.requests[-1].prompt if not own] == ["Why?", "Because.", "Really?"]


def test_thinking(tooled: Stand) -> None:
    ask(tooled, thinking={"type": "disabled"})
    assert tooled.engine.requests[-1].thought_limit == 0 and prompt(tooled).endswith("<think>\n\n</think>\n\n")
    ask(tooled, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000)
    assert tooled.engine.requests[-1].thought_limit == 1024 and prompt(tooled).endswith("assistant\n")
    ask(tooled, thinking={"type": "adaptive"})
    assert tooled.engine.requests[-1].thought_limit is None
    ask(tooled, thinking={"type": "adaptive"}, output_config={"effort": "low"})
    assert tooled.engine.requests[-1].thought_limit is not None


def test_a_thought_that_shall_not_be_shown(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    hidden: Any = {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}
    thought, answer = ask(api, thinking=hidden).content
    assert thought.thinking == "" and thought.signature and answer.text == "Because."
    assert "hm" not in str(events(api, thinking=hidden))


def test_users_and_sampling_reach_the_engine(api: Stand) -> None:
    ask(api, metadata={"user_id": "me"}, extra_body={"temperature": 0.2, "top_k": 4, "top_p": 0.7})
    ask(api, metadata={"user_id": "you"})
    first, second = api.engine.requests
    assert (first.sampling.temperature, first.sampling.top_k, first.sampling.top_p) == (0.2, 4, 0.7)
    assert first.user != second.user and "me" not in first.user


def test_parse_with_a_pydantic_schema(api: Stand) -> None:
    class Place(pydantic.BaseModel):
        city: str

    api.engine.play(accepted(), tag("</think>"), text('{"city": "Köln"}'), finished())
    done = client(api).messages.parse(model="scripted", max_tokens=100, messages=QUESTION, output_format=Place)
    assert done.parsed_output == Place(city="Köln")
    sent = json.loads(api.engine.requests[-1].sampling.json_schema or "")
    assert sent["properties"]["city"]["type"] == "string" and sent["required"] == ["city"]


def test_count_tokens(api: Stand) -> None:
    count = client(api).messages.count_tokens(model="scripted", messages=QUESTION, system="Be brief.")
    assert count.input_tokens == len("<｜begin▁of▁sentence｜>Be brief.<｜User｜>Why?<｜Assistant｜><think>\n")
    assert not api.engine.requests


# --- tools ---


def test_a_tool_is_called_and_answers(tooled: Stand) -> None:
    tooled.engine.play(*CALLED)
    done = ask(tooled, tools=[WEATHER], tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    said, call = done.content
    assert said.text == "I look." and call.type == "tool_use" and call.name == "weather" and call.input == {"city": "Köln"}
    assert done.stop_reason == "tool_use" and '"description": "How it is outside"' in prompt(tooled)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "rain"}], "is_error": False}
    turns = [{"role": "assistant", "content": done.content}, {"role": "user", "content": [result, {"type": "text", "text": "And?"}]}]
    ask(tooled, tools=[WEATHER], messages=[*QUESTION, *turns])
    assert (
        'I look.<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call><|im_end|>\n<|im_start|>tool\nrain<|im_end|>\n'
        "<|im_start|>user\nAnd?<|im_end|>"
    ) in prompt(tooled)


def test_calls_are_streamed(tooled: Stand) -> None:
    tooled.engine.play(*TWO_CALLS)
    with client(tooled).messages.stream(model="scripted", max_tokens=100, messages=QUESTION, tools=[WEATHER]) as stream:
        done = stream.get_final_message()
    assert [(block.type, block.input) for block in done.content] == [("tool_use", {"city": "Köln"})] * 2  # type: ignore[union-attr]
    assert done.stop_reason == "tool_use" and len({block.id for block in done.content}) == 2  # type: ignore[union-attr]
    for _, data in events(tooled, tools=[WEATHER]):
        pydantic.TypeAdapter(anthropic.types.RawMessageStreamEvent).validate_python(data)


@pytest.mark.parametrize(
    ("choice", "forced"), [({"type": "any"}, True), ({"type": "tool", "name": "weather"}, True), ({"type": "none"}, False)]
)
def test_tool_choice(tooled: Stand, choice: Any, forced: bool) -> None:
    ask(tooled, tools=[WEATHER], tool_choice=choice)
    assert (tooled.engine.requests[-1].sampling.json_schema is not None) == forced
    assert ("Tools:" in prompt(tooled)) == forced


# --- what is refused ---


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "'image'"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, "'document'"),
        ({"messages": [*QUESTION, {"role": "assistant", "content": "It is"}]}, "prefill"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"mcp_servers": [{"url": "http://127.0.0.1"}]}, "mcp_servers"),
        ({"container": "box"}, "container"),
        ({"speed": "fast"}, "speed"),
    ],
)
def test_a_known_field_that_is_not_served_is_refused_by_name(tooled: Stand, more: dict[str, Any], named: str) -> None:
    response = post(tooled, **more)
    told = response.json()
    assert response.status_code == 400 and told["type"] == "error" and told["error"]["type"] == "invalid_request_error"
    assert named in told["error"]["message"]


def test_what_changes_nothing_is_accepted_and_what_nobody_knows_is_listed(api: Stand) -> None:
    accepted_fields = {"service_tier": "auto", "cache_control": {"type": "ephemeral"}, "speed": "standard", "container": None}
    assert "x-cloister-ignored" not in post(api, **accepted_fields).headers
    assert post(api, colour=1).headers["x-cloister-ignored"] == "colour"


# --- errors ---


def test_errors_have_anthropics_form(api: Stand) -> None:
    found = refusals(api, "/v1/messages", {"model": "scripted", "max_tokens": 100, "messages": QUESTION})
    told = {name: (response.status_code, response.json()["error"]["type"]) for name, response in found.items()}
    assert told == {
        "model": (404, "not_found_error"),
        "context": (400, "invalid_request_error"),
        "overloaded": (429, "rate_limit_error"),
        "internal": (500, "api_error"),
    }
    assert found["overloaded"].headers["retry-after"] == "7" and "5000 tokens" in found["context"].json()["error"]["message"]
    with pytest.raises(anthropic.NotFoundError, match="gpt-5"):
        ask(api, model="gpt-5")
    with pytest.raises(anthropic.NotFoundError):
        client(api).messages.count_tokens(model="gpt-5", messages=QUESTION)


def test_the_engine_dies_in_mid_stream(api: Stand) -> None:
    dying(api)
    said = []
    with pytest.raises(anthropic.APIError, match="restarted"), ask_stream(api) as stream:
        for word in stream.text_stream:
            said.append(word)
    assert said == ["so far"]
    back(api)
    dying(api)
    name, data = events(api)[-1]
    assert name == "error" and data["error"]["type"] == "api_error"
    back(api)


def ask_stream(api: Stand) -> Any:
    return client(api).messages.stream(model="scripted", max_tokens=100, messages=QUESTION)
