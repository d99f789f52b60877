"""Libraries that speak one dialect or another on their users' behalf, against the scripted engine: litellm and langchain."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI

from tests.api.dialects import CALLED, SCHEMA, THOUGHT, dying, prompt
from tests.api.scripted import Stand, accepted, failed, finished, tag, text, until

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches a list of prices from the web when it is imported
import litellm

QUESTION: list[Any] = [{"role": "user", "content": "Why?"}]
WEATHER = {"type": "function", "function": {"name": "weather", "description": "How it is outside", "parameters": SCHEMA}}
STYLES = ["openai/", "ollama_chat/", "anthropic/"]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
contacted: set[str] = set()


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        contacted.add(str(arguments[1][0]))
    elif event == "socket.getaddrinfo" and arguments[0]:
        contacted.add(arguments[0] if isinstance(arguments[0], str) else arguments[0].decode())


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Nobody but this machine is asked for anything."""
    contacted.clear()
    yield
    assert contacted <= set(LOOPBACK)


class Place(pydantic.BaseModel):
    city: str


# --- litellm ---


def options(api: Stand, style: str) -> dict[str, Any]:
    base = f"{api.url}/v1" if style == "openai/" else api.url
    return {"model": f"{style}scripted", "api_base": base, "api_key": "none", "messages": QUESTION, "num_retries": 0, "timeout": 30}


def thoughts(style: str) -> dict[str, Any]:
    """What asks for the thought, where a dialect tells it only to those who ask."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    return {"thinking": thinking, "max_tokens": 2000, "allowed_openai_params": ["thinking"]} if style == "anthropic/" else {}


@pytest.mark.parametrize("style", STYLES)
def test_litellm(api: Stand, style: str) -> None:
    api.engine.play(*THOUGHT)
    done: Any = litellm.completion(**options(api, style), **thoughts(style))
    assert done.choices[0].message.content == "Because." and done.choices[0].finish_reason == "stop"
    assert done.choices[0].message.reasoning_content == "hmmm"
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (7, 5)


@pytest.mark.parametrize("style", STYLES)
def test_litellm_streams(api: Stand, style: str) -> None:
    api.engine.play(*THOUGHT)
    said, thought, reasons = "", "", set()
    for chunk in litellm.completion(**options(api, style), **thoughts(style), stream=True):
        choice: Any = chunk.choices[0]  # type: ignore[union-attr]
        said += choice.delta.content or ""
        thought += getattr(choice.delta, "reasoning_content", None) or ""
        reasons.add(choice.finish_reason)
    assert (said, thought, reasons) == ("Because.", "hmmm", {None, "stop"})


@pytest.mark.parametrize("style", STYLES)
def test_litellm_in_asyncio(api: Stand, style: str) -> None:
    api.engine.play(*THOUGHT)
    done: Any = asyncio.run(litellm.acompletion(**options(api, style)))
    assert done.choices[0].message.content == "Because."


@pytest.mark.parametrize("style", STYLES)
def test_litellm_calls_tools(tooled: Stand, style: str) -> None:
    tooled.engine.play(*CALLED)
    done: Any = litellm.completion(**options(tooled, style), tools=[WEATHER])
    (call,) = done.choices[0].message.tool_calls
    assert call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Köln"}
    assert done.choices[0].finish_reason == "tool_calls"
    turns = [*QUESTION, done.choices[0].message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    litellm.completion(**options(tooled, style) | {"messages": turns, "tools": [WEATHER]})
    assert '<tool_call>{"name": "weather", "arguments": {"city": "K' in prompt(tooled) and "<|im_start|>tool\nrain" in prompt(tooled)


@pytest.mark.parametrize("style", STYLES)
def test_litellm_tells_errors_apart(api: Stand, style: str) -> None:
    with pytest.raises(litellm.exceptions.NotFoundError, match="gpt-5"):
        litellm.completion(**options(api, style) | {"model": f"{style}gpt-5"})
    api.engine.play(failed("overloaded", "the line is full", retry_after=7))
    with pytest.raises(Exception, match="the line is full"):
        litellm.completion(**options(api, style))


# --- langchain ---


@functools.cache
def chat(api: Stand, **fields: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{api.url}/v1", api_key="none", model="scripted", max_retries=0, timeout=30, **fields)  # type: ignore[arg-type]


def test_langchain(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    done = chat(api).invoke([SystemMessage("Be brief."), HumanMessage("Why?")])
    assert done.content == "Because." and done.usage_metadata and done.usage_metadata["output_token_details"] == {"reasoning": 3}
    assert "".join(str(chunk.content) for chunk in chat(api).stream("Why?")) == "Because."
    assert asyncio.run(chat(api).ainvoke("Why?")).content == "Because."


def test_langchain_over_responses(api: Stand) -> None:
    api.engine.play(*THOUGHT)
    done = chat(api, use_responses_api=True).invoke("Why?")
    assert done.text == "Because." and done.usage_metadata and done.usage_metadata["input_tokens"] == 7
    assert "".join(chunk.text for chunk in chat(api, use_responses_api=True).stream("Why?")) == "Because."


def test_langchain_completions(api: Stand) -> None:
    api.engine.play(accepted(), text(" brown", " fox"), finished())
    plain = OpenAI(base_url=f"{api.url}/v1", api_key="none", model="scripted", max_retries=0, timeout=30)  # type: ignore[arg-type]
    assert plain.invoke("The quick") == " brown fox" and "".join(plain.stream("The quick")) == " brown fox"


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_structured_output(tooled: Stand, method: Any) -> None:
    called = '<tool_call>{"name": "Place", "arguments": {"city": "Köln"}}</tool_call>'
    tooled.engine.play(accepted(), tag("</think>"), text('{"city": "Köln"}' if method == "json_schema" else called), finished())
    assert chat(tooled).with_structured_output(Place, method=method).invoke("Where?") == Place(city="Köln")


def test_langchain_calls_tools(tooled: Stand) -> None:
    tooled.engine.play(*CALLED)
    bound = chat(tooled).bind_tools([WEATHER])
    done = bound.invoke("Why?")
    assert isinstance(done, AIMessage) and [(call["name"], call["args"]) for call in done.tool_calls] == [("weather", {"city": "Köln"})]
    bound.invoke([HumanMessage("Why?"), done, ToolMessage("rain", tool_call_id=done.tool_calls[0]["id"])])
    assert "<|im_start|>tool\nrain" in prompt(tooled)


def test_langchain_when_the_engine_dies(api: Stand) -> None:
    dying(api)
    with pytest.raises(Exception, match="restarted"):
        list(chat(api).stream("Why?"))
    until(lambda: api.app.state.appliance.state() == "ready")
