"""A request that arrives: its head and body for the balancer, and whether its client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from starlette.types import Receive, Scope

Headers = list[tuple[bytes, bytes]]
# Of this connection, not of the request: RFC 9110, 7.6.1. What is expected (100-continue) is this program's own to say.
HOP_BY_HOP = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"),
    *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"),
}


class ClientGone(Exception):
    """The client hung up before its request was complete."""


class Asked:
    """One request."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        names = {name for name, _ in scope["headers"]}
        self.method: str = scope["method"]
        self.headers = end_to_end(scope["headers"])
        self.target: bytes = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self.has_body = b"content-length" in names or b"transfer-encoding" in names
        self._receive = receive
        self._read = asyncio.Event()
        self._kept: list[bytes] = []
        if not self.has_body:
            self._read.set()

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it comes; from its beginning each time, until it is forgotten.

        Raises:
            ClientGone: it does not come to its end.
        """
        for piece in list(self._kept):
            yield piece
        while not self._read.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            self._kept.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._read.set()
            yield self._kept[-1]

    def forget(self) -> None:
        """The body is not needed again."""
        self._kept.clear()

    async def gone(self) -> None:
        """Wait until the client has hung up, or has its answer."""
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that are to be passed on, names in lower case."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {part.strip().lower() for name, value in lowered if name == b"connection" for part in value.split(b",")}
    return [(name, value) for name, value in lowered if name not in HOP_BY_HOP | named]
