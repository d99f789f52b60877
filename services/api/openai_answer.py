"""What OpenAI's chat completions answer: the shapes of choices, chunks, logprobs and figures. Knows nothing of requests."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from services.api import delivery
from services.api.completion import Alive, Closing, Completion, Event
from services.api.delivery import Answered
from services.api.errors import ApiError
from services.api.openai_schema import StreamOptions
from services.api.reasoning import Piece
from services.api.tools import Call
from services.shared import wire

CHANNELS = {"thinking": "reasoning_content", "answer": "content"}


class Head:
    """The id, time and model that all chunks of an answer share."""

    def __init__(self, model: str) -> None:
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.model = model

    def with_(self, kind: str, **fields: Any) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, **fields}


def choice(index: int, answer: Answered) -> dict[str, Any]:
    """One complete answer."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.thinking:
        message["reasoning_content"] = answer.thinking
    if answer.calls:
        message["content"] = answer.text or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in answer.calls
        ]
    logprobs = scores(answer.logprobs) if answer.logprobs else None
    made: dict[str, Any] = {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.closing.reason}
    if answer.closing.details:
        made["finish_details"] = answer.closing.details
    return made


def figures(closings: Sequence[Closing]) -> dict[str, Any]:
    """Usage and timings of one or several answers to one prompt, which counts once."""
    usage, timings = closings[0].usage, closings[0].timings
    if len(closings) > 1:
        made = sum(closing.usage["completion_tokens"] for closing in closings)
        thought = sum(closing.usage["completion_tokens_details"]["reasoning_tokens"] for closing in closings)
        total = usage["prompt_tokens"] + made
        usage = usage | {"completion_tokens": made, "total_tokens": total, "completion_tokens_details": {"reasoning_tokens": thought}}
        timings = {name: max(closing.timings.get(name, 0) for closing in closings) for name in timings}
        timings["tokens_per_second"] = round(sum(closing.timings["tokens_per_second"] for closing in closings), 2)
    return {"usage": usage, "timings": timings}


def scores(logprobs: Sequence[wire.TokenLogprob]) -> dict[str, Any]:
    """The logprobs of a choice."""
    return {"content": delivery.scores(logprobs), "refusal": None}


class Frames:
    """The chunks of one choice."""

    def __init__(self, head: Head, index: int) -> None:
        self._head, self._index = head, index
        # all chunks of text are alike but for the text, and there is one for each token
        self._texts = {channel: self.chunk({key: ""}).rpartition(b'""') for channel, key in CHANNELS.items()}

    def chunk(self, delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
        entry = {"index": self._index, "delta": delta, "logprobs": None, "finish_reason": reason, **more}
        return sse(self._head.with_("chat.completion.chunk", choices=[entry]))

    def text(self, piece: Piece) -> bytes:
        """More text; logprobs are told of the answer's."""
        if piece.logprobs and piece.channel == "answer":
            return self.chunk({"content": piece.text}, logprobs=scores(piece.logprobs))
        before, _, after = self._texts[piece.channel]
        return before + json.dumps(piece.text, ensure_ascii=False).encode() + after

    def call(self, part: Call) -> bytes:
        """A part of a tool call."""
        function = {"name": part.name, "arguments": part.arguments} if part.id else {"arguments": part.arguments}
        begin = {"id": part.id, "type": "function"} if part.id else {}
        return self.chunk({"tool_calls": [{"index": part.index, **begin, "function": function}]})

    def end(self, closing: Closing) -> bytes:
        return self.chunk({}, closing.reason, **({"finish_details": closing.details} if closing.details else {}))


async def stream(completions: Sequence[Completion], head: Head, options: StreamOptions | None) -> AsyncIterator[bytes]:
    """The answers as server-sent events; an error in mid-stream is an event too."""
    want_usage, want_progress = bool(options and options.include_usage), bool(options and options.include_progress)
    frames = [Frames(head, number) for number in range(len(completions))]
    closings: list[Closing] = []
    try:
        for frame in frames:
            yield frame.chunk({"role": "assistant", "content": ""})
        async for number, event in delivery.together(completions) if len(completions) > 1 else _alone(completions[0]):
            match event:
                case Piece():
                    yield frames[number].text(event)
                case Call():
                    yield frames[number].call(event)
                case wire.Queued() | wire.Prefill() if want_progress:
                    yield sse(head.with_("chat.completion.chunk", choices=[], progress=progress(event)))
                case Alive() | wire.Queued() | wire.Prefill():
                    yield b": still working\n\n"
                case Closing():
                    closings.append(event)
                    yield frames[number].end(event)
        if want_usage:
            yield sse(head.with_("chat.completion.chunk", choices=[], **figures(closings)))
    except ApiError as error:
        yield sse(error.body())
        return
    yield b"data: [DONE]\n\n"


async def _alone(completion: Completion) -> AsyncIterator[tuple[int, Event]]:
    """One completion's events; several need a task each."""
    async for event in completion.events():
        yield 0, event


def progress(event: wire.Queued | wire.Prefill) -> dict[str, Any]:
    """Where a request stands: in the line, or how much of its prompt is read."""
    if isinstance(event, wire.Queued):
        return {"state": "queued", "position": event.position}
    return {"state": "prefill", "done": event.done, "total": event.total, "cached": event.cached}


def sse(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + delivery.dumped(data) + b"\n\n"
