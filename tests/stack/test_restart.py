"""The machine loses its power: everything that ran comes back by itself, init goes on where it was."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.conftest import HERE, Stack, ask, get, project, succeeds
from tests.stack.waiting import wait
from tests.stack.world import World

HOME = Path(os.environ.get("ENGINE_HOME", "/var/tmp/engine"))  # as tests/stack/engine has it
PIDFILE = HOME / "dockerd.pid"


@pytest.fixture
def unfinished(engine: str, outside: World, token: Path, stack: Stack) -> Iterator[Stack]:
    """A second stack of the same images, started a moment ago; its hub is slow, and known by a certificate of its own."""
    second = project("cloister-restart", engine, token, outside.slow_endpoint)
    second.env["SSL_CERT_FILE"] = str(outside.authority)
    second.compose("down", "--volumes", "--timeout", "5")
    second.compose("up", "--detach", "--no-build")
    try:
        yield second
    finally:
        second.compose("down", "--volumes", "--timeout", "5")


def power_off() -> None:
    """Kill the engine and everything it runs, at once and without a word; then take away what no machine has after it starts."""
    containers = subprocess.run(["docker", "ps", "--quiet"], capture_output=True, text=True, check=True).stdout.split()
    states = subprocess.run(["docker", "inspect", "--format", "{{.State.Pid}}", *containers], capture_output=True, text=True, check=True)
    shims = subprocess.run(["pgrep", "--full", "containerd-shim"], capture_output=True, text=True, check=False)
    daemon = int(PIDFILE.read_text())
    children = subprocess.run(["pgrep", "--parent", str(daemon)], capture_output=True, text=True, check=False)
    for pid in (daemon, *map(int, (children.stdout + shims.stdout + states.stdout).split())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait(lambda: not succeeds("docker", "info"), 30)
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if (place := line.split()[1]).startswith(f"{HOME}/"):
            subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)
    PIDFILE.unlink()
    shutil.rmtree(HOME / "exec")


def test_a_power_cut_in_the_middle_of_init(stack: Stack, unfinished: Stack) -> None:
    if not PIDFILE.exists() or not Path(f"/proc/{PIDFILE.read_text().strip()}").exists():
        pytest.skip("this engine was not started by tests/stack/engine: killing it would stop somebody's containers")
    wait(lambda: "fetch" in unfinished.compose("logs", "init").stdout, 60)
    wait(lambda: get(f"{unfinished.api_url}/readyz")[0] == 503, 60)
    assert unfinished.inspect("init")["State"]["Running"]
    power_off()
    started = subprocess.run([HERE / "engine", "up"], capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stdout + started.stderr
    for which in (unfinished, stack):
        which.ready()
        assert "23" in ask(which.api_url)["content"]
        wait(lambda which=which: get(f"{which.page_url}/livez")[0] == 200, 60)
    assert unfinished.inspect("init")["State"]["ExitCode"] == 0
    assert "stopped" not in unfinished.compose("logs", "init").stdout  # it got no chance to say anything
