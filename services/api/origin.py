"""Which names a browser may know this API by, and which other sites' pages may use it.

While no key is asked for, the Host header must be a name that services/shared/hosts.py knows; where keys are, a name proves nothing and
gives nothing away. A request that says it comes from a page (Origin) must come from our own or one of `[api] origins`, always.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.errors import Forbidden
from services.shared import forms
from services.shared.hosts import Hosts, hostname
from services.shared.secret import Secrets

EXPOSED = ("X-Request-Id", "Retry-After", "X-Cloister-Ignored", *(
    f"X-RateLimit-{figure}-{name}" for figure in ("Limit", "Remaining", "Reset") for name in ("Requests", "Tokens")
))  # fmt: skip


class Origin:
    """`address`: where it listens or is published; `hosts`: further names; `origins`: other sites whose pages may call, as the browser
    writes them (https://chat.example), or *."""

    def __init__(self, app: ASGIApp, address: Iterable[str], hosts: Iterable[str], origins: Iterable[str], keys: Secrets) -> None:
        self._app, self._keys = app, keys
        self._hosts = Hosts(address, hosts)
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await forms.response(scope, refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Forbidden | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = hostname(host)
        if not self._keys and not self._hosts.know(name):
            return Forbidden(
                f"this API does not know itself by the name {name[:100]!r}; if that is right, add it to [api] hosts "
                f"(CLOISTER_API__HOSTS={name[:100]}), or ask for keys (scripts/keys)",
                code="host_not_allowed",
            )
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and not (origin in self._origins or "*" in self._origins or self._hosts.show(origin, host)):
            return Forbidden(
                f"pages of {origin[:100]!r} may not use this API; if they should, add it to [api] origins "
                f"(CLOISTER_API__ORIGINS={origin[:100]})",
                code="origin_not_allowed",
            )
        return None
