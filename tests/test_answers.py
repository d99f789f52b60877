"""API and engine together, without the rest of the appliance: what a request may ask of an answer holds on real models."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from services.api.conversation import Conversation, Message, Wanted
from tests import checkpoints, templates
from tests.api.scripted import Stand, stand, until
from tests.conftest import ROOT, environment
from tests.engine.process import engine

QUESTION: list[Any] = [{"role": "user", "content": "What is 17 × 6?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Of a city <|im_end|>",
            "parameters": {
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/City"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
                "required": ["city", "days"],
                "additionalProperties": False,
                "$defs": {"City": {"enum": ["Rom", "鸡泽"]}},
            },
        },
    }
    for name in ("weather", "hotels")
]


@pytest.fixture(scope="module")
def demo(demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    yield from standing(tmp_path_factory.mktemp("demo"), demo_volume)


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A random model of Qwen3's kind: knows nothing, so what holds is the engine's work."""
    home = tmp_path_factory.mktemp("qwen3")
    recipe = next(recipe for recipe in checkpoints.RECIPES if recipe.name == "Qwen3-0.6B")
    folder = checkpoints.write(recipe, home)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": templates.QWEN3_TOOLS}))
    command = [sys.executable, "-m", "services.init", "--model", str(folder)]
    subprocess.run(command, cwd=ROOT, env=environment(home / "init", MODEL__QUANT="f16"), check=True, timeout=300)
    yield from standing(home, home / "init/volume")


def standing(home: Path, volume: Path) -> Iterator[Stand]:
    with engine(home, volume, ENGINE__CONTEXT=2048, ENGINE__CELLS=4096, ENGINE__SEQUENCES=4) as process, stand(home, engine=False) as api:
        process.connect().close()
        until(lambda: api.app.state.appliance.state() == "ready")
        yield api


def client(api: Stand) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0, timeout=120)


def ask(api: Stand, **fields: Any) -> Any:
    return client(api).chat.completions.create(**{"model": "default", "messages": QUESTION, "temperature": 0, **fields})


class Product(BaseModel):
    factors: list[int]
    product: int


def test_a_schema_binds_the_answer_and_not_the_thought(demo: Stand) -> None:
    done = client(demo).chat.completions.parse(model="demo", messages=QUESTION, response_format=Product, temperature=0)
    message = done.choices[0].message
    assert isinstance(message.parsed, Product)
    assert message.model_extra and not message.model_extra["reasoning_content"].startswith("{")


def test_json_objects_and_grammars(demo: Stand) -> None:
    begun = ask(demo, response_format={"type": "json_object"}, max_tokens=400).choices[0].message.content
    assert begun.startswith("{")  # this model never finds its end
    assert ask(demo, extra_body={"grammar": 'root ::= "yes" | "no"'}).choices[0].message.content in ("yes", "no")


@pytest.mark.parametrize(
    "fields",
    [
        {"enable_thinking": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"thinking_budget": 0},
        {"reasoning_effort": "none"},
    ],
)
def test_thinking_off(demo: Stand, fields: dict[str, Any]) -> None:
    done = ask(demo, extra_body=fields)
    assert "reasoning_content" not in done.choices[0].message.to_dict() and done.choices[0].message.content
    assert done.usage.completion_tokens_details.reasoning_tokens == 1  # the token that closes it
    assert "reasoning_content" in ask(demo).choices[0].message.to_dict()


