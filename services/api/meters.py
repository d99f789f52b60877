"""What each key has used of its limits, counted by this process alone. Knows nothing of HTTP, nor of other replicas (store.py)."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable
from typing import Literal

from services.api.errors import RateLimited
from services.shared.secret import Limits, Secrets

Clock = Callable[[], float]
Rule = Literal["", "concurrent", "tokens", "requests"]  # what forbids a request; empty: nothing does
MINUTE = 60.0


class Bucket:
    """Holds `size`, and is filled by as much a minute. Its level may fall below nothing."""

    def __init__(self, size: int, clock: Clock) -> None:
        self.size, self._clock = size, clock
        self._level, self._at = float(size), clock()

    def level(self) -> float:
        now = self._clock()
        self._level = min(self.size, self._level + (now - self._at) * self.size / MINUTE)
        self._at = now
        return self._level

    def take(self, amount: int) -> None:
        self._level = self.level() - amount

    def set(self, level: float) -> None:
        """It is known from elsewhere that so much is in it now."""
        self._level, self._at = level, self._clock()

    def until(self, level: float) -> float:
        """Seconds until so much is in it."""
        return max(0.0, level - self.level()) * MINUTE / self.size


class Meter:
    """What one key has used of its limits."""

    def __init__(self, limits: Limits, clock: Clock = time.monotonic) -> None:
        self.limits = limits
        self.requests = Bucket(limits.rpm, clock) if limits.rpm else None
        self.tokens = Bucket(limits.tpm, clock) if limits.tpm else None
        self.running: set[str] = set()  # requests that are being answered

    async def look(self) -> None:
        """Learn how things stand, for `headers`."""

    async def admit(self) -> str:
        """Count one more request; what `release` wants to be told when it is answered.

        Raises:
            RateLimited: it would be one too many.
        """
        if self.limits.concurrent and len(self.running) >= self.limits.concurrent:
            raise self.refusal("concurrent")
        if self.tokens and self.tokens.level() < 1:
            raise self.refusal("tokens")
        if self.requests:
            if self.requests.level() < 1:
                raise self.refusal("requests")
            self.requests.take(1)
        lease = new_lease()
        self.running.add(lease)
        return lease

    async def release(self, lease: str) -> None:
        """It is answered; said again, it means nothing."""
        self.running.discard(lease)

    def spend(self, tokens: int) -> None:
        """So many tokens were read or made."""
        if self.tokens:
            self.tokens.take(tokens)

    def refusal(self, rule: Rule) -> RateLimited:
        """What to say when this rule forbids a request."""
        if rule == "tokens" and self.tokens:
            return _refused(f"this key may use {self.tokens.size} tokens a minute", self.tokens.until(1))
        if rule == "requests" and self.requests:
            return _refused(f"this key may make {self.requests.size} requests a minute", self.requests.until(1))
        return _refused(f"this key may have {self.limits.concurrent} requests answered at once", 1.0)

    def headers(self) -> dict[str, str]:
        """OpenAI's x-ratelimit headers; what is left is as known now."""
        found = {}
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket:
                found[f"x-ratelimit-limit-{name}"] = str(bucket.size)
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.level())))
                found[f"x-ratelimit-reset-{name}"] = duration(bucket.until(bucket.size))
        return found


def new_lease() -> str:
    """A name for one request that is being answered."""
    return secrets.token_hex(8)


def _refused(rule: str, wait: float) -> RateLimited:
    seconds = max(1, math.ceil(wait))
    return RateLimited(f"{rule}: try again in {seconds} s", retry_after=seconds)


def duration(seconds: float) -> str:
    """As OpenAI writes it: 450ms, 6.5s, 1m30s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"


def alone(name: str, limits: Limits) -> Meter:
    """A meter that counts by itself, whatever the key is called."""
    return Meter(limits)


class Meters:
    """One for each key that has limits; a key whose limits change starts afresh. `make` makes one for a key's name and limits."""

    def __init__(self, keys: Secrets, make: Callable[[str, Limits], Meter] = alone) -> None:
        self._keys, self._make = keys, make
        self._meters: dict[str, Meter] = {}

    def of(self, key: str) -> Meter | None:
        """The meter of a key, None when it has no limits."""
        limits = self._keys.limits(key)
        if not limits:
            self._meters.pop(key, None)
            return None
        meter = self._meters.get(key)
        if meter is None or meter.limits != limits:
            meter = self._meters[key] = self._make(key, limits)
        return meter

    def spend(self, key: str, tokens: int) -> None:
        """So many tokens were read or made for this key."""
        if meter := self.of(key):
            meter.spend(tokens)
