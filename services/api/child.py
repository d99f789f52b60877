"""A child process of the API that computes what might never end: limited in time and memory, asked one thing at a time.

The kernel ends it when it has computed for too long, and no code has to get its turn for that; the next question starts another. Owns
both ends of the pipes: `Child` in the API, `serve` in the child. Knows nothing of what is computed.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import struct
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO

import msgpack

from services.shared.settings import ROOT

MEMORY = 1 << 30  # bytes of address space
PATIENCE = 60.0  # seconds of waiting, on a machine that has no time for the child
SIZE = struct.Struct("!I")

Answer = Callable[[Any], Any]


class TooMuch(Exception):
    """The child took more time or memory than it may, or died of something else."""


class Child:
    """`python -m MODULE`, which must call `serve`; `first` is what it is told when it starts, `begun` what it said to that. Close it in
    the end."""

    def __init__(self, module: str, first: object, *, seconds: float) -> None:
        self._command = (sys.executable, "-m", module)
        self._first = {"seconds": seconds, "first": first}
        self.begun: Any = None
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Start it, if it is not running, and wait until it is ready.

        Raises:
            TooMuch: it never is.
        """
        async with self._turn, self._bounded():
            await self._running()

    async def ask(self, question: object) -> Any:
        """Its answer.

        Raises:
            TooMuch: there is none.
        """
        async with self._turn, self._bounded():
            return await _exchange(await self._running(), question)

    @contextlib.asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            await self._drop()
            raise TooMuch from None
        except BaseException:  # cancelled in between: the next reply would be the answer to this question
            await self._drop()
            raise

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await self._spawn()
        return self._process

    async def close(self) -> None:
        """End the child; what is under way fails."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        async with self._turn:
            await self._drop()

    async def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _end(process)

    async def _spawn(self) -> asyncio.subprocess.Process:
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*self._command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=nothing)
        try:
            self.begun = await _exchange(process, self._first)
        except BaseException:
            await _end(process)
            raise
        return process


async def _exchange(process: asyncio.subprocess.Process, message: object) -> Any:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(_frame(message))
    await process.stdin.drain()
    (size,) = SIZE.unpack(await process.stdout.readexactly(SIZE.size))
    return msgpack.unpackb(await process.stdout.readexactly(size))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()  # and not wait(), which never returns when output is left unread


def _frame(message: object) -> bytes:
    data = bytes(msgpack.packb(message, default=vars))
    return SIZE.pack(len(data)) + data


def serve(begin: Callable[[Any], tuple[Any, Answer]]) -> None:
    """The child's whole life: `begin` makes a reply, and what answers, of what it is told first; then questions, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the API, which ends this process
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    seconds, answer = 0.0, None
    while (message := _read(source)) is not None:
        if answer is None:
            seconds = message["seconds"]
        # once it has computed for so long, the system ends this process
        signal.setitimer(signal.ITIMER_PROF, seconds)
        if answer is None:
            reply, answer = begin(message["first"])
        else:
            reply = answer(message)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write(sink, reply)


def _read(source: BinaryIO) -> Any:
    head = source.read(SIZE.size)
    return msgpack.unpackb(source.read(*SIZE.unpack(head))) if head else None


def _write(sink: BinaryIO, message: object) -> None:
    sink.write(_frame(message))
    sink.flush()
