"""The one thread that owns the engine: takes commands from an inbox, steps, and hands messages out.

Native state is touched by this thread only. Other threads talk to it through the inbox.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Hashable
from typing import Protocol

from services.engine.engine import Engine
from services.shared import wire

log = logging.getLogger("engine")


class Interruptible(Protocol):
    """A model whose decode can be cut short from another thread."""

    def abort(self) -> None: ...

    def rearm(self) -> None: ...


class Worker(threading.Thread):
    """Steps the engine while there is work and sleeps on the inbox while there is none.

    `failed` is called from this thread when the engine can't go on.
    """

    def __init__(self, engine: Engine, model: Interruptible, *, failed: Callable[[], None]) -> None:
        super().__init__(name="engine", daemon=True)
        self._engine = engine
        self._model = model
        self._failed = failed
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        engine.called = lambda: not self._inbox.empty()

    def call(self, command: Callable[[], None]) -> None:
        """Run a command between two steps."""
        self._inbox.put(command)

    def submit(self, key: Hashable, request: wire.Generate, tokens: list[int]) -> None:
        """Answer this request, whose prompt has these tokens."""
        self.call(lambda: self._engine.submit(key, request, tokens))
        if self._engine.yielding:
            self._model.abort()

    def prepare(self, tokens: list[int], adapter: str) -> None:
        """Read these tokens when there is nothing else to do."""
        self.call(lambda: self._engine.prepare(tokens, adapter))

    def cancel(self, key: Hashable) -> None:
        """Forget this request; a long decode under way is cut short for it."""
        self.call(lambda: self._engine.cancel(key))
        if self._engine.interruptible(key):
            self._model.abort()

    def stop(self) -> None:
        """End the thread after telling every request that the engine goes down."""
        self._inbox.put(None)
        self._model.abort()

    def run(self) -> None:
        try:
            busy = False
            while self._drain(wait=not busy):
                busy = self._engine.step()
        except Exception:
            log.exception("the engine can't go on and will be restarted")
            self._engine.fail_all("internal", "the engine failed and is being restarted: ask again in a moment")
            self._engine.flush()
            self._failed()

    def _drain(self, *, wait: bool) -> bool:
        """Run all commands in the inbox; False when one of them was to stop."""
        if not wait:
            self._model.rearm()  # before reading the inbox: a cancel that comes later cuts the coming decode short
        while True:
            try:
                command = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            if wait:
                self._model.rearm()
                wait = False
            if command is None:
                self._engine.fail_all("shutdown", "the engine is being shut down")
                self._engine.flush()
                return False
            command()
