"""Every field of a request that the clients' own types know is served, refused by name, or known to change nothing, at any depth.

The types are those of the installed openai, anthropic and ollama: a newer client with a new field fails here until somebody has decided.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from typing import Any

import ollama._types as of_ollama
import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.beta import message_create_params as beta_params
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params
from pydantic import BaseModel, ValidationError
from typing_extensions import is_typeddict

from services.api.anthropic_schema import CountRequest, MessagesRequest
from services.api.fields import Body
from services.api.ollama_models import ShowRequest
from services.api.ollama_schema import GenerateRequest, OllamaChatRequest
from services.api.openai_completions import CompletionRequest
from services.api.openai_responses_schema import ResponseRequest
from services.api.openai_schema import ChatRequest

REQUESTS: list[tuple[type, type[Body]]] = [
    (chat_params.CompletionCreateParamsStreaming, ChatRequest),
    (completion_create_params.CompletionCreateParamsStreaming, CompletionRequest),
    (response_create_params.ResponseCreateParamsStreaming, ResponseRequest),
    (message_create_params.MessageCreateParamsStreaming, MessagesRequest),
    (beta_params.MessageCreateParamsStreaming, MessagesRequest),
    (message_count_tokens_params.MessageCountTokensParams, CountRequest),
    (of_ollama.ChatRequest, OllamaChatRequest),
    (of_ollama.GenerateRequest, GenerateRequest),
    (of_ollama.ShowRequest, ShowRequest),
]
# those that stay unknown: listed in the header, refused in strict mode
BY_DESIGN = {
    "messages.name": "agents name their messages, and no template has a place for names: to refuse it would shut them out",
    "tools.output_schema": "agents pass on what their tools say of themselves; no template has a place for it",
    "betas": "the client sends it as a header",
}
KINDS = ("type", "role")  # what tells objects apart that may stand in the same place

CHAT_TURN: dict[str, Any] = {"role": "user", "content": "?"}
CHAT: dict[str, Any] = {"messages": [CHAT_TURN]}
MESSAGES: dict[str, Any] = {"model": "m", "max_tokens": 5, "messages": [CHAT_TURN]}
ITEM: dict[str, Any] = {"type": "message", "role": "user", "content": "?"}


def asking(part: Any) -> list[Any]:
    """A conversation whose turn has this part."""
    return [{"role": "user", "content": [part]}]


# where objects stand of which we serve some kinds only, and a request with one of a given kind
PLACES: dict[type[Body], dict[str, Callable[[str], dict[str, Any]]]] = {
    ChatRequest: {
        "messages": lambda kind: {"messages": [{"role": kind, "content": "?"}]},
        "messages.content": lambda kind: {"messages": asking({"type": kind})},
        "messages.tool_calls": lambda kind: {"messages": [{"role": "assistant", "tool_calls": [{"type": kind, "id": "1"}]}]},
        "tools": lambda kind: {**CHAT, "tools": [{"type": kind}]},
        "tool_choice": lambda kind: {**CHAT, "tool_choice": {"type": kind}},
    },
    ResponseRequest: {
        "input": lambda kind: {"input": [{**ITEM, "role" if kind == "developer" else "type": kind}]},
        "input.content": lambda kind: {"input": [{**ITEM, "content": [{"type": kind}]}]},
        "input.output": lambda kind: {"input": [{"type": "function_call_output", "call_id": "1", "output": [{"type": kind}]}]},
        "tools": lambda kind: {"input": "?", "tools": [{"type": kind, "name": "x"}]},
        "tool_choice": lambda kind: {"input": "?", "tool_choice": {"type": kind}},
    },
    MessagesRequest: {
        "messages.content": lambda kind: {**MESSAGES, "messages": asking({"type": kind})},
        "messages.content.content": lambda kind: {
            **MESSAGES,
            "messages": asking({"type": "tool_result", "tool_use_id": "1", "content": [{"type": kind}]}),
        },
        "tools": lambda kind: {**MESSAGES, "tools": [{"type": kind, "name": "x"}]},
        "thinking": lambda kind: {**MESSAGES, "thinking": {"type": kind}},
    },
}


def hints(shape: type) -> dict[str, Any]:
    """The fields of a client's object."""
    if is_typeddict(shape):
        return typing.get_type_hints(shape)
    return {field.alias or name: field.annotation for name, field in shape.model_fields.items()}  # type: ignore[attr-defined]


