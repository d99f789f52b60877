"""SIGTERM to supervisord, as `docker stop` and scripts/down send it, during answers of the real engine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.api.apart import reachable
from tests.api.reader import Reader
from tests.api.scripted import until
from tests.conftest import ROOT, environment, free_port

LENGTH = 300  # tokens
STREAMS = 4


class Supervised:
    """Engine and API under the supervisord of the api container, with the demo model."""

    def __init__(self, volume: Path, home: Path, grace: int) -> None:
        port = free_port()
        supervise = {"RUN": home / "run", "LOGS": home, "UI": "false", "GRACE": grace + 5}
        env = environment(home, PATHS__VOLUME=volume, API__PORT=port, API__GRACE=grace)
        env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | {f"SUPERVISE_{k}": str(v) for k, v in supervise.items()}
        (home / "run").mkdir()
        self.url, self.home = f"http://127.0.0.1:{port}", home
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", "config/supervisord.conf"]
        with (home / "out").open("wb") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out)
        until(lambda: reachable(self.url + "/readyz") == 200)

    def log(self) -> str:
        return (self.home / "supervisord.log").read_text()

    def asked(self) -> list[Reader]:
        """Answers that are under way."""
        body = {"messages": [{"role": "user", "content": "17 × 6?"}], "stream": True, "ignore_eos": True, "max_tokens": LENGTH}
        streams = [Reader(self.url, body=body) for _ in range(STREAMS)]
        until(lambda: all(stream.said.count("data: ") > 5 for stream in streams))
        return streams


@contextlib.contextmanager
def supervised(volume: Path, home: Path, grace: int) -> Iterator[Supervised]:
    running = Supervised(volume, home, grace)
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait(60)


def test_answers_under_way_come_to_their_end_and_the_engine_stops_after_the_api(demo_volume: Path, tmp_path: Path) -> None:
    with supervised(demo_volume, tmp_path, grace=120) as running:
        streams = running.asked()
        running.process.send_signal(signal.SIGTERM)
        assert all(stream.is_alive() for stream in streams), "they are under way still"
        assert all(stream.whole() and '"finish_reason":"length"' in stream.said for stream in streams)
        running.process.wait(60)
        log = running.log()
        assert 0 < log.index("stopped: api") < log.index("stopped: engine")
        assert "SIGKILL" not in log


def test_answers_that_take_too_long_end_with_an_error(demo_volume: Path, tmp_path: Path) -> None:
    with supervised(demo_volume, tmp_path, grace=0) as running:
        streams = running.asked()
        running.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        running.process.wait(60)
        assert time.monotonic() - began < 30
        for stream in streams:
            stream.join(60)
            assert not stream.broken and '"code":"unavailable"' in stream.said.splitlines()[-2], stream.said[-500:]
