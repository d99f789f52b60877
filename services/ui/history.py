"""The last hour in figures: how fast, how many, how much, every few seconds, so that a plot is there when somebody looks.

Holds numbers only, and only so many. Where the API did not answer, or had no engine, there is a gap. Knows nothing of plots.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.ui.client import Status

EVERY = 5.0  # seconds
KEPT = 720  # samples: an hour
LATE = 2.5  # times EVERY between two samples, from which on something is missing between them

FIGURES = {
    "speed": ("engine", "tokens_per_second"),
    "running": ("engine", "running"),
    "waiting": ("engine", "waiting"),
    "cells": ("engine", "cells_used"),
    "memory": ("engine", "memory"),
}


def clock() -> float:
    """Seconds that also pass while the machine sleeps, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Sample:
    """Figures at one time; none of them: a gap."""

    at: float
    figures: dict[str, float]


class History:
    """`look` tells how the API is. Samples are taken while `record` runs."""

    def __init__(
        self, look: Callable[[], Awaitable[Status]], *, every: float = EVERY, kept: int = KEPT, clock: Callable[[], float] = clock
    ) -> None:
        self._look, self._every, self._clock = look, every, clock
        self._samples: deque[Sample] = deque(maxlen=kept)

    async def record(self) -> None:
        """Take samples until cancelled."""
        while True:
            self.add(await self._look())
            await asyncio.sleep(self._every)

    def add(self, status: Status) -> None:
        """One sample; after a time without any, a gap before it."""
        at = self._clock()
        if self._samples and at - self._samples[-1].at > LATE * self._every:
            self._samples.append(Sample(self._samples[-1].at + self._every, {}))
        found = {name: status.told.number(*path) for name, path in FIGURES.items()}
        if (used := _used(status)) is not None:
            found["used"] = used
        self._samples.append(Sample(at, {name: value for name, value in found.items() if value is not None}))

    def samples(self) -> tuple[Sample, ...]:
        """Oldest first."""
        return tuple(self._samples)

    def now(self) -> float:
        """The time that samples are compared with."""
        return self._clock()

    def age(self) -> float:
        """Seconds since the oldest sample."""
        return self._clock() - self._samples[0].at if self._samples else 0.0

    def lately(self, name: str, seconds: float) -> float | None:
        """The mean of a figure over the last so many seconds, of the samples in which it was more than nothing; None without any."""
        since = self.now() - seconds
        values = [value for sample in self._samples if sample.at >= since and (value := sample.figures.get(name, 0.0)) > 0]
        return sum(values) / len(values) if values else None


def _used(status: Status) -> float | None:
    """Bytes of the machine's memory that all programs together hold."""
    memory, available = status.told.number("machine", "memory"), status.told.number("machine", "memory_available")
    return None if memory is None or available is None else max(0.0, memory - available)
