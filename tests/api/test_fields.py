"""A field that nobody knows is told at whatever depth it stands: listed in a header, or refused in strict mode."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

import services.api
from services.api.anthropic_schema import MessagesRequest
from services.api.fields import Body
from services.api.ollama_models import ShowRequest
from services.api.ollama_schema import GenerateRequest, OllamaChatRequest
from services.api.openai_completions import CompletionRequest
from services.api.openai_responses_schema import ResponseRequest
from services.api.openai_schema import ChatRequest
from tests.api.dialects import SCHEMA
from tests.api.scripted import Stand, stand

FUNCTION = {"name": "weather", "description": "How it is", "parameters": SCHEMA}
CALL = {"name": "weather", "arguments": "{}"}
TEXTS = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]

# requests with every object that may stand in one
RICH: dict[str, tuple[type[Body], list[dict[str, Any]]]] = {
    "/v1/chat/completions": (
        ChatRequest,
        [
            {
                "messages": [
                    {"role": "user", "content": TEXTS},
                    {
                        "role": "assistant",
                        "content": [{"type": "refusal", "refusal": "no"}, {"type": "thinking", "thinking": "hm"}],
                        "tool_calls": [{"id": "1", "type": "function", "function": CALL}],
                    },
                    {"role": "tool", "tool_call_id": "1", "content": "rain"},
                ],
                "tools": [{"type": "function", "function": FUNCTION}],
                "tool_choice": {"type": "function", "function": {"name": "weather"}},
                "stream_options": {"include_usage": True},
                "chat_template_kwargs": {"enable_thinking": True},
            },
            {
                "messages": [{"role": "user", "content": "?"}],
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
            },
        ],
    ),
    "/v1/completions": (CompletionRequest, [{"prompt": "?", "stream_options": {"include_usage": True}}]),
    "/v1/responses": (
        ResponseRequest,
        [
            {
                "input": [
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]},
                    {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
                    {"type": "reasoning", "id": "rs_1", "summary": []},
                    {"type": "function_call", "call_id": "1", **CALL},
                    {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "rain"}]},
                ],
                "tools": [{"type": "function", **FUNCTION}],
                "tool_choice": {"type": "function", "name": "weather"},
                "reasoning": {"effort": "low"},
            },
            {"input": "?", "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
        ],
    ),
    "/v1/messages": (
        MessagesRequest,
        [
            {
                "model": "scripted",
                "max_tokens": 5,
                "system": [{"type": "text", "text": "Be brief."}],
                "messages": [
                    {"role": "user", "content": TEXTS},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "hm", "signature": "x"},
                            {"type": "tool_use", "id": "1", "name": "weather", "input": {}},
                        ],
                    },
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": TEXTS}]},
                ],
                "tools": [{"name": "weather", "input_schema": SCHEMA}],
                "tool_choice": {"type": "auto"},
                "thinking": {"type": "enabled", "budget_tokens": 100},
                "metadata": {"user_id": "me"},
            },
            {
                "model": "scripted",
                "max_tokens": 5,
                "messages": [{"role": "user", "content": "?"}],
                "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
            },
        ],
    ),
    "/api/chat": (
        OllamaChatRequest,
        [
            {
                "model": "scripted",
                "messages": [
                    {"role": "user", "content": "?"},
                    {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]},
                ],
                "tools": [{"type": "function", "function": FUNCTION}],
                "options": {"seed": 1},
                "stream": False,
            },
        ],
    ),
    "/api/generate": (GenerateRequest, [{"model": "scripted", "prompt": "?", "options": {"seed": 1}, "stream": False}]),
    "/api/show": (ShowRequest, [{"model": "scripted"}]),
}
DATA = {"parameters", "schema", "input_schema", "arguments"}  # what stands below these is the client's own


def objects(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where objects stand in a request."""
    if isinstance(value, dict):
        yield place
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key not in DATA and (key != "input" or isinstance(inner, list)):
            yield from objects(inner, (*place, key))


