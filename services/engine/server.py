"""The unix socket: connections in, messages to the worker, its messages back to whoever asked.

Runs on the main thread's event loop. Knows nothing of tokens or of the native model.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from services.engine.engine import Engine
from services.engine.request import is_prompt, problem
from services.engine.worker import Worker
from services.shared import logs, wire

log = logging.getLogger("engine")
MAX_UNREAD = 8 << 20  # bytes a client may leave unread before its connection is closed
MAX_ID = 100  # characters; ids appear in the log
TOKENIZING = 2  # prompts tokenized at once, beside the worker; as many long ones as others
LONG = 100_000  # characters; a megabyte takes seconds, and a short prompt shall not wait for any number of these


class Connection:
    """One client of the socket, normally the api process.

    `active`: request id → the key under which the worker knows the request. Keys are (connection, id, serial number), so that what
    is still under way for a cancelled request is never taken for a later one of the same id.
    """

    def __init__(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.active: dict[str, Hashable] = {}
        self._writer = writer
        self._unsent: list[bytes] = []

    def send(self, message: wire.Message) -> None:
        self.add(message)
        self.flush()

    def add(self, message: wire.Message) -> None:
        """Send it with the next flush: what a step makes goes out in one piece, so that the reader wakes once."""
        if isinstance(message, wire.Finished | wire.Failed):
            self.active.pop(message.id, None)
        self._unsent.append(wire.encode(message))

    def flush(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if not data or self._writer.is_closing():
            return
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD:
            log.warning("closing a connection that does not read %s", logs.facts(connection=self.number))
            self._writer.transport.abort()


class Server:
    """Listens on the socket until cancelled. `hello` greets every connection."""

    def __init__(self, path: Path, hello: wire.Hello, observe: Callable[[str], wire.Observed]) -> None:
        self._path, self._hello, self._observe = path, hello, observe
        self._loop = asyncio.get_running_loop()
        self._connections: dict[int, Connection] = {}
        self._outbox: deque[tuple[Hashable, wire.Message]] = deque()
        self._numbers = itertools.count(1)
        self._tokenizing = ThreadPoolExecutor(TOKENIZING, "tokenizer")
        self._tokenizing_long = ThreadPoolExecutor(TOKENIZING, "long-tokenizer")
        self._checking = ThreadPoolExecutor(1, "grammar")  # of its own: a grammar can take seconds to compile
        self._tasks: set[asyncio.Task[None]] = set()
        self.worker: Worker
        self.engine: Engine

    def emit(self, key: Hashable, message: wire.Message) -> None:
        """A message of the worker's thread for the connection that the key names; goes out with the next flush."""
        self._outbox.append((key, message))

    def flush(self) -> None:
        """From the worker's thread: deliver what it emitted. Not message by message: the event loop would wake for each and take the
        interpreter away from the worker in the midst of sampling."""
        if self._outbox:
            self._loop.call_soon_threadsafe(self._post)

    def _post(self) -> None:
        told = set()
        while self._outbox:
            key, message = self._outbox.popleft()
            if connection := self._asking(key):
                connection.add(message)
                told.add(connection)
        for connection in told:
            connection.flush()

    def _deliver(self, key: Hashable, message: wire.Message) -> None:
        if connection := self._asking(key):
            connection.send(message)

    def _asking(self, key: Hashable) -> Connection | None:
        """The connection that still waits for what belongs to this key."""
        assert isinstance(key, tuple)  # as _take made it
        connection = self._connections.get(key[0])
        return connection if connection and connection.active.get(key[1]) == key else None

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
        connection = Connection(next(self._numbers), writer)
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
            for key in connection.active.values():
                self.worker.cancel(key)
            connection.active.clear()
            writer.close()

    def _take(self, connection: Connection, message: wire.Message) -> None:
        if not isinstance(message, wire.Generate | wire.Prepare | wire.Cancel | wire.Count | wire.Observe):
            raise wire.WireError(f"{type(message).__name__} is not for the engine")
        if not (isinstance(message.id, str) and len(message.id) <= MAX_ID and message.id.isprintable()):
            raise wire.WireError(f"a request's id must be text, printable and of at most {MAX_ID} characters")
        match message:
            case wire.Generate():
                if message.id in connection.active:
                    raise wire.WireError("a request's id is in use")
                if reason := problem(message):
                    connection.send(wire.Failed(message.id, "invalid", reason))
                    return
                key = (connection.number, message.id, next(self._numbers))
                connection.active[message.id] = key
                self._start(self._generate(connection, key, message))
            case wire.Prepare():
                if not is_prompt(message.prompt):
                    raise wire.WireError("the prompt is not a sequence of marked texts")
                self._start(self._prepare(message))
            case wire.Cancel():
                if message.id in connection.active:
                    self.worker.cancel(connection.active.pop(message.id))
            case wire.Count():
                if not is_prompt(message.prompt):
                    raise wire.WireError("the prompt is not a sequence of marked texts")
                self._start(self._count(connection, message))
            case wire.Observe():
                connection.send(self._observe(message.id))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _generate(self, connection: Connection, key: Hashable, request: wire.Generate) -> None:
        try:
            tokens = await self._encode(request.prompt)
            refusal = None
            if request.sampling.grammar or request.sampling.json_schema:  # others don't wait for somebody's grammar
                refusal = await self._loop.run_in_executor(self._checking, self.engine.refusal, request.sampling)
        except Exception as error:
            log.exception("a request could not be prepared")
            self._deliver(key, wire.Failed(request.id, "internal", f"the request could not be prepared: {type(error).__name__}"))
            return
        if refusal:
            self._deliver(key, wire.Failed(request.id, "invalid", refusal))
            return
        if connection.active.get(request.id) == key:  # not cancelled meanwhile
            if self.engine.accept(key, request, tokens):
                self.worker.submit(key, request, tokens)
            self._post()

    async def _prepare(self, message: wire.Prepare) -> None:
        self.worker.prepare(await self._encode(message.prompt), message.adapter)

    async def _count(self, connection: Connection, message: wire.Count) -> None:
        connection.send(wire.Counted(message.id, len(await self._encode(message.prompt))))

    async def _encode(self, prompt: tuple[wire.Part, ...]) -> list[int]:
        long = sum(len(text) for _, text in prompt) > LONG
        return await self._loop.run_in_executor(self._tokenizing_long if long else self._tokenizing, self.engine.encode, prompt)
