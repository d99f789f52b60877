"""API keys: every request but the health checks needs one, once there are any. Knows nothing of what is asked."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from services.api import forms
from services.api.errors import Unauthorized
from services.shared.secret import Secrets

OPEN = {"/livez", "/readyz"}  # they tell no more than whether it runs


class Auth:
    """Refuses requests without a known key in `Authorization: Bearer` or `X-API-Key`, before their body is read. The name of the key
    becomes scope["key"]."""

    def __init__(self, app: ASGIApp, keys: Secrets) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._keys.name(_key(scope)) if scope["type"] == "http" and self._keys else None
        scope["key"] = name or ""
        if scope["type"] == "http" and self._keys and scope["path"] not in OPEN and name is None:
            error = Unauthorized("an API key is needed and this is none: send `Authorization: Bearer KEY`; scripts/keys makes keys")
            await forms.response(scope["path"], error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _key(scope: Scope) -> str:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    kind, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if kind.lower() == "bearer" else headers.get(b"x-api-key", b"").decode("latin-1")
