"""API keys: every request but the health checks and the documentation needs one, once there are any. Knows nothing of what is asked."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from services.api import caller
from services.api.errors import Unauthorized
from services.shared import forms, logs
from services.shared.secret import SecretError, Secrets

log = logging.getLogger("api")
OPEN = {"/livez", "/readyz", "/readyz/room"}  # they tell no more than whether it runs
DOCUMENTATION = "/docs"  # and what stands below it: the same for everybody, and a browser that opens a page sends no key


class Auth:
    """Refuses requests without a known key in `Authorization: Bearer` or `X-API-Key`, before their body is read. The name of the key
    becomes scope["key"]. Changes of the file of keys are seen at once."""

    def __init__(self, app: ASGIApp, keys: Secrets) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._refresh()
        name = self._keys.name(_key(scope)) if self._keys else None
        scope["key"] = caller.current().key = name or ""
        if self._keys and name is None and not _open(scope["path"]):
            error = Unauthorized("an API key is needed and this is none: send `Authorization: Bearer KEY`; scripts/keys makes keys")
            await forms.response(scope, error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refresh(self) -> None:
        try:
            if self._keys.refresh():
                log.info("the file of API keys has changed %s", logs.facts(keys=len(self._keys)))
        except SecretError as error:
            log.error("the API keys stay as they were: %s", error)


def _open(path: str) -> bool:
    return path in OPEN or path == DOCUMENTATION or path.startswith(DOCUMENTATION + "/")


def _key(scope: Scope) -> str:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    kind, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if kind.lower() == "bearer" else headers.get(b"x-api-key", b"").decode("latin-1")
