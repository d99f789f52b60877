"""What the answer's headers say of a request beyond its dialect: X-Cloister-Flagged, the names of patterns that flagged it.

Owns the way from wherever it is found out to the response, whatever the dialect. Knows nothing of patterns.
"""

from __future__ import annotations

from contextvars import ContextVar

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Cloister-Flagged"
_names: ContextVar[list[str] | None] = ContextVar("flagged", default=None)


def add(name: str) -> None:
    """Flag the request that is being answered; the name is plain ASCII. Without effect outside of one."""
    names = _names.get()
    if names is not None and name not in names:
        names.append(name)


class Flags:
    """Puts the header on responses of requests that were flagged before the response began."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        names: list[str] = []
        token = _names.set(names)

        async def flagged(message: Message) -> None:
            if message["type"] == "http.response.start" and names:
                MutableHeaders(scope=message).append(HEADER, ", ".join(names))
            await send(message)

        try:
            await self._app(scope, receive, flagged)
        finally:
            _names.reset(token)
