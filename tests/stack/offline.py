"""A machine without a network for the stack tests: a second Docker engine, in a network namespace with nothing but loopback.

Owns what programs there are: `run` runs a command there with no more of them than the bundle says it needs. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.stack import dockerd
from tests.stack.waiting import wait

NAMESPACE = "cloister-offline"
ENTER = dockerd.entering(NAMESPACE)
# A POSIX shell has what is not here built in.
COREUTILS = "cat comm cp cut date df env id mkdir mktemp mv rm sha256sum sleep sort tail tar wc"


@dataclass(frozen=True)
class Machine:
    """Where its engine is, and a folder with all programs there are."""

    home: Path
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
    programs = home / "programs"
    programs.mkdir(parents=True)
    for name in [*COREUTILS.split(), "sh", "docker", "ssh-keygen"]:
        found = shutil.which(name)
        assert found, f"{name} is missing here"
        (programs / name).symlink_to(found)
    environment = {"PATH": str(programs), "HOME": str(home), "DOCKER_HOST": dockerd.host(home)}
    with dockerd.namespace(NAMESPACE), dockerd.engine(home, NAMESPACE):
        there = Machine(home, programs, home / dockerd.LOG, environment)
        yield there
        wait(there.emptied, 120)
