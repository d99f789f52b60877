"""A machine without a network for the stack tests: a second Docker engine, in a network namespace with nothing but loopback.

Owns the namespace and the engine with its own data; `run` runs a command there with no more programs than the bundle says it needs.
Needs root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.stack.waiting import wait

NAMESPACE = "cloister-offline"
ENTER = [shutil.which("nsenter") or "nsenter", f"--net=/run/netns/{NAMESPACE}"]
# A POSIX shell has what is not here built in.
COREUTILS = "cat comm cp cut date df env id mkdir mktemp mv rm sha256sum sleep sort tail tar wc"


@dataclass(frozen=True)
class Machine:
    """The engine's socket, its data, and a folder with all programs there are."""

    home: Path
    data: Path
    programs: Path
    log: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str | Path, timeout: float = 900, **more: object) -> subprocess.CompletedProcess[str]:
        """A command in the namespace, whose docker is this engine's."""
        return subprocess.run(
            [*ENTER, *map(str, command)], text=True, capture_output=True, timeout=timeout, check=False, env=self.environment, **more
        )  # type: ignore[call-overload,no-any-return]

    def docker(self, *command: str) -> list[str]:
        """The lines that docker says."""
        done = subprocess.run(["docker", *command], env=self.environment | {"PATH": os.environ["PATH"]}, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def emptied(self) -> bool:
        """Whether all containers are gone; Docker refuses to remove one that ends while it is being killed, so it may need another try."""
        if left := self.docker("ps", "--all", "--quiet"):
            self.run("docker", "rm", "--force", *left)
        return not self.docker("ps", "--all", "--quiet")

    def holds(self) -> list[str]:
        """Everything an installation could leave in an engine."""
        kinds = (["images"], ["ps", "--all"], ["volume", "ls"], ["network", "ls"])
        return [line for kind in kinds for line in sorted(self.docker(*kind, "--quiet"))]


@contextlib.contextmanager
def machine(home: Path) -> Iterator[Machine]:
    """Bring it up, and take it away again."""
    with namespace(), engine(home, home / "data") as there:
        yield there


@contextlib.contextmanager
def namespace(name: str = NAMESPACE) -> Iterator[list[str]]:
    """A network namespace with nothing but loopback, and what enters it."""
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield [ENTER[0], f"--net=/run/netns/{name}"]
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


@contextlib.contextmanager
def engine(home: Path, data: Path) -> Iterator[Machine]:
    """An engine in the namespace that keeps its things in `data`."""
    programs = home / "programs"
    programs.mkdir(parents=True, exist_ok=True)
    for name in [*COREUTILS.split(), "sh", "docker", "ssh-keygen"]:
        found = shutil.which(name)
        assert found, f"{name} is missing here"
        if not (programs / name).exists():
            (programs / name).symlink_to(found)
    socket, log = home / "docker.sock", home / "dockerd.log"
    places = ["--data-root", data, "--exec-root", home / "exec", "--pidfile", home / "dockerd.pid"]
    # `ip netns exec` would hide the mounts of the cgroups.
    command = [*ENTER, "dockerd", "--host", f"unix://{socket}", *map(str, places)]
    environment = {"PATH": str(programs), "HOME": str(home), "DOCKER_HOST": f"unix://{socket}"}
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    there = Machine(home, data, programs, log, environment)
    try:
        wait(lambda: there.run("docker", "info").returncode == 0, 120, lambda: log.read_text()[-3000:])
        yield there
        wait(there.emptied, 120)
    finally:
        process.terminate()
        process.wait(60)
        for mounted in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if mounted.split()[1].startswith(f"{home}/exec"):
                subprocess.run(["umount", "--lazy", mounted.split()[1]], check=False)
