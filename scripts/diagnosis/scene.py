"""What is examined: how Cloister runs here, its settings, and what was seen of it. Gathers; judges nothing.

Natively everything is seen from this process and its children; where the Docker stack runs, probe.py is run inside of its containers.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scripts.diagnosis import probe
from services.shared.settings import ROOT, Settings
from services.ui.told import Told

Mode = Literal["native", "docker", "none"]
COMPOSE = ("docker", "compose")
WAIT = 60.0  # seconds for a command that asks a program or an engine for its state
LONG = 3600.0  # seconds for reading a model of any size from a slow disk
CONTAINERS = {"api": "ui", "answer": "ui"}  # where a part is run; all others in api, where engine and model are
LOG_AGE = 24 * 3600  # seconds of logs that are looked at


@dataclass
class Scene:
    """`programs`: state by program or container; `docker`: an engine with Compose answers; `now`: seconds since the epoch by this
    machine's clock; `root`: where /proc and /sys are; `quick`: nothing that takes long. `seen`: what the parts of probe.py told."""

    settings: Settings
    environ: Mapping[str, str]
    mode: Mode = "none"
    docker: bool = False
    programs: dict[str, str] = field(default_factory=dict)
    quick: bool = False
    root: Path = Path("/")
    now: float = field(default_factory=time.time)
    seen: dict[str, Told] = field(default_factory=dict)

    def part(self, name: str) -> Told:
        """What a part of probe.py tells; asked once. `crash`, `missing` and `error` stand for what it could not."""
        if name not in self.seen:
            self.seen[name] = Told(self._ask(name))
        return self.seen[name]

    @property
    def facts(self) -> Told:
        return self.part("facts")

    @property
    def status(self) -> Told:
        """/v1/status; nothing where nothing runs."""
        return self.part("api").at("status") if self.mode != "none" else Told()

    def _ask(self, name: str) -> dict[str, Any]:
        if self.mode != "docker":
            if name == "facts":
                return probe.facts(self.settings, self.root)
            command: tuple[str, ...] = (sys.executable, "-P", "-m", "scripts.diagnosis.probe", name)
            return _child(command, {**self.environ, "PYTHONPATH": str(ROOT)}, None)
        command = (*COMPOSE, "exec", "-T", CONTAINERS.get(name, "api"), "python3", "-", name)
        return _child(command, self.environ, Path(probe.__file__).read_bytes())

    def log(self, program: str) -> str:
        """The last day of a program's log, or what there is of it; empty where there is none."""
        if self.mode == "docker":
            return _output((*COMPOSE, "logs", "--no-log-prefix", "--since", f"{LOG_AGE}s", program), self.environ)
        try:
            text = (self.settings.paths.logs / f"{program}.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now - LOG_AGE))
        return "\n".join(line for line in text.splitlines() if line >= since)


def look(settings: Settings, environ: Mapping[str, str], *, quick: bool = False) -> Scene:
    """Find out how Cloister runs here; natively goes before Docker, as for scripts/down."""
    scene = Scene(settings, environ, quick=quick)
    scene.docker = docker_answers(environ)
    if programs := _supervised(settings, environ):
        scene.mode, scene.programs = "native", programs
    elif scene.docker and (containers := _containers(environ)):
        scene.mode, scene.programs = "docker", containers
        if not containers.get("api", "").startswith("running"):
            scene.seen["facts"] = Told(probe.facts(settings, scene.root))
    return scene


def docker_answers(environ: Mapping[str, str]) -> bool:
    """Whether there is a Docker engine with Compose."""
    if not shutil.which("docker", path=environ.get("PATH")):
        return False
    return all(_succeeds(command, environ) for command in ((*COMPOSE, "version"), ("docker", "info")))


def _supervised(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The states of supervisor's programs; empty where it does not run."""
    if not (settings.paths.run / "supervisor.sock").exists():
        return {}
    run = {"SUPERVISE_RUN": str(settings.paths.run), "SUPERVISE_LOGS": str(settings.paths.logs), "SUPERVISE_UI": "true"}
    command = (sys.executable, "-m", "supervisor.supervisorctl", "-c", str(ROOT / "config/supervisord.conf"), "status")
    return dict(re.findall(r"^(\w+) +([A-Z]+)\b", _output(command, {**environ, **run}), re.MULTILINE))


def _containers(environ: Mapping[str, str]) -> dict[str, str]:
    """The states of the stack's containers: `running healthy`, `exited 0`."""
    said = _output((*COMPOSE, "ps", "--all", "--format", "{{.Service}} {{.State}} {{.Health}} {{.ExitCode}}"), environ)
    states = {}
    for line in said.splitlines():
        service, state, *rest = line.split()
        states[service] = " ".join((state, *rest[:-1])) if state == "running" else f"{state} {rest[-1]}"
    return states


def _child(command: tuple[str, ...], environ: Mapping[str, str], given: bytes | None) -> dict[str, Any]:
    """What a run of probe.py says; its death is told, too."""
    try:
        done = subprocess.run(command, cwd=ROOT, env=environ, input=given, capture_output=True, timeout=LONG, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": type(error).__name__}
    number = -done.returncode if done.returncode < 0 else done.returncode - 128  # docker tells the latter
    if number in signal.valid_signals():
        return {"crash": signal.Signals(number).name}
    try:
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    except ValueError:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return {"error": last or f"ended with status {done.returncode}"}


def _output(command: tuple[str, ...], environ: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, timeout=WAIT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _succeeds(command: tuple[str, ...], environ: Mapping[str, str]) -> bool:
    try:
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, timeout=WAIT, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
