"""Renders the chat template in a process of its own, which a template that loops or eats memory takes down instead of the API.

The template comes with the model, from anybody; Jinja's sandbox keeps it from the machine but not from computing for ever. The child
(`python -m services.api.renderer`) limits its own memory and computing time; it is started with the first model and again
when it has died. Owns the child and what is said over its pipes; what a prompt is stands in prompt.py.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgpack

from services.api.conversation import Message, Tool, ToolCall
from services.api.errors import ApiError, InvalidRequest
from services.api.prompt import ChatTemplate, Prompt, TemplateError
from services.shared.settings import ROOT

SECONDS = 5.0  # of computing for one rendering; a megabyte takes some 20 ms, a hundred thousand messages two seconds
MEMORY = 1 << 30  # bytes of address space
PATIENCE = 60.0  # seconds of waiting, on a machine that has no time for the child
SIZE = struct.Struct("!I")


class Renderer:
    """A chat template in its child process, one rendering at a time, each at most `seconds` of computing. Close it in the end.
    `variables`, once it is started: what the template looks at."""

    def __init__(self, source: str, *, bos_token: str | None, eos_token: str | None, seconds: float = SECONDS) -> None:
        self._template = {"source": source, "bos_token": bos_token, "eos_token": eos_token, "seconds": seconds}
        self.source = source
        self.variables: frozenset[str] = frozenset()
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Start the child and let it compile the template.

        Raises:
            TemplateError: it is not valid, or compiling it takes too much.
        """
        async with self._turn:
            await self._say(None)

    async def render(self, messages: Sequence[Message], tools: Sequence[Tool] = (), thinking: bool | None = None) -> Prompt:
        """The prompt for the next answer to a conversation.

        Raises:
            InvalidRequest: the template refuses these messages.
            TemplateError: it fails, changes the texts, or takes too much time or memory.
        """
        async with self._turn:
            # schemas as JSON: its numbers may be larger than msgpack's
            reply = await self._say({"messages": messages, "tools": json.dumps(tools, default=vars), "thinking": thinking})
        return Prompt(tuple((bool(own), str(text)) for own, text in reply["parts"]), bool(reply["in_thought"]))

    async def close(self) -> None:
        """End the child; a rendering under way fails."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        async with self._turn:
            await self._drop()

    async def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _end(process)

    async def _say(self, wanted: dict[str, Any] | None) -> dict[str, Any]:
        try:
            async with asyncio.timeout(PATIENCE):
                if self._process is None or self._process.returncode is not None:
                    self._process = await self._spawn()
                return await self._exchange(self._process, wanted) if wanted is not None else {}
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            await self._drop()
            limits = f"{self._template['seconds']:g} s of computing or {MEMORY >> 20} MB of memory"
            raise TemplateError(f"the model's chat template takes more than {limits}") from None
        except ApiError:
            raise
        except BaseException:  # cancelled in between: the next reply would be the answer to this message
            await self._drop()
            raise

    async def _spawn(self) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "services.api.renderer")
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=nothing)
        try:
            self.variables = frozenset((await self._exchange(process, self._template))["variables"])
        except BaseException:
            await _end(process)
            raise
        return process

    async def _exchange(self, process: asyncio.subprocess.Process, message: object) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(_frame(message))
        await process.stdin.drain()
        (size,) = SIZE.unpack(await process.stdout.readexactly(SIZE.size))
        reply: dict[str, Any] = msgpack.unpackb(await process.stdout.readexactly(size))
        if kind := reply.get("error"):
            raise (InvalidRequest if kind == "InvalidRequest" else TemplateError)(reply["message"], param=reply["param"])
        return reply


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()  # and not wait(), which never returns when output is left unread


def _frame(message: object) -> bytes:
    data = bytes(msgpack.packb(message, default=vars))
    return SIZE.pack(len(data)) + data


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """The child: the first message is the template, each further one a conversation, until the source ends."""
    template: ChatTemplate | None = None
    seconds = 0.0
    while head := source.read(SIZE.size):
        message = msgpack.unpackb(source.read(*SIZE.unpack(head)))
        if template is None:
            seconds = message["seconds"]
        # when it has computed for so long, the system ends this process: no code of its own has to get its turn for that
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            if template is None:
                template = ChatTemplate(message["source"], bos_token=message["bos_token"], eos_token=message["eos_token"])
                reply = _frame({"variables": sorted(template.variables)})
            else:
                messages = [Message(**{**m, "calls": tuple(ToolCall(**call) for call in m["calls"])}) for m in message["messages"]]
                prompt = template.render(messages, [Tool(**tool) for tool in json.loads(message["tools"])], message["thinking"])
                reply = _frame({"parts": prompt.parts, "in_thought": prompt.in_thought})
        except ApiError as error:
            reply = _frame({"error": type(error).__name__, "message": error.message, "param": error.param})
        except UnicodeEncodeError:
            reply = _frame({"error": "TemplateError", "message": "the model's chat template writes broken characters", "param": None})
        signal.setitimer(signal.ITIMER_PROF, 0)
        sink.write(reply)
        sink.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the API, which ends this process
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    serve(sys.stdin.buffer, sys.stdout.buffer)
