"""What OpenAI's clients may ask of an answer, and how it reaches the engine and comes back: over real HTTP, with a scripted engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from services.api.completion import Closing
from services.api.conversation import Conversation, Message, Wanted
from services.api.effort import EFFORTS
from services.shared import wire
from tests import templates
from tests.api.scripted import Stand, accepted, failed, finished, hold, stand, tag, text, until
from tests.api.test_openai import QUESTION, THOUGHT, ask, client, events, hang_up, post

# --- several answers ---


def test_several_answers_have_seeds_in_a_row(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    done = ask(api, n=3, seed=2**63 - 1)
    assert [(choice.index, choice.message.content) for choice in done.choices] == [(number, "Because.") for number in range(3)]
    assert [request.sampling.seed for request in api.engine.requests] == [2**63 - 1, 2**63, 2**63 + 1]
    assert len({request.prompt for request in api.engine.requests}) == 1
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (7, 15, 22)
    assert done.usage.completion_tokens_details.reasoning_tokens == 9 and done.timings["tokens_per_second"] == 6.0
    ask(api, n=2)
    assert [request.sampling.seed for request in api.engine.requests[3:]] == [None, None]


def test_several_answers_are_streamed_with_their_index(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    texts, ends = {0: "", 1: ""}, []
    for chunk in ask(api, n=2, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends += [choice.index] if choice.finish_reason == "stop" else []
    assert texts == {0: "Because.", 1: "Because."} and sorted(ends) == [0, 1] and chunk.usage.completion_tokens == 10


def test_when_one_of_several_fails_the_others_end(api: Stand) -> None:
    broken: set[str] = set()

    def last_fails(count: int, code: str) -> Any:
        def step(name: str) -> wire.Message:
            if len(api.engine.requests) < count or name != api.engine.requests[-1].id:
                return wire.Delta(name, "x", False, 1)
            broken.add(name)
            return wire.Failed(name, code, "a reason")

        return step

    def go_on(name: str) -> wire.Message:
        if name in broken:
            raise asyncio.CancelledError  # its script is at its end
        return wire.Delta(name, "y", False, 1)

    def others_are_cancelled(count: int) -> None:
        until(lambda: len(api.engine.cancelled) == count and not api.engine.open)
        api.engine.requests.clear()
        api.engine.cancelled.clear()

    for stream in (False, True):
        api.engine.play(last_fails(2, "overloaded"), go_on, hold)
        assert post(api, {"messages": QUESTION, "n": 3, "stream": stream}).status_code == 429
        others_are_cancelled(1)
    api.engine.play(accepted(), 0.1, last_fails(3, "internal"), go_on, hold)
    assert post(api, {"messages": QUESTION, "n": 3}).status_code == 500
    others_are_cancelled(2)
    assert json.loads(events(api, n=3)[-1][6:])["error"]["code"] == "engine_failed"
    others_are_cancelled(2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_ends_all_of_its_answers(api: Stand, stream: bool) -> None:
    api.engine.play(accepted(), hold)
    hang_up(api, stream, lambda: len(api.engine.requests) == 3, n=3)
    until(lambda: len(api.engine.cancelled) == 3 and not api.engine.open)


# --- logprobs and biases ---


def scored(word: str, logprob: float = -0.5, special: bool = False) -> Any:
    """A delta of one token with its logprob and another token's."""
    return lambda name: wire.Delta(name, word, special, 1, ((word.encode(), logprob, ((b"\xe9", -0.25), (word.encode(), logprob))),))


def test_logprobs_are_those_of_the_answer(api: Stand) -> None:
    thought = [scored("hm"), scored("</think>", special=True), scored("\n\n")]
    api.engine.play(accepted(), *thought, scored("Be", float("-inf")), scored("cause"), scored("."), finished())
    choice = ask(api, logprobs=True, top_logprobs=2).choices[0]
    assert [token.token for token in choice.logprobs.content] == ["Be", "cause", "."] and choice.message.content == "Because."
    first, second, _ = choice.logprobs.content
    assert (first.logprob, second.logprob, second.bytes) == (-9999.0, -0.5, list(b"cause"))
    assert [(top.token, top.logprob, top.bytes) for top in second.top_logprobs] == [
        ("\ufffd", -0.25, [0xE9]),
        ("cause", -0.5, list(b"cause")),
    ]
    chunks = [chunk.choices[0] for chunk in ask(api, logprobs=True, top_logprobs=2, stream=True)]
    streamed = [token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content]
    assert [token.to_dict() for token in streamed] == [token.to_dict() for token in choice.logprobs.content]
    assert [request.sampling.logprobs for request in api.engine.requests] == [2, 2]


