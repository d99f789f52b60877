"""Who is let in: whether a request can be answered at all, and what it starts with.

Knows nothing of steps or of how tokens are made. Plain Python.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Hashable
from typing import Protocol

from services.engine.delivery import THINK_END
from services.engine.scheduler import Scheduler
from services.engine.sequence import Sampler, Sequence
from services.engine.text import TextStream
from services.shared import wire

LONGEST = 600  # seconds after which to come again, at most
REMEMBERED = 16  # latest ends by whose pace that is estimated


class Answerer(Protocol):
    """What must be known of a model to let a request in."""

    @property
    def adapters(self) -> Collection[str]:
        """Names that a request may choose besides "", the model as it is."""
        ...

    @property
    def think_start(self) -> int | None: ...

    @property
    def think_end(self) -> int | None: ...

    def refusal(self, sampling: wire.Sampling) -> str | None:
        """Why it can't sample so, or None. From any thread."""
        ...

    def sampler(self, sampling: wire.Sampling) -> Sampler: ...


class Admission:
    """`context` is the most tokens that one sequence may have."""

    def __init__(self, model: Answerer, scheduler: Scheduler, context: int) -> None:
        self._model, self._scheduler, self._context = model, scheduler, context
        self._ended: deque[float] = deque([time.monotonic()], maxlen=REMEMBERED)

    def ended(self) -> None:
        """A request has ended."""
        self._ended.append(time.monotonic())

    def refusal(self, request: wire.Generate, tokens: list[int], coming: int = 0) -> wire.Failed | None:
        """Why a request with these tokens is not let in, or None. `coming`: how many have been let in who do not stand in the line yet."""
        rid, adapters, waiting = request.id, self._model.adapters, len(self._scheduler.waiting)
        if not tokens:
            return wire.Failed(rid, "invalid", "the prompt is empty: there is nothing to answer")
        if request.adapter and request.adapter not in adapters:
            return wire.Failed(rid, "invalid", f"there is no adapter {request.adapter!r}; loaded are: {', '.join(adapters) or 'none'}")
        if len(tokens) >= self._context:
            text = f"the prompt has {len(tokens)} tokens, but the context holds {self._context}, the answer included: shorten it"
            return wire.Failed(rid, "context_length_exceeded", text, len(tokens), self._context)
        if reason := self._model.refusal(request.sampling):
            return wire.Failed(rid, "invalid", reason)
        if self._scheduler.room <= coming:
            seconds = self._until_next()
            text = f"{waiting + coming} requests are waiting already: try again in about {seconds} s"
            return wire.Failed(rid, "overloaded", text, retry_after=seconds)
        return None

    def sequence(self, key: Hashable, request: wire.Generate, tokens: list[int]) -> Sequence:
        """What a request that is let in starts as."""
        by_text = request.in_thought and self._model.think_end is None
        sequence = Sequence(
            key,
            tokens,
            min(self._context, len(tokens) + request.max_tokens if request.max_tokens else self._context),
            self._model.sampler(request.sampling),
            TextStream(request.stop, after=THINK_END if by_text else None),
            user=request.user,
            adapter=request.adapter,
            ignore_eos=request.ignore_eos,
            in_thought=request.in_thought,
            thought_limit=request.thought_limit,
            expires=time.monotonic() + request.seconds if request.seconds else math.inf,
        )
        sequence.sampler.constrained = not request.in_thought
        sequence.sampler.exempt = self._model.think_start if request.may_think else None
        return sequence

    def _until_next(self) -> int:
        """Seconds until a place in the line becomes free, by the pace of the latest requests."""
        pace = (time.monotonic() - self._ended[0]) / len(self._ended)
        return max(1, min(LONGEST, math.ceil(pace)))
