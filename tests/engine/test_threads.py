"""A thread gives way while other programs take CPUs away, and comes back when they have gone."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

from services.engine.threads import LONGEST, LOOK, LOOKS, PATIENCE, Threads, waited


class Machine:
    """A clock, and a CPU share that other programs take while threads compute."""

    def __init__(self, most: int) -> None:
        self.now, self.lost, self.taken = 100.0, 0.0, 0.0
        self.threads = Threads(most, lambda: self.lost, lambda: self.now)

    def compute(self, seconds: float, step: float = 0.05) -> int:
        end = self.now + seconds - step / 2
        while self.now < end:
            self.now += step
            self.lost += step * self.taken
            self.threads.worked(step)
        return self.threads.count


def test_a_quiet_machine_keeps_all_threads() -> None:
    machine = Machine(4)
    machine.taken = 0.03
    assert machine.compute(60) == 4


def test_a_crowded_one_gives_threads_away_until_it_is_quiet() -> None:
    machine = Machine(4)
    machine.taken = 0.9
    assert machine.compute(LOOK * LOOKS) == 3
    machine.taken = 0.0
    assert machine.compute(PATIENCE / 2) == 3
    assert machine.compute(PATIENCE + LOOK) == 4


def test_a_burst_takes_no_thread() -> None:
    machine = Machine(4)
    for _ in range(20):
        machine.taken = 0.9
        assert machine.compute(LOOK) == 4
        machine.taken = 0.1
        assert machine.compute(LOOK) == 4


def test_one_thread_always_stays() -> None:
    machine = Machine(2)
    machine.taken = 2.0
    assert machine.compute(3) == 1


def test_another_try_comes_later_each_time_and_not_after_an_hour() -> None:
    machine = Machine(2)
    tries, count = [], 2
    for _ in range(12000):
        machine.taken = 0.9 if machine.threads.count == 2 else 0.0
        after = machine.compute(0.05)
        if after > count:
            tries.append(machine.now)
        count = after
    waits = [b - a for a, b in itertools.pairwise(tries)]
    assert waits[1] > 1.5 * waits[0] and waits[-1] > LONGEST - LOOK and max(waits) <= LONGEST + 2.1 * LOOK
    machine.taken = 0.0
    assert machine.compute(LONGEST + LOOK) == 2


def test_what_happens_between_two_requests_does_not_count() -> None:
    machine = Machine(2)
    machine.compute(1)
    for _ in range(20):
        machine.now += 60
        machine.lost += 5
        assert machine.compute(0.2) == 2


def test_the_kernel_tells_how_long_threads_wait_for_a_cpu() -> None:
    """A busy thread on one CPU beside another busy process there waits for about half of the time."""
    allowed = os.sched_getaffinity(0)
    cpu = min(allowed)
    other = subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"])
    try:
        os.sched_setaffinity(0, {cpu})  # of this thread alone
        before, end = waited(), time.monotonic() + 1.5
        while time.monotonic() < end:
            pass
        assert waited() - before > 0.3
    finally:
        os.sched_setaffinity(0, allowed)
        other.kill()
        other.wait()
