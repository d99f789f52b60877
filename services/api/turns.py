"""A conversation as chat templates expect to see it: OpenAI's messages and tools, with every text that people wrote in the open.

All of those go through `mark`, so that prompt.py can tell them from the template's own words: contents, names, descriptions, each
string and each key of a schema or of arguments. What is left are the fixed words of OpenAI's format and of JSON Schema, which templates
look for. Knows nothing of Jinja.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from services.api import reasoning
from services.api.conversation import Message, Tool, ToolCall

KEYWORDS = frozenset(
    (
        *("type", "properties", "required", "items", "enum", "const", "description", "title"),
        *("default", "format", "pattern", "anyOf", "oneOf", "allOf", "not", "$ref"),
        *("$defs", "definitions", "additionalProperties", "patternProperties", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minProperties"),
        *("maxProperties", "nullable", "examples", "name", "parameters"),
    )
)
TYPES = frozenset(("object", "array", "string", "number", "integer", "boolean", "null"))


class Place(NamedTuple):
    """Where a text stands that no template may leave out: in words, and the request's field."""

    what: str
    param: str


class Mark(Protocol):
    def __call__(self, text: str, place: Place | None = None, /) -> str: ...


class Style(NamedTuple):
    """What templates differ in: whether a tool without a description has an empty one; whether an assistant's turn that only calls has
    an empty content or none; whether the arguments of calls are JSON or an object."""

    described: bool = False
    empty: bool = False
    json: bool = False


STYLES = tuple(Style(*wishes) for wishes in itertools.product((False, True), repeat=3))


class Turns:
    """The messages and tools of one rendering."""

    def __init__(self, messages: Sequence[Message], tools: Sequence[Tool], style: Style) -> None:
        self._messages, self._tools, self._style = messages, tools, style
        self._names = {call.id: call.name for message in messages for call in message.calls}

    def variables(self, mark: Mark) -> dict[str, Any]:
        """What the template gets."""
        found: dict[str, Any] = {"messages": [self._turn(number, m, mark) for number, m in enumerate(self._messages)]}
        if self._tools:
            found["tools"] = [self._tool(number, tool, mark) for number, tool in enumerate(self._tools)]
        return found

    def _turn(self, number: int, message: Message, mark: Mark) -> dict[str, Any]:
        place = Place(f"message {number} (role {message.role})", f"messages.{number}")
        turn: dict[str, Any] = {"role": message.role, "content": mark(message.content, place)}
        if message.calls:
            turn["tool_calls"] = [self._call(call, mark, Place(f"the tool calls of {place.what}", place.param)) for call in message.calls]
            if not message.content and not self._style.empty:
                turn["content"] = None
        if message.role == "tool":
            turn["tool_call_id"] = mark(message.call_id)
            if name := self._names.get(message.call_id):
                turn["name"] = mark(name)
        return turn

    def _call(self, call: ToolCall, mark: Mark, place: Place) -> dict[str, Any]:
        arguments: Any = mark(call.arguments) if self._style.json else _marked(_object(call.arguments), mark)
        return {"id": mark(call.id), "type": "function", "function": {"name": mark(call.name, place), "arguments": arguments}}

    def _tool(self, number: int, tool: Tool, mark: Mark) -> dict[str, Any]:
        function: dict[str, Any] = {"name": mark(tool.name, Place(f"tool {number}", f"tools.{number}"))}
        if tool.description or self._style.described:
            function["description"] = mark(tool.description)
        function["parameters"] = _marked(tool.parameters or {"type": "object", "properties": {}}, mark, schema=True)
        return {"type": "function", "function": function}


def _object(text: str) -> Any:
    """What a JSON text says; itself when it says nothing."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _marked(value: Any, mark: Mark, *, schema: bool = False) -> Any:
    """The same with every string and key marked; those of a `schema` but for its fixed words."""
    if isinstance(value, str):
        return mark(value)
    if isinstance(value, Mapping):
        return {
            key if schema and key in KEYWORDS else mark(key): inner
            if schema and key == "type" and isinstance(inner, str) and inner in TYPES
            else _marked(inner, mark, schema=schema)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_marked(inner, mark, schema=schema) for inner in value]
    return value


def without_thought(message: Message) -> Message:
    """An earlier answer as templates shall see it."""
    if message.role != "assistant":
        return message
    return Message(message.role, reasoning.strip_thought(message.content), message.calls, message.call_id)
