"""How much one key may ask: requests a minute, tokens a minute, requests at once, as its line in the file of keys says.

What counts is POST: reading a list or a state costs nothing. Prompt and answer count as tokens once they are known, so an answer may
overdraw; the next request then waits longer. Kept in memory: a restart forgives.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import RateLimited
from services.shared import forms
from services.shared.secret import Limits, Secrets

Clock = Callable[[], float]
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

    def until(self, level: float) -> float:
        """Seconds until so much is in it."""
        return max(0.0, level - self.level()) * MINUTE / self.size


class Meter:
    """What one key has used of its limits."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.limits = limits
        self.requests = Bucket(limits.rpm, clock) if limits.rpm else None
        self.tokens = Bucket(limits.tpm, clock) if limits.tpm else None
        self.running = 0

    def admit(self) -> None:
        """Count one more request.

        Raises:
            RateLimited: it would be one too many.
        """
        if self.limits.concurrent and self.running >= self.limits.concurrent:
            raise _refused(f"this key may have {self.limits.concurrent} requests answered at once", 1.0)
        if self.tokens and self.tokens.level() < 1:
            raise _refused(f"this key may use {self.tokens.size} tokens a minute", self.tokens.until(1))
        if self.requests:
            if self.requests.level() < 1:
                raise _refused(f"this key may make {self.requests.size} requests a minute", self.requests.until(1))
            self.requests.take(1)

    def headers(self) -> dict[str, str]:
        """OpenAI's x-ratelimit headers; what is left is as known now."""
        found = {}
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket:
                found[f"x-ratelimit-limit-{name}"] = str(bucket.size)
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.level())))
                found[f"x-ratelimit-reset-{name}"] = duration(bucket.until(bucket.size))
        return found


def _refused(rule: str, wait: float) -> RateLimited:
    seconds = max(1, math.ceil(wait))
    return RateLimited(f"{rule}: try again in {seconds} s", retry_after=seconds)


def duration(seconds: float) -> str:
    """As OpenAI writes it: 450ms, 6.5s, 1m30s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"


class Meters:
    """One for each key that has limits; a key whose limits change starts afresh."""

    def __init__(self, keys: Secrets, clock: Clock = time.monotonic) -> None:
        self._keys, self._clock = keys, clock
        self._meters: dict[str, Meter] = {}

    def of(self, key: str) -> Meter | None:
        """The meter of a key, None when it has no limits."""
        limits = self._keys.limits(key)
        if not limits:
            self._meters.pop(key, None)
            return None
        meter = self._meters.get(key)
        if meter is None or meter.limits != limits:
            meter = self._meters[key] = Meter(limits, self._clock)
        return meter

    def spend(self, key: str, tokens: int) -> None:
        """So many tokens were read or made for this key."""
        if (meter := self.of(key)) and meter.tokens:
            meter.tokens.take(tokens)


class RateLimit:
    """Refuses with 429 what a key may not ask now, and tells on every response what it still may."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app, self._meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        meter = self._meters.of(scope["key"]) if scope["type"] == "http" and scope["key"] else None
        if meter is None:
            await self._app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.encode(), value.encode()) for name, value in meter.headers().items()]
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            await send(message)

        if scope["method"] != "POST":
            await self._app(scope, receive, told)
            return
        try:
            meter.admit()
        except RateLimited as error:
            await forms.response(scope, error)(scope, receive, told)
            return
        meter.running += 1
        try:
            await self._app(scope, receive, told)
        finally:
            meter.running -= 1
