"""One request's tokens and where it stands: waiting, reading its prompt, writing its answer, done.

Plain Python: knows nothing of llama_cpp, of slots' contents or of the other sequences.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from services.engine.text import TextStream
from services.shared.wire import TokenLogprob


class SamplingError(RuntimeError):
    """No token can be chosen for this sequence; the others are not concerned."""


class Logprobs(NamedTuple):
    """Logarithms of probabilities: of the token that was sampled, and (token, logarithm) of the most likely ones, best first."""

    chosen: float
    top: tuple[tuple[int, float], ...]


class Sampler(Protocol):
    """Chooses the next token of one sequence from the logits that a decode left at an output row.

    `constrained`: the request's grammar counts; for the engine to switch. `exempt`: a token that may come although the grammar counts,
    for the engine to set. `logprobs`: of the token sampled last, if asked for.
    """

    constrained: bool
    exempt: int | None

    @property
    def logprobs(self) -> Logprobs | None: ...

    def sample(self, row: int) -> int:
        """The next token. A row can be sampled once.

        Raises:
            SamplingError: there is none.
        """
        ...

    def accept(self, token: int) -> None:
        """Take note of a token that was not sampled but put there.

        Raises:
            SamplingError: the grammar counts and does not allow it.
        """
        ...

    def close(self) -> None: ...


class NoSampler:
    """Of a sequence that is only read."""

    constrained = False
    exempt: int | None = None
    logprobs = None

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
    scored: logprobs of tokens whose text is not delivered yet.
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
    scored: list[TokenLogprob] = field(default_factory=list)

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
