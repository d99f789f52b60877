"""Streams of all dialects, event by event, and their last words where they break off.

Only whole events go out: half of one would be the client's to make sense of, before the last words. The forms are those in which
services/api tells that its engine died in the middle of an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

from services.shared import forms
from services.shared.errors import ApiError

RESPONSES = "/v1/responses"


def stream(scope: Scope, headers: Mapping[str, str]) -> Stream | None:
    """The stream that the answer with this head is; None for one that comes whole."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if "content-length" in headers or kind not in ("text/event-stream", "application/x-ndjson"):
        return None
    if kind == "application/x-ndjson":
        return Lines(scope)
    return Numbered(scope) if scope["path"] == RESPONSES else Stream(scope)


class Stream:
    """Server-sent events."""

    end = b"\n\n"  # of an event

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What is to go out now, of what has arrived."""
        whole, end, self._held = (self._held + data).rpartition(self.end)
        return whole + end

    def rest(self) -> bytes:
        """What is to go out when the stream has come to its own end."""
        return self._held

    def last_words(self, error: ApiError) -> bytes:
        """What is to go out when it broke off."""
        told = forms.body(self._scope, error)
        return self._event(told)

    def _event(self, told: dict[str, Any]) -> bytes:
        name = b"event: " + told["type"].encode() + b"\n" if "type" in told else b""
        return name + b"data: " + dumped(told) + self.end


class Lines(Stream):
    """Lines of JSON, as Ollama has them."""

    end = b"\n"

    def _event(self, told: dict[str, Any]) -> bytes:
        return dumped(told) + self.end


class Numbered(Stream):
    """Events of OpenAI's responses: they are numbered, and the last one repeats what the answer is and has so far."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self._number = 0
        self._response: dict[str, Any] | None = None
        self._items: list[Any] = []

    def feed(self, data: bytes) -> bytes:
        whole = super().feed(data)
        for event in whole.split(self.end)[:-1]:
            self._note(event)
        return whole

    def _note(self, event: bytes) -> None:
        if not event.startswith(b"event: "):  # a comment
            return
        self._number += 1
        name, _, said = event.removeprefix(b"event: ").partition(b"\ndata: ")
        if name == b"response.created":
            self._response = json.loads(said)["response"]
        elif name == b"response.output_item.done":
            self._items.append(json.loads(said)["item"])

    def last_words(self, error: ApiError) -> bytes:
        head = {"sequence_number": self._number}
        if self._response is None:
            return self._event({"type": "error", **head, "code": error.code, "message": error.message, "param": None})
        failed = {"status": "failed", "output": self._items, "error": {"code": "server_error", "message": error.message}}
        return self._event({"type": "response.failed", **head, "response": {**self._response, **failed}})


def dumped(data: Any) -> bytes:
    """JSON as services/api writes it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
