"""OpenAI's responses as OpenAI's own client speaks them, over real HTTP, with an engine that plays a script."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import Any

import httpx
import openai
import pydantic
import pytest
from openai.types import responses as types

from tests.api.dialects import CALLED, SCHEMA, THOUGHT, TWO_CALLS, back, dying, prompt, refusals, scored
from tests.api.scripted import Stand, accepted, finished, tag, text

WEATHER: Any = {"type": "function", "name": "weather", "description": "How it is outside", "parameters": SCHEMA, "strict": True}


@functools.cache
def client(api: Stand) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0, timeout=30)


def ask(api: Stand, **fields: Any) -> Any:
    return client(api).responses.create(**{"model": "scripted", "input": "Why?", **fields})


def post(api: Stand, **fields: Any) -> httpx.Response:
    return httpx.post(f"{api.url}/v1/responses", json={"model": "scripted", "input": "Why?", **fields}, timeout=30)


def events(api: Stand, **fields: Any) -> list[dict[str, Any]]:
    """The raw events of a streamed answer, each checked against the client's type of it."""
    told = []
    for event in post(api, stream=True, **fields).text.split("\n\n"):
        if event and not event.startswith(":"):
            name, data = event.split("\n")
            told.append(json.loads(data.removeprefix("data: ")))
            assert told[-1]["type"] == name.removeprefix("event: ")
    for entry in told:
        pydantic.TypeAdapter(types.ResponseStreamEvent).validate_python(entry)
    assert [entry["sequence_number"] for entry in told] == list(range(len(told)))
    return told


# --- answers ---


