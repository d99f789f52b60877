"""The web server around the app: uvicorn, its patience with clients that don't send or don't read, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from types import FrameType
from typing import Any, Protocol

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

PATIENCE = 60.0  # seconds
UNSENT = 256 << 10  # bytes that the kernel keeps for a client; left to itself it grows to megabytes
LAST_WORDS = 2  # seconds for telling whoever still waits that it is over


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


class Leaving(Protocol):
    """Who is told of the end."""

    def leave(self) -> None:
        """It is near: nothing more shall be sent here."""

    def give_up(self) -> None:
        """It is here: what is under way ends now."""


class Server(uvicorn.Server):
    """After SIGTERM it stays until nothing is under way, at most `grace` seconds. With a `drain` it takes what still comes, and stays at
    least so long: until each balancer has seen that nothing more shall be sent here. Without one it takes nothing more. A second SIGTERM,
    or SIGINT, ends it at once."""

    def __init__(self, config: uvicorn.Config, told: Leaving, drain: float, grace: float) -> None:
        super().__init__(config)
        self._told, self._drain, self._grace = told, drain, grace
        self._since: float | None = None  # time.monotonic() of the first SIGTERM

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGTERM or self._since is not None:
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        self._since = time.monotonic()
        self._told.leave()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._left()

    def _left(self) -> bool:
        """Whether it is time to go."""
        if self._since is None:
            return False
        if not self._drain:
            self._close()
        stayed = time.monotonic() - self._since
        return stayed >= self._grace or (stayed >= self._drain and not self._busy())

    def _close(self) -> None:
        """Take no more connections, and on those that are open no more requests."""
        for listening in self.servers:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()

    def _busy(self) -> bool:
        """Whether somebody waits for an answer, or for what is left of one."""
        unsent = any(connection.transport.get_write_buffer_size() for connection in self.server_state.connections)
        return unsent or bool(self.server_state.tasks)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._told.give_up()
        await super().shutdown(sockets)


def create_server(
    app: ASGIApp, host: str, port: int, told: Leaving, *, patience: float = PATIENCE, drain: float = 0, grace: float = 0
) -> uvicorn.Server:
    """A server for this app, not running yet; it logs nothing of requests. Times in seconds."""
    settings: dict[str, Any] = {"log_config": None, "log_level": "warning", "access_log": False, "timeout_graceful_shutdown": LAST_WORDS}
    protocol = type("Connection", (Connection,), {"patience": patience})
    return Server(uvicorn.Config(app, host=host, port=port, http=protocol, ws="none", **settings), told, drain, grace)
