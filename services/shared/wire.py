"""What api and engine say to each other over the unix socket: small typed messages, framed by msgpack.

Owns the names and fields of the messages. Knows nothing of HTTP or of how a token is made. A prompt travels as marked
parts, so that the engine can tell the template's control tokens from text that merely looks like them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgpack

MAX_MESSAGE = 64 << 20

Message = Any
M = TypeVar("M", bound=type)
_kinds: dict[str, type] = {}


class WireError(ValueError):
    """The peer sent something that is no message: another version, or not a Cloister service."""


def _message(cls: M) -> M:
    _kinds[cls.__name__] = cls
    return cls


# A part of a prompt: (True, text) is the template's own, whose control tokens count; (False, text) is somebody's text.
Part = tuple[bool, str]
# A sampled token: its bytes, its logprob (natural logarithm), and the same of the most likely tokens at its place, best first.
TokenLogprob = tuple[bytes, float, tuple[tuple[bytes, float], ...]]


@_message
@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. temperature 0 is greedy; top_k 0 and min_p 0 are off; penalties 1.0 and 0.0 are off.

    logit_bias: (token, number to add to its logit); -100 forbids it. logprobs: how many of the most likely tokens to tell with each
    token, None for no logprobs at all. grammar (GBNF) or json_schema (its JSON text; "{}" is any value): what the answer, not the
    thought, must satisfy; frame: tags that stand before and after that JSON; instead: what may come in its place, None for nothing, ""
    for any text, also around it, or another JSON schema.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 50
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    grammar: str | None = None
    json_schema: str | None = None
    frame: tuple[str, str] = ("", "")
    instead: str | None = None


@_message
@dataclass(frozen=True)
class Generate:
    """api → engine: answer this prompt. `max_tokens` 0 means what the context leaves. `in_thought`: the prompt leaves a thought
    open; stop strings apply outside of thoughts only. `may_think`: the model may begin with a thought of its own, before which no grammar
    counts. `thought_limit`: thought tokens after which the end of thinking is forced. `user`: whose turn it is, the line is fair between
    users. `adapter`: a LoRA adapter's name, "" for none. `seconds`: the answer ends after so many, 0 for no limit."""

    id: str
    prompt: tuple[Part, ...]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    in_thought: bool = False
    may_think: bool = False
    thought_limit: int | None = None
    user: str = ""
    adapter: str = ""
    seconds: float = 0.0


@_message
@dataclass(frozen=True)
class Prepare:
    """api → engine: a prompt that begins with this is likely to come; read it when there is nothing else to do. No answer."""

    id: str
    prompt: tuple[Part, ...]
    adapter: str = ""


@_message
@dataclass(frozen=True)
class Cancel:
    """api → engine: nobody waits for this answer any more."""

    id: str


@_message
@dataclass(frozen=True)
class Count:
    """api → engine: how many tokens has this prompt?"""

    id: str
    prompt: tuple[Part, ...]


@_message
@dataclass(frozen=True)
class Observe:
    """api → engine: how are you?"""

    id: str


@_message
@dataclass(frozen=True)
class Hello:
    """engine → api, first on every connection: the directory of the loaded model and what it allows.

    `context` is tokens per conversation. `think_start` and `think_end` are the thinking tokens' texts when the vocabulary
    has them as single tokens, else None. `adapters` are the names that a request may choose. `bos` is the token that every prompt
    begins with, "" where the vocabulary wants none. `started`: seconds since the epoch. `variant`: the kind of CPU that llama.cpp
    computes for, "" when it does not say.
    """

    model: str
    context: int
    cells: int
    sequences: int
    threads: int
    threads_reason: str
    think_start: str | None
    think_end: str | None
    version: str
    adapters: tuple[str, ...] = ()
    bos: str = ""
    started: float = 0.0
    variant: str = ""


@_message
@dataclass(frozen=True)
class Counted:
    id: str
    tokens: int


@_message
@dataclass(frozen=True)
class Observed:
    """Load now: requests running and waiting, KV cells in use, tokens made a second over the last few seconds, RSS in bytes, threads that
    compute (fewer while other programs take CPUs), bytes in the store, seconds that the one who waits longest has waited. Since the start:
    tokens, seconds in steps and in the model alone, times that a request had to give way and that remembered text was evicted, seconds that
    a CPU quota held threads up."""

    id: str
    running: int
    waiting: int
    cells_used: int
    tokens_per_second: float
    memory: int
    prompt_tokens: int
    generated_tokens: int
    step_seconds: float = 0.0
    decode_seconds: float = 0.0
    preempted: int = 0
    stored: int = 0
    threads: int = 0
    evicted: int = 0
    throttled_seconds: float = 0.0
    waited: float = 0.0


@_message
@dataclass(frozen=True)
class Accepted:
    """engine → api, first for every request that is not refused: its prompt fits."""

    id: str
    prompt_tokens: int


@_message
@dataclass(frozen=True)
class Queued:
    """engine → api: the request waits; `position` 1 is next."""

    id: str
    position: int


@_message
@dataclass(frozen=True)
class Prefill:
    """engine → api: `done` of `total` prompt tokens are read, `cached` of them were in the KV cache already."""

    id: str
    done: int
    total: int
    cached: int


@_message
@dataclass(frozen=True)
class Delta:
    """engine → api: more text, whole characters only. `special`: the text is one token of the vocabulary's added
    tokens, such as `</think>`; a tag that the model merely spelled out comes with special False. `logprobs`, if asked for: of the tokens
    since the last delta; their bytes may be ahead of the text, which waits for whole characters and stop strings."""

    id: str
    text: str
    special: bool
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


@_message
@dataclass(frozen=True)
class Finished:
    """engine → api: the answer is complete. `reason` is stop, length, deadline, or loop: a text that went round in circles.
    Times are seconds; `queue` ends when prefill begins. `thought_ended`: "budget" or "loop" when the end of thinking was forced.
    `drafted_tokens` were guessed, `accepted_tokens` of them rightly. `stop`: the stop string that ended the answer, "" for none."""

    id: str
    reason: str
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    thought_tokens: int
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
    thought_ended: str = ""
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    stop: str = ""


@_message
@dataclass(frozen=True)
class Failed:
    """engine → api: no (more) answer. `code` is context_length_exceeded, overloaded, invalid, deadline, shutdown or internal.
    `retry_after`: seconds until another try may succeed, 0 when that is not known."""

    id: str
    code: str
    message: str
    prompt_tokens: int = 0
    limit: int = 0
    retry_after: int = 0


def encode(message: Message) -> bytes:
    """One message as bytes."""
    return bytes(msgpack.packb([type(message).__name__, vars(message)], use_bin_type=True, default=vars))


class Decoder:
    """Bytes in, messages out; keeps what is incomplete."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(raw=False, use_list=False, max_buffer_size=MAX_MESSAGE)

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes.

        Raises:
            WireError: unknown message, unknown field, not msgpack, or longer than MAX_MESSAGE.
        """
        try:
            self._unpacker.feed(data)
            for name, values in self._unpacker:
                if "sampling" in values:
                    values["sampling"] = Sampling(**values["sampling"])
                yield _kinds[name](**values)
        except (msgpack.exceptions.UnpackException, msgpack.exceptions.BufferFull, KeyError, TypeError, ValueError) as error:
            raise WireError(f"not a message of this version ({type(error).__name__})") from None  # the error would quote what was sent