def test_a_response(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    done = ask(api)
    assert done.object == "response" and done.id.startswith("resp_") and done.model == "scripted" and done.status == "completed"
    assert abs(done.created_at - time.time()) < 60
    thought, message = done.output
    assert thought.type == "reasoning" and thought.content[0].text == "hmmm" and thought.summary == []
    assert message.type == "message" and message.role == "assistant" and done.output_text == "Because."
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (7, 5, 12)
    assert done.usage.input_tokens_details.cached_tokens == 2 and done.usage.output_tokens_details.reasoning_tokens == 3
    types.Response.model_validate(done.to_dict())


def test_a_stream(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    told = events(api)
    assert [entry["type"].removeprefix("response.") for entry in told] == [
        *("created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert [entry["delta"] for entry in told if entry["type"] == "response.output_text.delta"] == ["Be", "cause."]
    assert [item["type"] for item in told[-1]["response"]["output"]] == ["reasoning", "message"]
    assert {entry["item_id"] for entry in told if "item_id" in entry} == {item["id"] for item in told[-1]["response"]["output"]}


def test_the_clients_streaming_helper(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    with client(api).responses.stream(model="scripted", input="Why?") as stream:
        said = [event.delta for event in stream if event.type == "response.output_text.delta"]
        done = stream.get_final_response()
    assert said == ["Be", "cause."] and done.output_text == "Because." and done.status == "completed"


def test_a_thought_as_its_summary(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    thought = ask(api, reasoning={"summary": "auto"}).output[0]
    assert thought.summary[0].text == "hmmm" and thought.content is None
    told = events(api, reasoning={"summary": "detailed"})
    assert [entry["delta"] for entry in told if entry["type"] == "response.reasoning_summary_text.delta"] == ["hm", "mm"]
    assert "response.reasoning_summary_part.done" in {entry["type"] for entry in told}


def test_the_async_client(api: Stand) -> None:
    async def scene() -> tuple[str, str]:
        api.engine.play(*THOUGHT)
        async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0, timeout=30) as home:
            done = await home.responses.create(model="scripted", input="Why?")
            async with home.responses.stream(model="scripted", input="Why?") as stream:
                return done.output_text, (await stream.get_final_response()).output_text

    assert asyncio.run(scene()) == ("Because.", "Because.")


def test_an_answer_that_is_cut_says_so(api: Stand) -> None:
    api.engine.play(accepted(), text("endless"), finished("length"))
    done = ask(api, max_output_tokens=50)
    assert done.status == "incomplete" and done.incomplete_details.reason == "max_output_tokens"
    assert api.engine.requests[-1].max_tokens == 50 and done.output[0].status == "incomplete"
    last = events(api)[-1]
    assert last["type"] == "response.incomplete" and last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_parse_with_a_pydantic_schema(api: Stand) -> None:
    class Place(pydantic.BaseModel):
        city: str

    api.engine.play(accepted(), tag("</think>"), text('{"city": ', '"Köln"}'), finished())
    assert client(api).responses.parse(model="scripted", input="Where?", text_format=Place).output_parsed == Place(city="Köln")
    sent = json.loads(api.engine.requests[-1].sampling.json_schema or "")
    assert sent["properties"]["city"]["type"] == "string"
    with client(api).responses.stream(model="scripted", input="Where?", text_format=Place) as stream:
        assert stream.get_final_response().output_parsed == Place(city="Köln")
    ask(api, text={"format": {"type": "json_object"}})
    assert json.loads(api.engine.requests[-1].sampling.json_schema or "") == {"type": "object"}


def test_logprobs(api: Stand) -> None:
    api.engine.play(accepted(), tag("</think>"), scored("Hi"), finished())
    done = ask(api, include=["message.output_text.logprobs"], top_logprobs=2)
    (entry,) = done.output[0].content[0].logprobs
    assert (entry.token, entry.logprob, [other.token for other in entry.top_logprobs]) == ("Hi", -0.5, ["Hi", "�"])
    assert api.engine.requests[-1].sampling.logprobs == 2
    assert [entry["logprobs"][0]["token"] for entry in events(api, top_logprobs=2) if entry.get("logprobs")] == ["Hi", "Hi"]


# --- what is asked ---


def test_items_reach_the_prompt(api: Stand) -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "A"}, {"type": "input_text", "text": "B"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "secret"}]},
        {"type": "message", "role": "assistant", "id": "m", "status": "completed", "content": [{"type": "output_text", "text": "C"}]},
        {"role": "user", "content": "D"},
    ]
    ask(api, input=items, instructions="Speak.", metadata={"a": "b"}, user="me")
    assert [said for own, said in api.engine.requests[-1].prompt if not own] == ["Speak.", "Be brief.", "AB", "C", "D"]
    assert api.engine.requests[-1].user


def test_an_answer_can_be_sent_back_as_it_came(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    done = ask(api, store=False)
    ask(api, input=[{"role": "user", "content": "Why?"}, *done.output, {"role": "user", "content": "Really?"}])
    assert [said for own, said in api.engine.requests[-1].prompt if not own] == ["Why?", "Because.", "Really?"]


def test_effort_and_sampling(tooled: Stand) -> None:
    ask(tooled, reasoning={"effort": "none"})
    assert tooled.engine.requests[-1].thought_limit == 0 and prompt(tooled).endswith("<think>\n\n</think>\n\n")
    ask(tooled, reasoning={"effort": "low"}, temperature=0.1, top_p=0.3, extra_body={"top_k": 3, "seed": 4})
    sent = tooled.engine.requests[-1]
    assert sent.thought_limit is not None and sent.thought_limit > 0
    assert (sent.sampling.temperature, sent.sampling.top_p, sent.sampling.top_k, sent.sampling.seed) == (0.1, 0.3, 3, 4)


# --- tools ---


def test_a_tool_is_called_and_answers(tooled: Stand) -> None:
    tooled.engine.play(*CALLED)
    done = ask(tooled, tools=[WEATHER], parallel_tool_calls=False)
    said, call = done.output
    assert said.content[0].text == "I look." and (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city": "Köln"}')
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    ask(tooled, tools=[WEATHER], input=[{"role": "user", "content": "Why?"}, *done.output, result])
    assert (
        'I look.<tool_call>{"name": "weather", "arguments": {"city": "Köln"}}</tool_call><|im_end|>\n<|im_start|>tool\nrain<|im_end|>'
    ) in prompt(tooled)


def test_calls_are_streamed(tooled: Stand) -> None:
    tooled.engine.play(*TWO_CALLS)
    told = events(tooled, tools=[WEATHER])
    assert [entry["arguments"] for entry in told if entry["type"] == "response.function_call_arguments.done"] == ['{"city": "Köln"}'] * 2
    with client(tooled).responses.stream(model="scripted", input="Why?", tools=[WEATHER]) as stream:
        done = stream.get_final_response()
    assert [item.parsed_arguments for item in done.output if item.type == "function_call"] == [{"city": "Köln"}] * 2


@pytest.mark.parametrize(("choice", "forced"), [("required", True), ({"type": "function", "name": "weather"}, True), ("none", False)])
def test_tool_choice(tooled: Stand, choice: Any, forced: bool) -> None:
    ask(tooled, tools=[WEATHER], tool_choice=choice)
    assert (tooled.engine.requests[-1].sampling.json_schema is not None) == forced
    assert ("Tools:" in prompt(tooled)) == forced


# --- what is refused ---


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
        ({"input": [{"type": "computer_call"}]}, "computer_call"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input_image"),
        ({"input": []}, "input"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"reasoning": {"effort": "enormous"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "concise"}}, "reasoning.summary"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_what_is_not_served_is_refused_by_name(tooled: Stand, more: dict[str, Any], named: str) -> None:
    response = post(tooled, **more)
    told = response.json()["error"]
    assert response.status_code == 400 and told["type"] == "invalid_request_error" and named in told["message"]


def test_what_changes_nothing_is_accepted_and_what_nobody_knows_is_listed(api: Stand) -> None:
    idle = {
        "store": False,
        "truncation": "disabled",
        "background": False,
        "service_tier": "auto",
        "include": ["reasoning.encrypted_content"],
    }
    assert "x-cloister-ignored" not in post(api, **idle).headers
    assert post(api, colour=1).headers["x-cloister-ignored"] == "colour"


# --- errors ---


def test_errors(api: Stand) -> None:
    found = refusals(api, "/v1/responses", {"model": "scripted", "input": "Why?"})
    told = {name: (response.status_code, response.json()["error"]["code"]) for name, response in found.items()}
    assert told == {
        "model": (404, "model_not_found"),
        "context": (400, "context_length_exceeded"),
        "overloaded": (429, "overloaded"),
        "internal": (500, "engine_failed"),
    }
    assert found["overloaded"].headers["retry-after"] == "7"


def test_the_engine_dies_in_mid_stream(api: Stand) -> None:
    dying(api)
    last = events(api)[-1]
    assert last["type"] == "response.failed" and last["response"]["status"] == "failed"
    assert last["response"]["error"]["code"] == "server_error" and "restarted" in last["response"]["error"]["message"]
    back(api)
