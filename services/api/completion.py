"""One answer from engine to client, in no dialect yet: thinking and answer apart, progress, and the closing figures."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.api.conversation import ToolCall
from services.api.engine import Answer
from services.api.reasoning import Piece as Piece
from services.api.reasoning import ReasoningSplitter
from services.api.tools import Call as Call
from services.api.tools import CallReader
from services.shared import wire

SILENCE = 5.0  # seconds after which a stream says that it is still alive


@dataclass(frozen=True)
class Alive:
    """Nothing has happened for a while."""


@dataclass(frozen=True)
class Closing:
    """The answer is complete. `reason` is OpenAI's: stop, length or tool_calls; `stop` the stop string that ended it, "" for none;
    `details` say more where there is more to say: why it is shorter than it might be, and what ended the thought."""

    reason: str
    usage: dict[str, Any]
    timings: dict[str, float]
    details: dict[str, str]
    stop: str = ""


Event = Piece | Call | wire.Queued | wire.Prefill | Alive | Closing
Answered = Callable[[str, Sequence[ToolCall]], None]


class Completion:
    """The events of one accepted request. `reader` finds tool calls in the answer, if there may be any. `answered` is told the answer's
    text, without the thought, and its calls, once it is complete."""

    def __init__(self, answer: Answer, splitter: ReasoningSplitter, answered: Answered, reader: CallReader | None = None) -> None:
        self._answer = answer
        self._splitter = splitter
        self._answered = answered
        self._reader = reader

    async def events(self, silence: float = SILENCE) -> AsyncIterator[Event]:
        """All events until Closing; Alive after each `silence` seconds without one, also while a call is read, of which nothing is told
        before its end.

        Raises:
            ApiError: the engine failed or died.
        """
        said: list[str] = []
        spoke = time.monotonic()
        while True:
            match await self._answer.event(silence):
                case None:
                    yield Alive()
                case wire.Delta(text=new, special=special, logprobs=logprobs):
                    pieces = self._read(self._splitter.push(new, special=special, logprobs=logprobs))
                    for piece in pieces:
                        if isinstance(piece, Piece) and piece.channel == "answer":
                            said.append(piece.text)
                        yield piece
                    if not pieces and time.monotonic() - spoke < silence:
                        continue
                    if not pieces:
                        yield Alive()
                case wire.Finished() as finished:
                    for piece in self._read(self._splitter.flush(), end=True):
                        if isinstance(piece, Piece) and piece.channel == "answer":
                            said.append(piece.text)
                        yield piece
                    calls = self._reader.calls if self._reader else []
                    if (text := "".join(said)) or calls:
                        self._answered(text, calls)
                    yield closing(finished, called=bool(calls))
                    return
                case (wire.Queued() | wire.Prefill()) as progress:
                    yield progress
            spoke = time.monotonic()

    def _read(self, pieces: list[Piece], *, end: bool = False) -> Sequence[Piece | Call]:
        """The pieces with the calls that are in them."""
        if self._reader is None:
            return pieces
        told: list[Piece | Call] = []
        for piece in pieces:
            told += [piece] if piece.channel == "thinking" else self._reader.push(piece)
        return told + self._reader.flush() if end else told

    def close(self) -> None:
        """Nobody waits for it any more."""
        self._answer.close()


def closing(f: wire.Finished, *, called: bool = False) -> Closing:
    """The figures of a finished answer, which has `called` tools or not; times in seconds."""
    usage = {
        "prompt_tokens": f.prompt_tokens,
        "completion_tokens": f.generated_tokens,
        "total_tokens": f.prompt_tokens + f.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": f.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": f.thought_tokens},
    }
    # the first token comes out of the prefill
    rate = (f.generated_tokens - 1) / f.decode_seconds if f.decode_seconds > 0 else 0.0
    timings = {
        "queue_seconds": round(f.queue_seconds, 4),
        "prefill_seconds": round(f.prefill_seconds, 4),
        "decode_seconds": round(f.decode_seconds, 4),
        "tokens_per_second": round(rate, 2),
    }
    if f.drafted_tokens:
        timings |= {"drafted_tokens": f.drafted_tokens, "accepted_tokens": f.accepted_tokens}
    details = {"thought_ended": f.thought_ended} if f.thought_ended else {}
    if f.reason not in ("stop", "length"):
        details["reason"] = f.reason
    reason = "length" if f.reason != "stop" else "tool_calls" if called else "stop"
    return Closing(reason, usage, timings, details, "" if called else f.stop)  # a closing tag may have been one
