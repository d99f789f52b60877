"""A real Redis for the limits of keys, with the settings of the image: docker/redis.conf."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.api.scripted import until
from tests.conftest import ROOT, free_port

REDIS = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(REDIS is None and os.environ.get("CI") != "true", reason="no redis-server here")


class Counting:
    """`url` is where it listens, also after it was killed and started again."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}?socket_timeout=4"  # this machine may be busy
        self._home = home
        self.client: Any = redis.Redis(port=self.port, decode_responses=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert REDIS
        command = [REDIS, ROOT / "docker/redis.conf", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._home]
        self._process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self._process
        self._process.wait(20)

    def pass_time(self, seconds: float) -> None:
        """As if so much time had gone by since all that it knows."""
        for key in self.client.scan_iter("cloister:*:levels"):
            self.client.hincrbyfloat(key, "at", -1000 * seconds)
        for key in self.client.scan_iter("cloister:*:running"):
            for lease in self.client.zrange(key, 0, -1):
                self.client.zincrby(key, -1000 * seconds, lease)


@contextmanager
def counting(home: Path) -> Iterator[Counting]:
    there = Counting(home)
    there.start()
    try:
        yield there
    finally:
        there.kill()
        there.client.close()
