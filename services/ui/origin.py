"""By which names a browser may open the page, and that only the page itself may ask its server: the same rules as the API has.

While no password is asked for, the Host header must be a name that services/shared/hosts.py knows; where one is, a name proves nothing
and gives nothing away. A request that says which page it comes from (Origin) must come from this one, always.
"""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from services.shared.hosts import Hosts, hostname
from services.shared.secret import Secrets


class Origin:
    """Before everything else. `passwords`: true once one is asked for."""

    def __init__(self, app: ASGIApp, hosts: Hosts, *, passwords: Secrets) -> None:
        self._app, self._hosts, self._passwords = app, hosts, passwords

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await PlainTextResponse(f"{refusal}\n", 403, {"X-Content-Type-Options": "nosniff"})(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str:
        """Why it is none of ours, or nothing. What a proxy in front was called by counts for Origin: no page can send that by itself."""
        headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin", "")
        name = hostname(host)
        if not self._passwords and not self._hosts.know(name):
            return (
                f"This page does not know itself by the name {name[:100]!r}: if that is right, add it to [api] hosts "
                f"(CLOISTER_API__HOSTS={name[:100]}), or ask for a password (scripts/keys)."
            )
        if origin and not any(self._hosts.show(origin, shown) for shown in (host, headers.get(b"x-forwarded-host", host))):
            return (
                f"The page of {origin[:100]!r} may not use this one: if it is this one behind a proxy, add its name to [api] hosts "
                f"(CLOISTER_API__HOSTS={hostname(origin.partition('://')[2])[:100]})."
            )
        return ""
