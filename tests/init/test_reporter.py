"""Progress as others see it: the file, the lines of a log, the bars of a terminal."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from services.init.reporter import Reporter
from services.shared import progress
from tests.conftest import ROOT, environment
from tests.init.conftest import Init


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def report(tmp_path: Path, clock: Clock) -> Reporter:
    made = Reporter(tmp_path / "run/progress.json", logging.getLogger("init"), terminal=False, clock=clock)
    made.start("demo", "q4_0")
    return made


def read(tmp_path: Path) -> progress.Progress:
    found = progress.read(tmp_path / "run/progress.json")
    assert found
    return found


def test_rate_and_time_left_come_from_the_last_seconds(report: Reporter, tmp_path: Path, clock: Clock) -> None:
    with report.step("fetch", 1000, done=400, detail="a.safetensors") as step:
        first = read(tmp_path)
        assert (first.state, first.step, first.done, first.total, first.rate, first.seconds_left) == (
            "running",
            "fetch",
            400,
            1000,
            None,
            None,
        )
        for _ in range(4):
            clock.now += 1
            step.advance(50)
        found = read(tmp_path)
        assert (found.done, found.rate, found.seconds_left, found.detail) == (600, 50, 8, "a.safetensors")
        clock.now += 11
        step.advance(55)
        assert read(tmp_path).rate == pytest.approx(5), "the fast start is forgotten"


def test_the_end_of_a_run_stays(report: Reporter, tmp_path: Path) -> None:
    with report.step("convert", 3, "tensors") as step:
        step.at(2, 3, "output.weight")
    report.failed("no disk")
    found = read(tmp_path)
    assert (found.state, found.step, found.done, found.error) == ("failed", "convert", 2, "no disk")
    report.ready("the demo stands in")
    found = read(tmp_path)
    assert (found.state, found.error, found.notice, found.step) == ("ready", None, "the demo stands in", None)


def test_a_run_that_never_began_leaves_the_file_alone(report: Reporter, tmp_path: Path) -> None:
    Reporter(tmp_path / "run/progress.json", logging.getLogger("init"), terminal=False).failed("another is at work")
    assert read(tmp_path).state == "running"


def test_a_line_every_few_seconds(report: Reporter, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "init")
    with report.step("fetch", 3_600_000_000, detail="model.safetensors") as step:
        for _ in range(12):
            clock.now += 1
            step.advance(45_000_000)
    assert caplog.messages == [
        "fetch 225.0 MB of 3.6 GB (6%) rate=45.0 MB/s left=75s at=model.safetensors",
        "fetch 450.0 MB of 3.6 GB (12%) rate=45.0 MB/s left=70s at=model.safetensors",
        "fetch done seconds=12.0",
    ]


def test_bars_on_a_terminal(tmp_path: Path, small: Path) -> None:
    outside, inside = pty.openpty()
    termios.tcsetwinsize(inside, (30, 100))
    command = [sys.executable, "-m", "services.init", "--model", str(small), "--quant", "q8_0"]
    env = environment(tmp_path) | {"TERM": "xterm"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=inside, stdin=subprocess.DEVNULL) as process:
        os.close(inside)
        text = b""
        while piece := _read(outside):
            text += piece
    os.close(outside)
    assert process.returncode == 0, text
    for step in progress.STEPS[1:]:
        assert f"{step:8}: 100%|".encode() in text, step
    assert b"info    init   ready" in text and b"done seconds" not in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is gone
        return b""


def test_a_pipe_gets_no_bars(init: Init, small: Path) -> None:
    log = init.ready("--model", str(small), "--quant", "bf16")
    assert "\r" not in log and "verify done" in log
