"""How much one key may ask: requests a minute, tokens a minute, requests at once, as its line in the file of keys says.

What counts is POST: reading a list or a state costs nothing. Prompt and answer count as tokens once they are known, so an answer may
overdraw; the next request then waits longer. Nothing is kept on disk: a restart forgives.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import RateLimited
from services.api.meters import Meter, Meters
from services.shared import forms


class RateLimit:
    """Refuses with 429 what a key may not ask now, and tells on every response what it still may."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app, self._meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        meter = self._meters.of(scope["key"]) if scope["type"] == "http" and scope["key"] else None
        if meter is None:
            await self._app(scope, receive, send)
        elif scope["method"] == "POST":
            await self._counted(meter, scope, receive, send)
        else:
            await meter.look()
            await self._app(scope, receive, _telling(meter, send))

    async def _counted(self, meter: Meter, scope: Scope, receive: Receive, send: Send) -> None:
        tell = _telling(meter, send)
        try:
            lease = await meter.admit()
        except RateLimited as error:
            await forms.response(scope, error)(scope, receive, tell)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await meter.release(lease)  # before the last byte: who has the whole answer may ask the next at once, of any replica
            await tell(message)

        try:
            await self._app(scope, receive, told)
        finally:
            await meter.release(lease)


def _telling(meter: Meter, send: Send) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name.encode(), value.encode()) for name, value in meter.headers().items()]
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return told
