"""The API as a process of its own, so that it can be sent signals, before the scripted engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.api.scripted import PATIENCE, ScriptedEngine, Stand, until
from tests.conftest import ROOT, environment


class Apart(Stand):
    """`python -m services.api` on `host`; its engine and files are those of a Stand."""

    def __init__(self, home: Path, *, host: str = "127.0.0.1", port: int = 0, **config: object) -> None:
        super().__init__(home, **config)
        self.port = port or self.port
        self.url = f"http://{host}:{self.port}"
        self.process: subprocess.Popen[bytes]
        self._env = environment(home, **{**config, "API__HOST": host, "API__PORT": self.port})

    async def _run(self) -> None:
        self.loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self.engine = ScriptedEngine(self.config.paths.socket, self.model)
        self.engine.waiting = 0
        await self.engine.start()
        self._started.set()
        await self._ended.wait()
        await self.engine.stop()

    def launch(self) -> None:
        """Start the process; returns when it is ready."""
        with (self.home / "api.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "services.api"], cwd=ROOT, env=self._env, stdout=log, stderr=log)
        until(lambda: self.says("/readyz") == 200)

    def says(self, path: str) -> int:
        return reachable(self.url + path)

    def told(self, *signals: int) -> float:
        """Send signals; time.monotonic() of the last one. Returns when they have come."""
        for number in signals:
            began = time.monotonic()
            self.process.send_signal(number)
            until(lambda: self.says("/readyz") != 200)  # two at once would be one
        return began

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(PATIENCE)


def reachable(url: str) -> int:
    """The status of a GET; 0 when nobody answers."""
    try:
        return httpx.get(url, timeout=30).status_code
    except httpx.TransportError:
        return 0


@contextmanager
def apart(home: Path, *, host: str = "127.0.0.1", port: int = 0, **config: object) -> Iterator[Apart]:
    """Running, and gone in the end, whatever its state."""
    standing = Apart(home, host=host, port=port, **config)
    standing.start()
    standing.launch()
    try:
        yield standing
    finally:
        standing.stop()
