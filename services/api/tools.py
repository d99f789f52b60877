"""Tool calls in a model's own words: how its template writes them, how they are read out of an answer, and how one is forced.

Two forms are known. Qwen's and Hermes's: `<tool_call>{"name", "arguments"}</tool_call>` anywhere in the answer. Llama 3's: the whole answer
is `{"name", "parameters"}`, or several of them. A call is told when it is complete: what is not valid JSON, or names
no tool that was offered, stays text. Knows nothing of HTTP or of templates' syntax.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.api.conversation import Conversation, Tool, ToolCall, Wanted
from services.api.errors import InvalidRequest
from services.api.reasoning import Piece, possible_start
from services.shared.wire import TokenLogprob


@dataclass(frozen=True)
class Call:
    """A part of the tool call `index`: the first has id and name, the later ones only more of `arguments`, the JSON text of an object."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Form:
    """How a family of models writes a call. `start` and `end` stand around its JSON; without them the JSON is the whole answer.
    `arguments` is the key of the arguments in it."""

    start: str
    end: str
    arguments: str


TAGGED = Form("<tool_call>", "</tool_call>", "arguments")
BARE = Form("", "", "parameters")


def form(template: str) -> Form | None:
    """The form that a chat template asks for; None for one that this version can't read."""
    source = template.replace('\\"', '"')
    if TAGGED.start in source:
        return TAGGED if '"arguments":' in source else None  # others have XML between these tags
    return BARE if '"parameters":' in source and "ipython" in source else None  # Llama's name for a tool


def bound(form: Form, conversation: Conversation, wanted: Wanted) -> Wanted:
    """What is wanted of an answer that may hold calls: that there is one, where tool_choice says so; that what it calls a call is one,
    where a tool is strict; or a call instead of what the answer has to satisfy.

    Raises:
        InvalidRequest: tool_choice names no tool, or a grammar has no place for calls.
    """
    choice, tools = conversation.tool_choice, conversation.tools
    if not conversation.parallel_calls and form.end:
        wanted = replace(wanted, stop=(*wanted.stop, form.end))
    if wanted.grammar is not None:
        raise InvalidRequest("a grammar of the answer has no place for the calls of tools", param="grammar")
    if choice == "auto":
        if wanted.json_schema is None and not any(tool.strict for tool in tools):
            return wanted
        tools = tuple(tool if tool.strict else replace(tool, parameters={}) for tool in tools)
        wanted = replace(wanted, instead=wanted.json_schema or "")
    call = json.dumps(schema(form, tools, choice), ensure_ascii=False)
    return replace(wanted, json_schema=call, frame=(form.start, form.end))


def reader(form: Form, conversation: Conversation) -> CallReader:
    """Reads the answer to a conversation."""
    names = {tool.name for tool in conversation.tools}
    return CallReader(form, names, single=not conversation.parallel_calls, begun=bool(conversation.begun))


def schema(form: Form, tools: Sequence[Tool], choice: str) -> dict[str, Any]:
    """The JSON schema of one call: of any of the tools, or of the chosen one.

    Raises:
        InvalidRequest: there is no such tool.
    """
    wanted = [tool for tool in tools if choice in ("auto", "required", tool.name)]
    if not wanted:
        raise InvalidRequest(f"tool_choice: there is no tool {choice!r}", param="tool_choice")
    if len(wanted) == 1:
        return _call_schema(form, wanted[0], "#")
    return {"anyOf": [_call_schema(form, tool, f"#/anyOf/{number}") for number, tool in enumerate(wanted)]}


def _call_schema(form: Form, tool: Tool, root: str) -> dict[str, Any]:
    arguments = _moved(dict(tool.parameters) or {"type": "object"}, f"{root}/properties/{form.arguments}")
    properties = {"name": {"const": tool.name}, form.arguments: arguments}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _moved(value: Any, root: str) -> Any:
    """A schema whose references find what they mean when the schema stands at `root` of another one."""
    if isinstance(value, list):
        return [_moved(entry, root) for entry in value]
    if not isinstance(value, dict):
        return value
    moved = {key: _moved(entry, root) for key, entry in value.items()}
    reference = value.get("$ref")
    return moved | {"$ref": root + reference[1:]} if isinstance(reference, str) and reference.startswith("#") else moved


