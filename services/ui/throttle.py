"""How fast passwords may be guessed: after a few failures each further one makes the next guess wait longer.

Counts by device, address, name typed and overall, and keeps nothing readable of any of them. A guess that comes too early is not
looked at and does not count, so nobody can make somebody else's wait longer than the longest of its kind. Knows no passwords.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["device", "address", "name", "all"]
Key = tuple[Kind, bytes]


@dataclass(frozen=True)
class Rule:
    """Failures that cost nothing, and the most seconds that one more may cost; the first costs one second, each next twice as much."""

    free: int
    longest: float

    def delay(self, failures: int) -> float:
        """Seconds from the last failure to the next guess."""
        return min(self.longest, 2.0 ** min(failures - self.free - 1, 60)) if failures > self.free else 0.0


# Whoever shares one of the last three with a stranger who guesses on and on shares the wait too: that is why those are short. A device
# that somebody has logged in from before is counted by itself, whatever others do.
RULES: dict[Kind, Rule] = {"device": Rule(5, 900), "address": Rule(5, 60), "name": Rule(10, 30), "all": Rule(30, 5)}
FORGET = 3600.0  # seconds after the last failure
MOST = 10_000  # keys that are counted at once; beyond them the one that failed longest ago is forgotten


class Throttle:
    """Failures by key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._failures: OrderedDict[Key, tuple[int, float]] = OrderedDict()

    def key(self, kind: Kind, value: str = "") -> Key:
        """What is counted; the value can't be read from it."""
        return kind, hashlib.blake2b(value.encode("utf-8", "replace"), key=self._salt, digest_size=16).digest()

    def wait(self, keys: Iterable[Key]) -> float:
        """Seconds until a guess with all these keys is looked at; 0 when it is now."""
        now = self._clock()
        return max([0.0, *(self._until(key, now) - now for key in keys)])

    def failed(self, keys: Iterable[Key]) -> None:
        """Count one wrong guess."""
        now = self._clock()
        for key in keys:
            self._failures[key] = self._known(key, now)[0] + 1, now
            self._failures.move_to_end(key)
        while len(self._failures) > MOST:
            self._failures.popitem(last=False)

    def passed(self, keys: Iterable[Key]) -> None:
        """A right one: the name is trusted again. Address and overall stay as they are, or one's own password would pay for guesses."""
        for key in keys:
            if key[0] in ("device", "name"):
                self._failures.pop(key, None)

    def _until(self, key: Key, now: float) -> float:
        failures, last = self._known(key, now)
        return last + RULES[key[0]].delay(failures)

    def _known(self, key: Key, now: float) -> tuple[int, float]:
        failures, last = self._failures.get(key, (0, now))
        return (0, now) if now - last > FORGET else (failures, last)
