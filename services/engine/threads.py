"""How many threads compute: one fewer while other programs want the CPUs, all again when they have gone.

All threads of a step wait for the slowest. One that shares its CPU with another program makes the others wait for it at each of some
hundred barriers; a thread fewer is faster then (docs/performance.md). Knows nothing of the model. Plain Python.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from services.shared import logs

log = logging.getLogger("engine")
LOOK = 1.0  # seconds of computing between two looks
CROWDED = 0.5  # CPUs taken away, from which a thread gives way; the API beside a quiet decode takes 0.01 to 0.03, one busy program 0.9
PATIENCE = 2.0  # seconds until the thread is tried again, and twice as long each time that this was too early
LONGEST = 60.0
LOOKS = 2  # in a row that must find it crowded: requests that arrive together take CPUs too, but not for long
RESTED = 0.1  # seconds without computing after which a look begins anew


class Threads:
    """`most` threads may compute. `waited`: seconds that this process's threads were ready and had no CPU, all in all."""

    def __init__(self, most: int, waited: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self.count = self._most = most
        self._waited, self._clock = waited, clock
        self._before, self._worked = waited(), 0.0
        self._patience = PATIENCE
        self._changed = self._seen = clock()
        self._tried = False  # the last change was to try one more
        self._looks = 0  # in a row, that found it crowded

    def worked(self, seconds: float) -> int:
        """A step took so long; threads for the next one."""
        now = self._clock()
        rested, self._seen = now - self._seen - seconds > RESTED, now
        if rested:  # what happened meanwhile says nothing
            self._before, self._worked = self._waited(), 0.0
            return self.count
        self._worked += seconds
        if self._most == 1 or self._worked < LOOK:
            return self.count
        waited = self._waited()
        taken = (waited - self._before) / self._worked
        self._before, self._worked = waited, 0.0
        self._looks = self._looks + 1 if taken > CROWDED else 0
        if self._looks >= (1 if self._tried else LOOKS) and self.count > 1:
            early = self._tried and now - self._changed < PATIENCE
            self._patience = min(2 * self._patience, LONGEST) if early else PATIENCE
            self._change(self.count - 1, now, taken)
        elif self.count < self._most and now - self._changed >= self._patience:
            self._change(self.count + 1, now, taken)
        return self.count

    def _change(self, count: int, now: float, taken: float) -> None:
        log.debug("threads %s", logs.facts(count=count, of=self._most, cpus_taken=f"{taken:.2f}"))
        self.count, self._changed, self._tried = count, now, count > self.count


def waited() -> float:
    """Seconds that the threads of this process were ready to run and had no CPU, by /proc/self/task/*/schedstat (the second number,
    nanoseconds: https://docs.kernel.org/scheduler/sched-stats.html). Always 0 where the kernel does not count them."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return total / 1e9
