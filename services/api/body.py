"""The body of a request, before anybody parses it: how long it may be and may take to arrive, and what its JSON may hold.

Parsers recurse and build objects, so depth and number are counted on the bytes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api import bounds
from services.api.errors import ApiError, InvalidRequest, TooLarge, TooSlow
from services.shared import forms

WITHIN = 60.0  # seconds in which a body must arrive
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # a string that is not closed goes on to the end
DELTA = {**dict.fromkeys(b"[{", 1), **dict.fromkeys(b"]}", -1)}
NO_BRACKETS = bytes(set(range(256)) - DELTA.keys())


class Body:
    """Reads the whole body, and refuses one that is longer than `limit` bytes, announced or not, before it fills the memory; one that
    dawdles; and one whose JSON would be more than services/api/bounds.py allows."""

    def __init__(self, app: ASGIApp, limit: int, within: float = WITHIN) -> None:
        self._app, self._limit, self._within = app, limit, within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._within):
                body = await self._read(scope, receive)
            if body is None:
                return  # the client has gone
            check_json(body)
        except TimeoutError:
            await self._refuse(TooSlow(f"the body did not arrive within {self._within:g} s"), scope, receive, send)
            return
        except ApiError as error:
            await self._refuse(error, scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        await self._app(scope, lambda: _ready(whole.pop()) if whole else receive(), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        length, body, more = int(announced) if announced.isdigit() else 0, bytearray(), True
        while more and max(length, len(body)) <= self._limit:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if max(length, len(body)) > self._limit:
            raise TooLarge(f"the body is longer than [api] max_body, {self._limit} bytes")
        return bytes(body)

    async def _refuse(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        await forms.response(scope, error)(scope, receive, send)


async def _ready(message: Message) -> Message:
    return message


def check_json(body: bytes) -> None:
    """Compare what is meant to be JSON with MAX_DEPTH, MAX_CONTAINERS and MAX_STRING. What is no JSON at all is the parser's to refuse.

    Raises:
        InvalidRequest: it is too much, or not UTF-8.
    """
    if b"\0" in body:  # no JSON text in UTF-8 holds one, and other encodings can't be measured like this
        raise InvalidRequest("the body is not valid JSON: it must be UTF-8 without zero bytes")
    if body.count(b"[") + body.count(b"{") > bounds.MAX_DEPTH:
        brackets = STRING.sub(b"", body).translate(None, NO_BRACKETS)
        found = brackets.count(b"[") + brackets.count(b"{")
        if found > bounds.MAX_CONTAINERS:
            raise _too_much("the body", f"{found} lists and objects", bounds.MAX_CONTAINERS)
        if max(accumulate(map(DELTA.__getitem__, brackets)), default=0) > bounds.MAX_DEPTH:
            raise _too_much("the body", "lists and objects deeper in one another", f"{bounds.MAX_DEPTH} levels")
    if len(body) > bounds.MAX_STRING and any(len(found[0]) > bounds.MAX_STRING + 2 for found in STRING.finditer(body)):
        place = next(_long(_parsed(body)), "body")
        raise _too_much(place, "a string that is longer", f"{bounds.MAX_STRING} bytes", param=place)


def _too_much(place: str, what: str, allowed: object, param: str | None = None) -> InvalidRequest:
    return InvalidRequest(f"{place}: {what} than allowed; at most {allowed}", param=param, code="limit_exceeded")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _long(value: Any, place: str = "") -> Iterator[str]:
    """Where strings stand that are too long, as messages.0.content."""
    if isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) > bounds.MAX_STRING:
        yield place or "body"
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _long(inner, f"{place}.{str(key)[:100]}".lstrip("."))
