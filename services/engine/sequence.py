"""One request's tokens and where it stands: waiting, reading its prompt, writing its answer, done.

Plain Python: knows nothing of llama_cpp, of slots' contents or of the other sequences.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from services.engine.text import TextStream


class Sampler(Protocol):
    """Chooses the next token of one sequence from the logits that a decode left at an output row."""

    def sample(self, row: int) -> int: ...

    def accept(self, token: int) -> None:
        """This token comes next without having been sampled."""
        ...

    def close(self) -> None: ...


class NoSampler:
    """Of a sequence that is only read."""

    def sample(self, row: int) -> int:
        raise AssertionError("a background sequence has no logits")

    def accept(self, token: int) -> None:
        """Nothing depends on it."""

    def close(self) -> None:
        """Nothing is held."""


@dataclass(eq=False)
class Sequence:
    """A request on its way, or a background sequence: tokens that are only read, for the next turn of a conversation.

    tokens: prompt and answer so far. computed: how many of them the KV cache holds, always a prefix. limit: tokens at which the
    answer must end, prompt included. in_thought: between a thinking token and its end. cached: prompt tokens that were not computed
    for this request because the KV cache had them. forced: tokens that come next instead of sampled ones. thought_limit: thought
    tokens after which the end of thinking is forced, None for no limit. expires: when it must end, by time.monotonic().
    """

    key: object
    tokens: list[int]
    limit: int
    sampler: Sampler
    text: TextStream
    user: str = ""
    adapter: str = ""
    ignore_eos: bool = False
    in_thought: bool = False
    thought_limit: int | None = None
    expires: float = float("inf")
    background: bool = False
    slot: int | None = None
    computed: int = 0
    cached: int = 0
    thought: int = 0
    drafted: int = 0
    accepted: int = 0
    thought_ended: str = ""
    forced: deque[int] = field(default_factory=deque)
    prompt_length: int = field(init=False)
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None
    answering: float | None = None

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)

    @property
    def pending(self) -> int:
        """Tokens that still have to go through the model before the next one can be sampled."""
        return len(self.tokens) - self.computed

    @property
    def decoding(self) -> bool:
        """The prompt is read and one sampled token waits to be computed."""
        return self.pending == 1 and len(self.tokens) > self.prompt_length

    @property
    def generated(self) -> int:
        """Tokens of the answer so far, thoughts included."""
        return len(self.tokens) - self.prompt_length