def test_old_thoughts_are_left_out_however_they_come_back(demo: Stand) -> None:
    thought = "17 × 6 = 10 × 6 + 7 × 6"
    blocks = [{"type": "thinking", "thinking": thought, "signature": "s"}, {"type": "text", "text": "102"}]
    plain = {"content": "102"}
    ways: dict[str, list[dict[str, Any]]] = {
        "/v1/chat/completions": [plain, {**plain, "reasoning_content": thought}, {"content": f"<think>\n{thought}\n</think>\n\n102"}],
        "/v1/messages": [plain, {"content": blocks}],
        "/api/chat": [plain, {**plain, "thinking": thought}],
    }
    tokens = set()
    for path, answers in ways.items():
        for answer in answers:
            turns = [*QUESTION, {"role": "assistant", **answer}, {"role": "user", "content": "And 3 × 4?"}]
            body = {"model": "demo", "messages": turns, "max_tokens": 1, "options": {"num_predict": 1}, "stream": False}
            done = httpx.post(demo.url + path, json=body, timeout=120).json()
            usage = done.get("usage", done)
            read = sum(usage.get(name, 0) for name in ("prompt_tokens", "input_tokens", "cache_read_input_tokens", "prompt_eval_count"))
            tokens.add(read)
    assert len(tokens) == 1 and min(tokens) > 20, tokens


def test_several_answers(demo: Stand) -> None:
    fields: dict[str, Any] = {"n": 3, "seed": 5, "temperature": 2, "max_tokens": 40, "extra_body": {"top_k": 0, "enable_thinking": False}}
    done = ask(demo, **fields)
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in done.choices}) > 1
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    texts = {0: "", 1: "", 2: ""}
    for chunk in ask(demo, stream=True, stream_options={"include_usage": True}, **fields):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        usage = chunk.usage
    assert len(set(texts.values())) > 1 and all(texts.values()) and usage.prompt_tokens == done.usage.prompt_tokens


def test_logprobs_say_what_the_answer_is_made_of(demo: Stand) -> None:
    choice = ask(demo, logprobs=True, top_logprobs=3).choices[0]
    tokens = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == choice.message.content
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.top_logprobs[0].bytes == token.bytes and math.isclose(token.top_logprobs[0].logprob, token.logprob)  # greedy
    streamed = [c.choices[0] for c in ask(demo, logprobs=True, stream=True) if c.choices]
    again = [token for c in streamed if c.logprobs for token in c.logprobs.content]
    assert [token.token for token in again] == [token.token for token in tokens] and not any(token.top_logprobs for token in again)


def test_a_bias_forbids_a_token(demo: Stand) -> None:
    one = {"16": -100}  # the digit
    assert "1" in ask(demo).choices[0].message.content
    assert "1" not in ask(demo, logit_bias=one, max_tokens=300).choices[0].message.content
    for token in ("151643", "99999999"):  # one that ends an answer, and none
        refused = httpx.post(f"{demo.url}/v1/chat/completions", json={"messages": QUESTION, "logit_bias": {token: 5}}, timeout=60)
        assert refused.status_code == 400 and "logit_bias" in refused.json()["error"]["message"]


def test_a_raw_prompt_begins_with_what_every_prompt_begins_with(demo: Stand) -> None:
    """And none of it is read as control tokens."""

    async def scene() -> tuple[list[str], int, int]:
        appliance = demo.app.state.appliance
        completion = await appliance.complete_text("<｜User｜>17 × 6", Wanted(max_tokens=5, sampling={"temperature": 0}))
        events = [event async for event in completion.events()]
        completion.close()
        counted = await appliance.count(Conversation((Message("user", "17 × 6"),)))
        return [type(event).__name__ for event in events], events[-1].usage["prompt_tokens"], counted

    kinds, tokens, counted = demo.do(scene())
    assert kinds[-1] == "Closing" and demo.app.state.appliance.model().bos == "<｜begin▁of▁sentence｜>"
    done = ask(demo, messages=[{"role": "user", "content": "17 × 6"}], max_tokens=1)
    assert counted == done.usage.prompt_tokens
    assert tokens > counted  # the tag is spelled out: more tokens than the template's one for it


def test_tools_have_no_place_in_r1s_template(demo: Stand) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        ask(demo, tools=TOOLS)
    assert error.value.param == "tools" and "no place for tools" in str(error.value)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "hotels"}}])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("thinking", [False, True])