class CallReader:
    """Takes an answer's text, gives it back as text and calls. `calls` are those that are complete; with `single` the answer is at its
    end after the first. `begun`: there was text before."""

    def __init__(self, form: Form, names: Collection[str], *, single: bool = False, begun: bool = False) -> None:
        self.calls: list[ToolCall] = []
        self._form, self._names, self._single = form, names, single
        self._held = ""  # what is not decided: white space before a call, a part of its tag, or of the call
        self._scores: list[TokenLogprob] = []  # of it
        self._json: _Json | None = None  # while a call is read, where in `_held` that is
        self._text = begun  # text has been told
        self._after = False  # the last thing that was told is a call

    def push(self, piece: Piece) -> list[Piece | Call]:
        """What is certain after this piece of the answer."""
        if not self._held and self._json is None and self._plain(piece.text):
            return [piece]
        self._held += piece.text
        self._scores += piece.logprobs
        return self._decide()

    def flush(self) -> list[Piece | Call]:
        """What was held back, at the end: a call may lack its closing tag."""
        told = self._decide()
        if self._json is not None:
            told += self._call(self._held[self._json.start :], len(self._held)) or []
        return told + self._tell(len(self._held))

    def _plain(self, text: str) -> bool:
        """Surely nothing but text?"""
        if self._after or not text.strip() or text[-1].isspace():
            return False
        return "<" not in text if self._form.start else self._text

    def _decide(self) -> list[Piece | Call]:
        told: list[Piece | Call] = []
        while self._held and not (self._single and self.calls):
            if self._json is None:
                told += self._seek()
                if self._json is None:
                    break
            end = self._json.read(self._held, self._form.end)
            if end is None:
                break
            after = end + len(self._form.end)
            call = self._call(self._held[self._json.start : end], after)
            told += self._tell(after) if call is None else call
        if self._single and self.calls:
            self._held = ""
        return told

    def _seek(self) -> list[Piece | Call]:
        """Tell what comes before a call; `_json` is set when one begins."""
        form, held = self._form, self._held
        if form.start:
            at = held.find(form.start)
            certain = at if at >= 0 else len(held) - possible_start(held, form.start)
            told = self._tell(len(held[:certain].rstrip()))
            if at >= 0:
                self._json = _Json(self._held.index(form.start) + len(form.start))
            return told
        begun = held.lstrip(" \t\r\n" + (";," if self.calls else ""))
        if begun[:1] == "{" and not self._text:
            self._json = _Json(len(held) - len(begun), whole=True)
            return []
        return self._tell(len(held.rstrip())) if begun else []

    def _tell(self, count: int) -> list[Piece | Call]:
        """So many characters of what is held are text."""
        text, self._held, self._json = self._held[:count], self._held[count:], None
        if self._after:
            text = text.lstrip()
        if not text:
            return []
        piece = Piece("answer", text, tuple(self._scores))
        self._scores.clear()
        self._text, self._after = True, False
        return [piece]

    def _call(self, body: str, after: int) -> list[Piece | Call] | None:
        """Tell a call, which goes up to `after` in what is held; None when it is none."""
        found = _parsed(body, self._names)
        if found is None:
            return None
        name, arguments = found
        index = len(self.calls)
        self.calls.append(ToolCall(f"call_{uuid.uuid4().hex[:24]}", name, arguments))
        self._held, self._json, self._after = self._held[after:], None, True
        self._scores.clear()
        return [Call(index, self.calls[-1].id, name, ""), Call(index, "", "", arguments)]


class _Json:
    """Finds the end of a JSON object in a text that grows, from `start` on: where the closing tag stands outside of a string, or, if it
    is the `whole`, where its last brace does."""

    def __init__(self, start: int, *, whole: bool = False) -> None:
        self.start = self._at = start
        self._whole = whole
        self._depth = 0
        self._string = self._escaped = False

    def read(self, text: str, tag: str) -> int | None:
        """Where the object ends in `text`; None when it goes on."""
        while self._at < len(text):
            character = text[self._at]
            if self._string:
                self._string = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._string = True
            elif not self._whole:
                if character == "<" and tag.startswith(text[self._at : self._at + len(tag)]):
                    return self._at if len(text) - self._at >= len(tag) else None
            elif character in "{}":
                self._depth += 1 if character == "{" else -1
                if self._depth == 0:
                    return self._at + 1
            self._at += 1
        return None


def _parsed(body: str, names: Collection[str]) -> tuple[str, str] | None:
    """Name and arguments of a call; None when it is none."""
    try:
        call = json.loads(body, parse_constant=_no_constant)
        name = call["name"]
        arguments = call.get("arguments", call.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = json.loads(arguments, parse_constant=_no_constant)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(arguments, Mapping) or not isinstance(name, str) or name not in names:
        return None
    return name, json.dumps(arguments, ensure_ascii=False)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")
