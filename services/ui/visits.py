"""Who has logged in: one visit a login, known by a random token of which only a hash is kept, in memory alone.

A visit ends when its person logs out, when its password is changed or removed, after IDLE without anything done, and LONGEST after
the login. Also tells what a browser keeps to show that somebody has logged in from it before. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.shared.secret import Secrets, digest

IDLE = 12 * 3600.0
LONGEST = 7 * 24 * 3600.0
MOST = 50  # visits of one person at once: a further one ends the one that was idle longest
SIZE = 32  # random bytes of a token


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def identity(person: str) -> str:
    """What a page and its browser call a person: not the name, the same after every login and for every password."""
    return hashlib.sha256(f"cloister person {person}".encode()).hexdigest()[:16]


@dataclass(eq=False)
class Visit:
    """One login. `ended` is for whatever still runs for it."""

    person: str
    password: bytes  # the hash of the password that opened it
    began: float
    seen: float  # when something was done last
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Visits:
    """All visits. `clock` counts seconds, also while the machine sleeps."""

    def __init__(self, passwords: Secrets, clock: Callable[[], float] = _since_boot) -> None:
        self._passwords, self._clock = passwords, clock
        self._visits: dict[bytes, Visit] = {}

    def __len__(self) -> int:
        return len(self._visits)

    def begin(self, person: str) -> str:
        """Somebody has given this person's password; the token of the visit."""
        self.sweep()
        own = sorted((visit for visit in self._visits.values() if visit.person == person), key=lambda visit: visit.seen)
        for visit in own[: max(0, len(own) - MOST + 1)]:
            self.end(visit)
        token, now = secrets.token_urlsafe(SIZE), self._clock()
        self._visits[digest(token)] = Visit(person, self._passwords.hash(person), now, now)
        return token

    def find(self, token: str, *, act: bool) -> Visit | None:
        """The visit of a token, or None when there is none or no longer; `act`: its person does something now."""
        visit = self._visits.get(digest(token))
        if visit is None:
            return None
        if not self._lasts(visit):
            self.end(visit)
            return None
        if act:
            visit.seen = self._clock()
        return visit

    def end(self, visit: Visit) -> None:
        """End a visit and what runs for it."""
        visit.ended.set()
        self._visits = {key: other for key, other in self._visits.items() if other is not visit}

    def sweep(self) -> None:
        """End all that are over, also where nobody comes any more: their streams may be open."""
        for visit in [visit for visit in self._visits.values() if not self._lasts(visit)]:
            self.end(visit)

    def _lasts(self, visit: Visit) -> bool:
        now, known = self._clock(), self._passwords.hash(visit.person)
        return known == visit.password != b"" and now - visit.seen <= IDLE and now - visit.began <= LONGEST

    # The device

    def device(self, person: str) -> str:
        """For a browser to keep once this person has logged in with it. Nothing of it is kept here; it holds as long as the password."""
        mark = secrets.token_urlsafe(12)
        return f"{mark}.{_seal(self._passwords.hash(person), mark)}"

    def knows(self, device: str) -> bool:
        """Has somebody who still has that password logged in with the browser that keeps this?"""
        mark, _, seal = device.partition(".")
        given = seal.encode("utf-8", "replace")
        found = [hmac.compare_digest(_seal(self._passwords.hash(person), mark).encode(), given) for person in self._passwords.names()]
        return any(found)


def _seal(password: bytes, mark: str) -> str:
    return hmac.new(password, f"cloister device {mark}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()
