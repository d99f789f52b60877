"""What many tests stand on: free ports, a volume with the demo model, and the whole appliance started by scripts/up."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import copying

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """For tests that hold documentation to what they find."""
    parser.addoption("--write-table", action="store_true", help="write the table in docs/api.md instead of only comparing it")


# No system hands these out by itself (Linux from 32768 on), so no connection takes one before its server listens; each process that runs
# tests side by side has a lane of its own.
_WIDTH = 12_000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
LANE = range(20_000, 32_000)[_WIDTH * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) :][:_WIDTH]
_ports = itertools.cycle(random.sample(LANE, len(LANE)))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now; another one each time."""
    for port in itertools.islice(_ports, len(LANE)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"none of the ports {LANE} is free")


def environment(home: Path, **settings: object) -> dict[str, str]:
    """This process's environment without its CLOISTER_ names, with all paths below `home`; settings as `ENGINE__CELLS=256`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CLOISTER_", "HF_"))}
    paths = {
        "PROJECT": "cloister-none",  # scripts/down shall not take a Docker stack down that runs here
        "PATHS__VOLUME": home / "volume",
        "PATHS__RUN": home / "run",
        "PATHS__PROGRESS": home / "run/progress.json",
        "PATHS__LOGS": home / "log",
    }
    return clean | {f"CLOISTER_{name}": str(value) for name, value in {**paths, **settings}.items()}


@dataclass(frozen=True)
class Cloister:
    """A running appliance: its addresses, its directories, and the environment its scripts need."""

    page_url: str
    api_url: str
    home: Path
    env: dict[str, str]

    def script(self, *command: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one of scripts/ against this appliance."""
        return subprocess.run(
            [ROOT / "scripts" / command[0], *command[1:]], env=self.env, text=True, capture_output=True, check=check, timeout=timeout
        )

    def pid(self, program: str) -> int:
        """The process id of engine, api or ui."""
        run = {"SUPERVISE_RUN": self.home / "run", "SUPERVISE_LOGS": self.home / "log", "SUPERVISE_UI": "true"}
        command = [Path(sys.executable).with_name("supervisorctl"), "-c", ROOT / "config/supervisord.conf", "pid", program]
        done = subprocess.run(command, env=self.env | {k: str(v) for k, v in run.items()}, text=True, capture_output=True, check=True)
        return int(done.stdout)


def start(home: Path, *options: str, **settings: object) -> Cloister:
    """scripts/up on ports of its own; returns once it is ready."""
    page, api = free_port(), free_port()
    env = environment(home, UI__PORT=page, API__PORT=api, UI__API=f"http://127.0.0.1:{api}", **settings)
    running = Cloister(f"http://127.0.0.1:{page}", f"http://127.0.0.1:{api}", home, env)
    done = running.script("up", "--native", "--detach", *options, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return running


@pytest.fixture(scope="session")
def demo_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume in which the demo model is prepared and in use."""
    home = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "services.init", "--model", "demo"]
    subprocess.run(command, cwd=ROOT, env=environment(home), check=True, timeout=300)
    return home / "volume"


@pytest.fixture(scope="session")
def copying_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume in which the small model of tests/copying.py is prepared and in use."""
    home = tmp_path_factory.mktemp("copying")
    folder = copying.write(home / "copying", copying.SMALL)
    command = [sys.executable, "-m", "services.init", "--model", str(folder), "--quant", "q8_0"]
    subprocess.run(command, cwd=ROOT, env=environment(home), check=True, capture_output=True, timeout=600)
    return home / "volume"


@pytest.fixture(scope="session")
def cloister(demo_volume: Path) -> Iterator[Cloister]:
    """The whole appliance with the demo model, started by scripts/up and stopped by scripts/down."""
    running = start(demo_volume.parent, MODEL__NAME="demo")
    yield running
    running.script("down")
