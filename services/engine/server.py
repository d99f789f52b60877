"""The unix socket: connections in, messages to the worker, its messages back to whoever asked.

Runs on the main thread's event loop. Knows nothing of tokens or of the native model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from pathlib import Path

from services.engine.engine import Engine
from services.engine.worker import Worker
from services.shared import logs, wire

log = logging.getLogger("engine")
MAX_UNREAD = 8 << 20  # bytes a client may leave unread before its connection is closed


class Connection:
    """One client of the socket, normally the api process."""

    def __init__(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.active: set[str] = set()
        self._writer = writer

    def send(self, message: wire.Message) -> None:
        if isinstance(message, wire.Finished | wire.Failed):
            self.active.discard(message.id)
        if self._writer.is_closing():
            return
        self._writer.write(wire.encode(message))
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD:
            log.warning("closing a connection that does not read %s", logs.facts(connection=self.number))
            self._writer.transport.abort()


class Server:
    """Listens on the socket until cancelled. `hello` greets every connection."""

    def __init__(self, path: Path, hello: wire.Hello, observe: Callable[[str], wire.Observed]) -> None:
        self._path, self._hello, self._observe = path, hello, observe
        self._loop = asyncio.get_running_loop()
        self._connections: dict[int, Connection] = {}
        self._numbers = 0
        self.worker: Worker
        self.engine: Engine

    def emit(self, key: Hashable, message: wire.Message) -> None:
        """Deliver a message of the worker's thread to the connection that the key names."""
        self._loop.call_soon_threadsafe(self._deliver, key, message)

    def _deliver(self, key: Hashable, message: wire.Message) -> None:
        assert isinstance(key, tuple)  # (connection, request id), as _take made it
        if connection := self._connections.get(key[0]):
            connection.send(message)

    async def serve(self) -> None:
        """Accept connections for ever."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._accept, self._path)
        self._path.chmod(0o600)
        log.info("listening %s", logs.facts(socket=self._path.name))
        async with server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._numbers += 1
        connection = Connection(self._numbers, writer)
        self._connections[connection.number] = connection
        connection.send(self._hello)
        decoder = wire.Decoder()
        try:
            while data := await reader.read(1 << 16):
                for message in decoder.feed(data):
                    self._take(connection, message)
        except (wire.WireError, ConnectionError) as error:
            log.warning("connection closed %s", logs.facts(connection=connection.number, reason=error))
        except asyncio.CancelledError:
            pass  # the engine is going down, and this task with it
        finally:
            del self._connections[connection.number]
            for request in connection.active:
                self.worker.cancel((connection.number, request))
            writer.close()

    def _take(self, connection: Connection, message: wire.Message) -> None:
        key = (connection.number, message.id)
        match message:
            case wire.Generate():
                if message.id in connection.active:
                    raise wire.WireError(f"request id {message.id} is in use")
                connection.active.add(message.id)
                self.worker.submit(key, message)
            case wire.Cancel():
                connection.active.discard(message.id)
                self.worker.cancel(key)
            case wire.Count():
                connection.send(wire.Counted(message.id, self.engine.count(message.prompt)))
            case wire.Observe():
                connection.send(self._observe(message.id))
            case _:
                raise wire.WireError(f"{type(message).__name__} is not for the engine")