def changed(request: dict[str, Any], place: tuple[str | int, ...], name: str) -> dict[str, Any]:
    """The request with one more field there."""
    made: dict[str, Any] = json.loads(json.dumps(request))
    inner: Any = made
    for step in place:
        inner = inner[step]
    inner[name] = [{"a": 1}]
    return made


CASES = [(path, request, place) for path, (_, requests) in RICH.items() for request in requests for place in objects(request)]
MANY = "colour", "schemas", "a.b", "köln\r\n", "Type"


@pytest.mark.parametrize(("path", "request_", "place"), CASES, ids=lambda part: str(part) if isinstance(part, str | tuple) else "")
def test_an_unknown_field_is_found_at_any_depth(path: str, request_: dict[str, Any], place: tuple[str | int, ...]) -> None:
    body = RICH[path][0]
    assert body.model_validate(request_).unknown() == []
    for name in MANY:
        made, where = changed(request_, place, name), ".".join(map(str, (*place, name)))
        try:
            assert body.model_validate(made).unknown() == [where]
        except ValidationError as error:  # where other names are known to somebody, they are refused
            assert place == ("chat_template_kwargs",) and error.errors()[0]["loc"] == (*place, name)


def test_the_requests_above_have_every_object_that_there_is() -> None:
    seen: set[type] = set()

    def look(value: Any) -> None:
        if isinstance(value, Body):
            seen.update(type(value).__mro__)
            for name in type(value).model_fields:
                look(getattr(value, name))
        for inner in value if isinstance(value, list) else ():
            look(inner)

    for body, requests in RICH.values():
        for request in requests:
            look(body.model_validate(request))
    assert {kind.__qualname__ for kind in descendants(Body) - seen} == set()


def test_every_object_of_a_request_tells_what_it_does_not_know() -> None:
    for module in pkgutil.iter_modules(services.api.__path__):
        importlib.import_module(f"services.api.{module.name}")
    models = {model for model in descendants(BaseModel) if model.__module__.startswith("services.api.")}
    assert models and {model.__qualname__ for model in models if not issubclass(model, Body)} == set()
    assert {m.__qualname__ for m in models if m.model_config["extra"] != "allow"} == {"TemplateSwitches"}


def descendants(kind: type) -> set[type[Body]]:
    return {found for child in kind.__subclasses__() for found in (child, *descendants(child))}


def test_deep_fields_over_http(tooled: Stand) -> None:
    for path, request, place in CASES:
        response = httpx.post(tooled.url + path, json=changed(request, place, "colour"), timeout=30)
        where = ".".join(map(str, (*place, "colour")))
        if place == ("chat_template_kwargs",):
            assert response.status_code == 400 and where in response.text
        else:
            assert (response.status_code, response.headers.get("x-cloister-ignored")) == (200, where), (path, response.text)


def test_strict_mode_refuses_deep_fields_too(tmp_path: Path) -> None:
    with stand(tmp_path, API__STRICT="true") as api:
        for path, request, place in CASES:
            where = ".".join(map(str, (*place, "colour")))
            response = httpx.post(api.url + path, json=changed(request, place, "colour"), timeout=30)
            assert response.status_code == 400 and where in response.text and not api.engine.requests


def test_an_unknown_field_does_not_come_back_with_the_response(api: Stand) -> None:
    tools = [{"type": "function", "name": "x", "colour": "\udfff"}]
    request = {"input": "?", "tools": tools, "tool_choice": "none", "text": {"format": {"type": "text", "colour": 1}}}
    response = httpx.post(f"{api.url}/v1/responses", content=json.dumps(request), headers={"Content-Type": "application/json"}, timeout=30)
    assert response.status_code == 200 and "colour" not in response.text
    assert response.headers["x-cloister-ignored"] == "text.format.colour, tools.0.colour"