def test_logprobs_come_only_when_asked_for(api: Stand) -> None:
    assert ask(api).choices[0].logprobs is None and ask(api, logprobs=False).choices[0].logprobs is None
    ask(api, logprobs=True)
    assert [request.sampling.logprobs for request in api.engine.requests] == [None, None, 0]
    assert post(api, {"messages": QUESTION, "top_logprobs": 3}).json()["error"]["param"] == "top_logprobs"
    assert post(api, {"messages": QUESTION, "top_logprobs": 0}).status_code == 200


def test_biases_are_by_token(api: Stand) -> None:
    ask(api, logit_bias={"5": -100, "77": 2})
    assert api.engine.requests[0].sampling.logit_bias == ((5, -100), (77, 2))
    for bias in ({"a": 1}, {"-1": 1}, {"5": 101}, {"5": "x"}, [5]):
        assert post(api, {"messages": QUESTION, "logit_bias": bias}).json()["error"]["param"].startswith("logit_bias"), bias


# --- what the answer must satisfy ---


class Event(BaseModel):
    name: str
    day: int


def test_a_pydantic_schema_comes_back_as_an_object(api: Stand) -> None:
    api.engine.play(accepted(), tag("</think>"), text('{"name": "fair", ', '"day": 5}'), finished())
    done = client(api).chat.completions.parse(model="scripted", messages=QUESTION, response_format=Event)
    assert done.choices[0].message.parsed == Event(name="fair", day=5)
    schema = json.loads(api.engine.requests[0].sampling.json_schema or "")
    assert schema["properties"].keys() == {"name", "day"} and schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["é"]}, "strict": True}}, {"enum": ["é"]}),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1]}, "strict": False}}, {"enum": [1]}),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, {}),
    ],
)
def test_response_formats(api: Stand, form: Any, schema: Any) -> None:
    assert post(api, {"messages": QUESTION, "response_format": form}).status_code == 200
    found = api.engine.requests[0].sampling.json_schema
    assert (json.loads(found) if found is not None else None) == schema


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": 5}}, "response_format.json_schema.schema"),
        ({"type": "json_object", "schema": {}}, "response_format.schema"),
        ("json", "response_format"),
    ],
)
def test_wrong_response_formats(api: Stand, form: Any, param: str) -> None:
    response = post(api, {"messages": QUESTION, "response_format": form})
    assert response.status_code == 400 and response.json()["error"]["param"] == param


def test_a_grammar(api: Stand) -> None:
    ask(api, extra_body={"grammar": 'root ::= "x"'})
    assert api.engine.requests[0].sampling.grammar == 'root ::= "x"'
    assert post(api, {"messages": QUESTION, "grammar": ""}).json()["error"]["param"] == "grammar"


# --- thinking ---


@pytest.fixture(scope="module")
def switched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The model has a template with a switch for thoughts."""
    with stand(tmp_path_factory.mktemp("switched"), engine=False) as standing:
        standing.prepare(template=templates.QWEN3_TOOLS)
        standing.engine_up()
        standing.engine.answer("Hello")
        yield standing


OFF: list[dict[str, Any]] = [
    {"enable_thinking": False},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"chat_template_kwargs": {"thinking": False}},
    {"thinking_budget": 0},
    {"reasoning_effort": "none"},
    {"enable_thinking": False, "reasoning_effort": "high", "thinking_budget": 50},
]


@pytest.mark.parametrize("fields", OFF)
def test_thinking_off(api: Stand, switched: Stand, fields: dict[str, Any]) -> None:
    """By the template's switch; where there is none, the engine ends the thought at once."""
    switched.engine.requests.clear()
    assert post(switched, {"messages": QUESTION, **fields}).status_code == 200
    (request,) = switched.engine.requests
    assert request.prompt[-1] == (True, "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert (request.in_thought, request.may_think, request.thought_limit) == (False, False, 0)
    assert post(api, {"messages": QUESTION, **fields}).status_code == 200
    assert (api.engine.requests[0].in_thought, api.engine.requests[0].thought_limit) == (True, 0)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"enable_thinking": True}, None),
        ({"enable_thinking": True, "reasoning_effort": "none"}, None),
        ({"thinking_budget": 70}, 70),
        ({"thinking_budget": 70, "reasoning_effort": "low"}, 70),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "low"}, EFFORTS["low"]),
        *[({"reasoning_effort": effort}, EFFORTS[effort]) for effort in ("minimal", "low", "medium", "high", "xhigh")],
    ],
)
def test_how_much_to_think(api: Stand, switched: Stand, fields: dict[str, Any], limit: int | None) -> None:
    switched.engine.requests.clear()
    for standing in (api, switched):
        assert post(standing, {"messages": QUESTION, **fields}).status_code == 200
        assert standing.engine.requests[0].thought_limit == limit
    assert switched.engine.requests[0].prompt[-1][1].endswith("assistant\n") and switched.engine.requests[0].may_think
    assert api.engine.requests[0].in_thought and not api.engine.requests[0].may_think


