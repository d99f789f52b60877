"""How answers travel over HTTP, whatever the dialect: streamed and closed in any case, or whole while the client is still there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services.api.appliance import Appliance
from services.api.completion import Closing, Completion, Event
from services.api.conversation import ToolCall
from services.api.errors import ApiError
from services.api.reasoning import Piece
from services.api.tools import Call
from services.shared import wire

DISCONNECT_CHECK = 0.1  # seconds between two looks whether the client of a whole answer is still there
LEAST = -9999.0  # JSON has no infinity; OpenAI says so for tokens that can't come
MAIL = 64  # events of several answers that wait for a slow reader


class ClientGone(ApiError):
    """The client has hung up: nobody gets this but the request log."""

    status, code = 499, "client_gone"


class Stream(StreamingResponse):
    """An answer in pieces. Its completions are closed even when nobody has read the first piece."""

    def __init__(self, completions: Sequence[Completion], pieces: AsyncIterator[bytes], kind: str, headers: dict[str, str]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **headers}
        super().__init__(pieces, media_type=kind, headers=headers)
        self._completions = completions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.ExitStack() as stack:
            for completion in self._completions:
                stack.callback(completion.close)
            await super().__call__(scope, receive, send)


@dataclass(frozen=True)
class Answered:
    """A complete answer."""

    thinking: str
    text: str
    calls: tuple[ToolCall, ...]
    logprobs: tuple[wire.TokenLogprob, ...]  # of the answer's tokens
    closing: Closing


class Calls:
    """Puts tool calls together that come in parts."""

    def __init__(self) -> None:
        self._parts: dict[int, list[Call]] = {}

    def add(self, part: Call) -> None:
        self._parts.setdefault(part.index, []).append(part)

    def whole(self) -> tuple[ToolCall, ...]:
        """All calls so far, in order."""
        return tuple(ToolCall(p[0].id, p[0].name, "".join(part.arguments for part in p)) for _, p in sorted(self._parts.items()))


async def whole(request: Request, completion: Completion) -> Answered:
    """Wait for the complete answer; generation ends when the client hangs up.

    Raises:
        ApiError: the engine failed or died.
        ClientGone: nobody waits any more.
    """
    texts: dict[str, list[str]] = {"thinking": [], "answer": []}
    calls = Calls()
    logprobs: list[wire.TokenLogprob] = []
    with contextlib.closing(completion):
        async for event in completion.events(DISCONNECT_CHECK):
            match event:
                case Piece(channel=channel, text=text):
                    texts[channel].append(text)
                    logprobs += event.logprobs if channel == "answer" else ()
                case Call():
                    calls.add(event)
                case Closing():
                    return Answered("".join(texts["thinking"]), "".join(texts["answer"]), calls.whole(), tuple(logprobs), event)
            if await request.is_disconnected():
                break
    raise ClientGone("the client has gone")


def appliance(request: Request) -> Appliance:
    """The appliance behind the app."""
    found: Appliance = request.app.state.appliance
    return found


def user(request: Request, name: str | None) -> str:
    """Who asks, as the waiting line knows them: the key's name, and what the client calls its user, by which nobody can be known."""
    key: str = request.scope.get("key", "")
    return f"{key}/{hashlib.sha256(name.encode()).hexdigest()[:16]}" if name else key


def dumped(data: Any) -> bytes:
    """JSON in as few bytes as it takes."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def sse(data: dict[str, Any]) -> bytes:
    """One server-sent event that is named by its type, as newer dialects have it."""
    return b"event: " + str(data["type"]).encode() + b"\ndata: " + dumped(data) + b"\n\n"


def scores(logprobs: Sequence[wire.TokenLogprob]) -> list[dict[str, Any]]:
    """Logprobs in the shape that OpenAI's newer dialects and Ollama's share."""
    return [{**_score(raw, score), "top_logprobs": [_score(*other) for other in top]} for raw, score, top in logprobs]


def _score(raw: bytes, score: float) -> dict[str, Any]:
    return {"token": raw.decode(errors="replace"), "logprob": max(score, LEAST), "bytes": list(raw)}


async def together(completions: Sequence[Completion]) -> AsyncIterator[tuple[int, Event]]:
    """The events of several completions as they come, each with its completion's number.

    Raises:
        ApiError: one of them failed.
    """
    mail: asyncio.Queue[tuple[int, Event | ApiError | None]] = asyncio.Queue(MAIL)

    async def forward(number: int, completion: Completion) -> None:
        try:
            async for event in completion.events():
                await mail.put((number, event))
            await mail.put((number, None))
        except ApiError as error:
            await mail.put((number, error))

    tasks = [asyncio.create_task(forward(*numbered)) for numbered in enumerate(completions)]
    try:
        running = len(tasks)
        while running:
            number, event = await mail.get()
            if isinstance(event, ApiError):
                raise event
            if event is None:
                running -= 1
            else:
                yield number, event
    finally:
        for task in tasks:
            task.cancel()
