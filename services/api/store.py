"""The same limits over several replicas: each key is counted in a Redis that all of them ask, by one script (store.lua) that is atomic.

While the store is away or slow, a replica counts for itself, from where it knew things to stand; no request fails because of it. In the
store are hashes of names of keys, and numbers. Why so: docs/decisions/0008-limits-over-all-replicas.md
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.api.meters import Clock, Meter, Rule, new_lease
from services.shared import logs
from services.shared.secret import NO_LIMITS, Limits
from services.shared.settings import SettingsError

log = logging.getLogger("api")
SCRIPT = Path(__file__).with_name("store.lua").read_text(encoding="utf-8")
WITHIN = 0.5  # seconds that the store has to answer, unless its address says ?socket_timeout=; a request waits for so long once
RENEW = 1.0  # seconds between two looks: is it there, and what is still being answered here
LEASE = 5000  # ms that a request counts as being answered after it was last renewed: a replica that was killed renews nothing
SOON = 0.05  # seconds
CONNECTIONS = 8
TRIAL = ("renew", NO_LIMITS, ("trial",))  # is it there? It writes, as all others do


class Store:
    """The connection, whether anybody answers, and the meters that count there.

    Raises:
        SettingsError: the address is none.
    """

    def __init__(self, url: str) -> None:
        patience = {"socket_timeout": WITHIN, "retry": Retry(NoBackoff(), 0)}  # what is sent twice would count twice
        try:
            pool = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, decode_responses=True, **patience)
        except ValueError:  # its message may repeat a password
            raise SettingsError("[api] store must be an address such as redis://store:6379") from None
        self._within = float(pool.connection_kwargs["socket_timeout"])
        self._client: Any = Redis.from_pool(pool)
        self._script = self._client.register_script(SCRIPT)
        self._answering: set[SharedMeter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.away = False

    def meter(self, name: str, limits: Limits) -> SharedMeter:
        """What the key of this name has used, anywhere."""
        return SharedMeter(name, limits, self)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """In here it is looked after."""
        await self.ask("trial", *TRIAL)  # the first connection takes longest
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.wait([keeper, *self._tasks])
            await self._client.aclose()

    async def ask(self, mark: str, verb: str, limits: Limits, leases: tuple[str, ...], spent: int = 0) -> list[str] | None:
        """What the script returns; None while the store is away."""
        if self.away:
            return None
        try:
            return await self._ask(mark, verb, limits, leases, spent)
        except Exception as error:  # whatever it is: no request fails because of it
            if not self.away:
                log.warning("the store of limits is away: this replica counts for itself %s", logs.facts(reason=type(error).__name__))
            self.away = True
            return None

    async def _ask(self, mark: str, verb: str, limits: Limits, leases: tuple[str, ...], spent: int = 0) -> list[str]:
        keys = [f"cloister:{mark}:levels", f"cloister:{mark}:running"]
        async with asyncio.timeout(self._within):
            found: list[str] = await self._script(keys, [verb, limits.rpm, limits.tpm, limits.concurrent, spent, LEASE, *leases])
        return found

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW)
            if self.away:
                with contextlib.suppress(Exception):
                    await self._client.connection_pool.disconnect(inuse_connections=False)  # they may lead to a node that is gone
                    await self._ask("trial", *TRIAL)
                    self.away = False
                    log.info("the store of limits is back")
            for meter in list(self._answering):
                await meter.renew()

    def watch(self, meter: SharedMeter) -> None:
        """Renew what this meter has running, or no more when that is nothing."""
        if meter.running and meter.limits.concurrent:
            self._answering.add(meter)
        else:
            self._answering.discard(meter)

    def soon(self, meter: SharedMeter) -> None:
        """Settle what it has spent, unless the end of a request does so anyway: that saves a round trip."""

        async def settled() -> None:
            await asyncio.sleep(SOON)
            await meter.settle()

        task = asyncio.create_task(settled())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class SharedMeter(Meter):
    """What one key has used of its limits, on all replicas. Its own buckets follow those in the store."""

    def __init__(self, name: str, limits: Limits, store: Store, clock: Clock = time.monotonic) -> None:
        super().__init__(limits, clock)
        self._mark = hashlib.sha256(f"{name} {limits.rpm} {limits.tpm} {limits.concurrent}".encode()).hexdigest()[:32]
        self._store = store
        self._unsaid = 0  # tokens that the store does not know of
        self._order = asyncio.Lock()  # what is renewed here is not overtaken by its release

    async def look(self) -> None:
        await self._ask("look", ())

    async def admit(self) -> str:
        lease = new_lease()
        refused = await self._ask("admit", self._told(lease))
        if refused:
            raise self.refusal(refused)
        if refused is None:
            lease = await super().admit()
        self.running.add(lease)
        self._store.watch(self)
        return lease

    async def release(self, lease: str) -> None:
        if lease in self.running:
            await super().release(lease)
            self._store.watch(self)
            await self.settle(*self._told(lease))

    async def renew(self) -> None:
        """Say that what runs here still runs."""
        async with self._order:
            await self._ask("renew", self._told(*self.running))

    def spend(self, tokens: int) -> None:
        super().spend(tokens)
        if self.tokens:
            self._unsaid += tokens
            self._store.soon(self)

    async def settle(self, *leases: str) -> None:
        """Say what was spent since it was said last, and that these are answered."""
        async with self._order:
            spent, self._unsaid = self._unsaid, 0
            if spent or leases:
                await self._ask("settle", leases, spent)

    def _told(self, *leases: str) -> tuple[str, ...]:
        """Those of them that the store wants to know of: none when there is no limit to them."""
        return leases if self.limits.concurrent else ()

    async def _ask(self, verb: str, leases: tuple[str, ...], spent: int = 0) -> Rule | None:
        """Which rule forbids it, empty for none; None when nobody was there to say so."""
        found = await self._store.ask(self._mark, verb, self.limits, leases, spent)
        if found is None:
            return None
        rule, requests, tokens = found
        if self.requests:
            self.requests.set(float(requests))
        if self.tokens:
            self.tokens.set(float(tokens) - self._unsaid)
        return cast(Rule, rule)