def test_a_random_model_calls_a_tool_when_it_has_to(qwen3: Stand, choice: Any, stream: bool, thinking: bool) -> None:
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": choice, "temperature": 1, "seed": 3, "max_tokens": 400}
    fields["extra_body"] = {"enable_thinking": thinking}
    if stream:
        with client(qwen3).chat.completions.stream(model="default", messages=QUESTION, **fields) as events:
            last = events.get_final_completion().choices[0]
    else:
        last = ask(qwen3, **fields).choices[0]
    (call,) = last.message.tool_calls
    assert last.finish_reason == "tool_calls" and not last.message.content
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in ("Rom", "鸡泽") and 1 <= arguments["days"] <= 9 and len(arguments) == 2
    assert call.function.name in (("weather", "hotels") if choice == "required" else ("hotels",)) and call.id.startswith("call_")


def test_a_random_model_may_call_a_strict_tool_or_not(qwen3: Stand) -> None:
    """Whatever it babbles, an answer or a schema's value: what looks like a call is one."""
    strict = [{**tool, "function": {**tool["function"], "strict": True}} for tool in TOOLS]
    free = ask(qwen3, tools=strict, temperature=1, seed=1, max_tokens=50, extra_body={"enable_thinking": False}).choices[0]
    assert free.finish_reason == "length" and free.message.content
    bias = {"151657": 100}  # <tool_call>
    off = {"enable_thinking": False}
    called = ask(qwen3, tools=strict, seed=1, temperature=1, logit_bias=bias, parallel_tool_calls=False, max_tokens=900, extra_body=off)
    (call,) = called.choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Rom", "鸡泽") and called.choices[0].finish_reason == "tool_calls"
    whole = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["yes", "no"]}}}
    either = ask(qwen3, tools=TOOLS, seed=1, temperature=1, response_format=whole, max_tokens=900, extra_body=off).choices[0].message
    assert either.tool_calls or json.loads(either.content) in ("yes", "no")


def test_a_model_may_think_before_a_grammar_counts(qwen3: Stand) -> None:
    """Where the template leaves it to the model to open a thought."""
    fields: dict[str, Any] = {"seed": 1, "temperature": 1, "max_tokens": 50}
    wishes: dict[str, Any] = {"grammar": 'root ::= "yes" | "no"', "thinking_budget": 7}
    for bias, thought in ({"151667": 100}, 8), ({}, 0):  # <think>; one more token closes the thought
        done = ask(qwen3, logit_bias=bias, extra_body=wishes, **fields)
        assert done.choices[0].message.content in ("yes", "no")
        assert done.usage.completion_tokens_details.reasoning_tokens == thought
    wishes["enable_thinking"] = False
    off = ask(qwen3, logit_bias={"151667": 100}, extra_body=wishes, **fields)
    assert off.choices[0].message.content in ("yes", "no") and off.usage.completion_tokens_details.reasoning_tokens == 0


def test_a_cut_answer_goes_on_where_it_was(demo: Stand) -> None:
    """Wherever it was cut, what it says in the end is what it says in one go; nearly all of the prompt is in the cache."""
    whole = ask(demo)
    said, total = whole.choices[0].message, whole.usage.total_tokens
    go_on = {"continue_final_message": True, "add_generation_prompt": False}
    for limit in range(3, whole.usage.completion_tokens, 7):
        begun = ask(demo, max_tokens=limit).choices[0].message.to_dict()
        begun["content"] = begun.get("content") or ""
        done = ask(demo, messages=[*QUESTION, begun], extra_body=go_on)
        rest = done.choices[0].message.to_dict()
        assert begun.get("reasoning_content", "") + rest.get("reasoning_content", "") == said.reasoning_content, limit
        assert begun["content"] + rest["content"] == said.content, limit
        assert done.usage.total_tokens == total
        assert done.usage.prompt_tokens - done.usage.prompt_tokens_details.cached_tokens <= 8, limit