def test_other_switches_of_templates_are_refused(api: Stand) -> None:
    assert post(api, {"messages": QUESTION, "chat_template_kwargs": {"x": 1}}).json()["error"]["param"] == "chat_template_kwargs.x"
    assert post(api, {"messages": QUESTION, "reasoning_effort": "huge"}).json()["error"]["param"] == "reasoning_effort"


EARLIER: list[dict[str, Any]] = [
    {"content": "<think>\nSECRET\n</think>\n\nSo."},
    {"content": "SECRET</think>So."},
    {"content": "So.", "reasoning_content": "SECRET", "reasoning": "SECRET", "reasoning_details": [{"text": "SECRET"}]},
    {"content": "So.", "thinking_blocks": [{"type": "thinking", "thinking": "SECRET", "signature": "x"}]},
    {
        "content": [
            {"type": "thinking", "thinking": "SECRET"},
            {"type": "redacted_thinking", "data": "SECRET"},
            {"type": "text", "text": "So."},
        ]
    },
]


@pytest.mark.parametrize("earlier", EARLIER)
def test_earlier_thoughts_are_left_out(api: Stand, switched: Stand, earlier: dict[str, Any]) -> None:
    switched.engine.requests.clear()
    for standing in (api, switched):
        response = post(standing, {"messages": [*QUESTION, {"role": "assistant", **earlier}, *QUESTION]})
        assert response.status_code == 200 and "x-cloister-ignored" not in response.headers
        assert [said for own, said in standing.engine.requests[0].prompt if not own] == ["Why?", "So.", "Why?"]


# --- what nobody knows ---


def test_unknown_fields_of_messages_and_tools_are_named_too(switched: Stand) -> None:
    body = {
        "messages": [{"role": "user", "content": "x", "name": "me", "colour": "red"}],
        "tools": [{"type": "function", "cache": 1, "function": {"name": "f", "speed": 2}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "size": 3}},
    }
    ignored = post(switched, body).headers["x-cloister-ignored"].split(", ")
    assert ignored == [
        "messages.0.colour",
        "messages.0.name",
        "response_format.json_schema.size",
        "tools.0.cache",
        "tools.0.function.speed",
    ]


def test_in_strict_mode_they_are_refused(tmp_path: Path) -> None:
    with stand(tmp_path, API__STRICT="true") as strict:
        strict.engine.answer("Hello")
        response = post(strict, {"messages": QUESTION, "zebra": 1})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "zebra" and response.json()["error"]["code"] == "unknown_parameter"
        assert post(strict, {"messages": [{**QUESTION[0], "mood": 1}]}).json()["error"]["param"] == "messages.0.mood"
        assert post(strict, {"messages": QUESTION, "metadata": {}, "user": "me"}).status_code == 200
        assert strict.engine.requests[0].prompt


# --- without a dialect ---


def told(api: Stand, made: Any) -> list[Any]:
    """The events of a completion of the appliance."""

    async def scene() -> list[Any]:
        completion = await made(api.app.state.appliance)
        try:
            return [event async for event in completion.events()]
        finally:
            completion.close()

    found: list[Any] = api.do(scene())
    return found


def test_a_raw_prompt_is_nobodys_template(api: Stand) -> None:
    """White space counts, only a token opens a thought, and what every prompt begins with stands in front."""
    api.engine.play(accepted(), text("\n the", " end \n"), tag("<think>"), text(" "), finished())
    pieces = told(api, lambda appliance: appliance.complete_text("<think>Once ", Wanted(max_tokens=5)))
    assert [(piece.channel, piece.text) for piece in pieces[:-1]] == [("answer", "\n the"), ("answer", " end \n"), ("thinking", " ")]
    assert api.engine.requests[0].prompt == ((False, "<think>Once "),) and not api.engine.requests[0].in_thought
    hello = api.engine.hello
    try:
        api.engine.hello = wire.Hello(**{**vars(hello), "bos": "<bos>"})
        api.restart()
        told(api, lambda appliance: appliance.complete_text("Once", Wanted()))
        assert api.engine.requests[-1].prompt == ((True, "<bos>"), (False, "Once"))
    finally:
        api.engine.hello = hello
        api.restart()


def test_the_stop_string_that_ended_an_answer_is_told(api: Stand) -> None:
    for stop in ("END", ""):
        api.engine.play(accepted(), tag("</think>"), text("x"), finished(stop=stop))
        *_, last = told(api, lambda appliance: appliance.complete(Conversation((Message("user", "q"),)), Wanted()))
        assert isinstance(last, Closing) and last.stop == stop and last.reason == "stop"


def test_openai_errors_of_the_engine_about_a_wish(api: Stand) -> None:
    api.engine.play(failed("invalid", "json_schema can't be used: unknown keyword"))
    with pytest.raises(openai.BadRequestError, match="json_schema can't be used"):
        ask(api, response_format={"type": "json_object"})
    assert httpx.get(f"{api.url}/v1/models").status_code == 200