def parts(annotation: Any) -> Iterator[Any]:
    """What an annotation is made of, without Optional, Union, list and the like."""
    inner = typing.get_args(annotation)
    if inner and typing.get_origin(annotation) is not typing.Literal:
        for part in inner:
            yield from parts(part)
    else:
        yield annotation


def objects(annotation: Any) -> list[type]:
    """A client's objects in it."""
    found = [part for part in parts(annotation) if isinstance(part, type) and (is_typeddict(part) or issubclass(part, BaseModel))]
    return list(dict.fromkeys(found))


def kinds(annotation: Any) -> set[str]:
    """The words that it may be."""
    return {word for part in parts(annotation) if typing.get_origin(part) is typing.Literal for word in typing.get_args(part)}


def bodies(annotation: Any) -> list[type[Body]]:
    """Our own objects in it."""
    return [part for part in objects(annotation) if issubclass(part, Body)]


def same_kind(shape: type, body: type[Body]) -> bool:
    """May they be of one kind?"""
    there = hints(shape)
    for name in KINDS:
        ours = body.model_fields.get(name)
        if name in there and ours is not None:
            words, own = kinds(there[name]), kinds(ours.annotation)
            if words and own and not words & own:
                return False
    return True


def walk(shape: type, body: type[Body], place: str, seen: set[tuple[type, type]]) -> Iterator[str]:
    """Fields and kinds of a client's object that ours says nothing about. Where we take anything (a schema, a name), there are none."""
    if (shape, body) in seen:
        return
    seen.add((shape, body))
    served = {field.alias or name: field.annotation for name, field in body.model_fields.items()}
    for name, annotation in hints(shape).items():
        if name in served:
            inside = bodies(served[name])
            for inner in objects(annotation) if inside else ():
                matching = [ours for ours in inside if same_kind(inner, ours)]
                for ours in matching:
                    yield from walk(inner, ours, f"{place}{name}.", seen)
                if not matching:
                    words = {word for kind in KINDS for word in kinds(hints(inner).get(kind))}
                    yield from (f"{place}{name}[{word}]" for word in words)
        elif name not in body.REFUSED and name not in body.INDIFFERENT:
            yield place + name


def missing(shape: type, body: type[Body]) -> set[str]:
    return set(walk(shape, body, "", set()))


@pytest.mark.parametrize(("shape", "body"), REQUESTS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_no_field_of_the_clients_types_is_unheard_of(shape: type, body: type[Body]) -> None:
    assert {name for name in missing(shape, body) if not name.endswith("]")} - BY_DESIGN.keys() == set()


def test_what_stays_unknown_is_known_to_somebody() -> None:
    assert BY_DESIGN.keys() <= {name for request in REQUESTS for name in missing(*request)}


@pytest.mark.parametrize(("shape", "body"), REQUESTS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_kinds_of_objects_that_are_not_served_are_refused_by_name(shape: type, body: type[Body]) -> None:
    places = next((places for owner, places in PLACES.items() if issubclass(owner, body)), {})
    for found in sorted(name for name in missing(shape, body) if name.endswith("]")):
        place, _, kind = found.removesuffix("]").partition("[")
        if found == "input[developer]":
            continue  # a role that we serve; the client has another item with the same one
        with pytest.raises(ValidationError) as error:
            body.model_validate(places[place](kind))
        first = error.value.errors()[0]
        assert kind in first["msg"] or (first["loc"][-1] in ("type", "role", "tool_choice") and kind == first["input"]), (found, first)


class Message(typing.TypedDict, total=False):
    role: typing.Literal["user"]
    content: str
    mood: str


class Request(typing.TypedDict, total=False):
    messages: list[Message]
    colour: str


def test_a_new_field_of_a_client_would_be_found() -> None:
    assert missing(Request, ChatRequest) == {"colour", "messages.mood"}
    assert missing(Request, MessagesRequest) == {"colour", "messages.mood"}
