"""The web server around the app: uvicorn, and its patience with clients that don't send or don't read."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

PATIENCE = 60.0  # seconds
UNSENT = 256 << 10  # bytes that the kernel keeps for a client; left to itself it grows to megabytes
GRACE = 5  # seconds that answers under way get at the end


class Connection(HttpToolsProtocol):
    """One client. What it does not read fills the kernel's buffer and 64 kB of ours (asyncio's high-water mark), then the answer waits;
    when ours has not emptied within `patience`, the connection is cut, by which the answer is cancelled. The head of a request must arrive
    in the same time, of the first and of any other. Costs nothing for each message that is sent."""

    patience = PATIENCE
    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT)
        self._head = self.loop.call_later(self.patience, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._head is None and (self.cycle is None or self.cycle.response_complete):  # uvicorn waits for the rest of a head for ever
            self._head = self.loop.call_later(self.patience, self.transport.abort)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        _cancel(self._head)
        self._head = None
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self._stall or self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        _cancel(self._stall)
        self._stall = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._head)
        _cancel(self._stall)
        super().connection_lost(exc)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def create_server(app: ASGIApp, host: str, port: int, *, patience: float = PATIENCE, grace: int = GRACE) -> uvicorn.Server:
    """A server for this app, not running yet; it logs nothing of requests."""
    settings: dict[str, Any] = {"log_config": None, "log_level": "warning", "access_log": False, "timeout_graceful_shutdown": grace}
    protocol = type("Connection", (Connection,), {"patience": patience})
    return uvicorn.Server(uvicorn.Config(app, host=host, port=port, http=protocol, ws="none", **settings))
