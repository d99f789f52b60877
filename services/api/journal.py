"""The request log: one line a request, with its id, and what is answered when something unexpected breaks.

Never what was asked or answered, not even by an unexpected error's message.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
import uuid
from collections.abc import Callable
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api import caller
from services.api.caller import Caller
from services.api.errors import ApiError
from services.shared import forms, logs

log = logging.getLogger("api")
QUIET = {"/livez", "/readyz", "/readyz/room", "/v1/status", "/metrics"}  # asked every few seconds by health checks, the page and Prometheus
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # no room for a text in it

Counted = Callable[[Scope, int, float], None]  # told of each request: scope, status (0: the client went before), seconds


class Journal:
    """Method, path, status, seconds, id, and the ids by which the engine's log knows the request. A client may bring the id in
    X-Request-Id; it gets it back on every response."""

    def __init__(self, app: ASGIApp, counted: Counted) -> None:
        self._app, self._counted = app, counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asking = Caller(_id(scope))
        caller.enter(asking)
        began, status, complete = time.monotonic(), 0, False

        async def watched(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(name, asking.id.encode()) for name in _names(scope["path"])]
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            else:
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            log.error("unexpected error %s", logs.facts(type=type(error).__name__, at=" < ".join(places[:-7:-1]), id=asking.id))
            if not status:
                internal = ApiError("an internal error: the log of the api has the details", code="internal")
                await forms.response(scope, internal)(scope, receive, watched)
        finally:
            seconds = time.monotonic() - began
            self._counted(scope, status if complete else 0, seconds)
            if scope["path"] not in QUIET:
                facts = logs.facts(
                    method=scope["method"],
                    path=quote(scope["path"]),
                    status=status or "aborted",
                    seconds=f"{seconds:.2f}",
                    id=asking.id,
                    engine=",".join(asking.asked) or None,
                    key=asking.key or None,
                    cut=None if complete or not status else "yes",
                )
                log.info("request %s", facts)


def _names(path: str) -> tuple[bytes, ...]:
    """Headers in which clients look for the id; Anthropic's has a name of its own."""
    return (b"x-request-id", b"request-id") if path.startswith("/v1/messages") else (b"x-request-id",)


def _id(scope: Scope) -> str:
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if ID.fullmatch(given) else f"req-{uuid.uuid4().hex}"
