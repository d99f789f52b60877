"""A Docker engine of a test's own, in a network namespace of its own.

Owns its beginning and its end, and leaves no mount behind. What is in it, and who talks to it: nodes.py, offline.py. Needs root.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.stack.waiting import wait

LOG = "dockerd.log"


def entering(name: str) -> list[str]:
    """What goes before a command in that namespace. `ip netns exec` would hide the mounts of the cgroups."""
    return [shutil.which("nsenter") or "nsenter", f"--net=/run/netns/{name}"]


@contextlib.contextmanager
def namespace(name: str) -> Iterator[None]:
    """A network namespace with nothing but loopback."""
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


def host(home: Path) -> str:
    """As docker -H takes it."""
    return f"unix://{home}/docker.sock"


@contextlib.contextmanager
def engine(home: Path, name: str) -> Iterator[None]:
    """An engine in that namespace; it answers at host(home)."""
    home.mkdir(parents=True, exist_ok=True)
    places = ["--data-root", home / "data", "--exec-root", home / "exec", "--pidfile", home / "dockerd.pid"]
    with (home / LOG).open("ab") as log:
        command = [*entering(name), "dockerd", "--host", host(home), *map(str, places)]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait(
            lambda: subprocess.run(["docker", "-H", host(home), "info"], capture_output=True, check=False).returncode == 0,
            120,
            lambda: (home / LOG).read_text()[-3000:],
        )
        yield
    finally:
        process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (mounted := line.split()[1]).startswith(f"{home}/"):
                subprocess.run(["umount", "--lazy", mounted], check=False)
