"""Two machines for the swarm tests: an engine each in a network namespace of its own, joined by one cable (a veth pair) that can be pulled.

Owns namespaces, cable and engines with their data. Needs root. As tests/stack/offline.py, which has one machine and no cable.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.stack.offline import namespace
from tests.stack.waiting import wait

NAMES = ("clsw1", "clsw2")
CABLES = ("clsv1", "clsv2")
ADDRESSES = ("10.204.0.1", "10.204.0.2")


@dataclass(frozen=True)
class Node:
    """One machine: its network namespace, its engine's socket, and where the others reach it."""

    number: int
    home: Path
    address: str
    name: str

    @property
    def host(self) -> str:
        """As docker -H takes it."""
        return f"unix://{self.home}/docker.sock"

    def identity(self) -> str:
        """What the swarm that it belongs to calls it."""
        return self.docker("info", "--format", "{{.Swarm.NodeID}}").strip()

    def inside(self, *command: str | Path, check: bool = True, timeout: float = 600) -> str:
        """A command in the machine's network; what it says."""
        enter = ["nsenter", f"--net=/run/netns/{self.name}"]
        done = subprocess.run([*enter, *map(str, command)], text=True, capture_output=True, timeout=timeout, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def docker(self, *command: str, check: bool = True) -> str:
        return self.inside("docker", "-H", self.host, *command, check=check)


@contextlib.contextmanager
def nodes(home: Path, names: tuple[str, str] = NAMES) -> Iterator[tuple[Node, Node]]:
    """Both of them, with nothing in their engines; other names let two pairs be."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(namespace(name))
        link = ["ip", "link", "add", CABLES[0], "netns", names[0], "type", "veth", "peer", "name", CABLES[1], "netns", names[1]]
        subprocess.run(link, check=True)
        for name, cable, address in zip(names, CABLES, ADDRESSES, strict=True):
            subprocess.run(["ip", "-n", name, "address", "add", f"{address}/24", "dev", cable], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", cable, "up"], check=True)
        for name, other in zip(names, reversed(ADDRESSES), strict=True):  # what leaves a machine is seen on the cable
            subprocess.run(["ip", "-n", name, "route", "add", "default", "via", other], check=True)
        yield stack.enter_context(_engine(home, 0, names[0])), stack.enter_context(_engine(home, 1, names[1]))


def pull(node: Node) -> None:
    """Pull the cable out of this machine: nothing tells the other one."""
    subprocess.run(["ip", "-n", node.name, "link", "set", CABLES[node.number], "down"], check=True)


def plug(node: Node) -> None:
    """Put it in again."""
    subprocess.run(["ip", "-n", node.name, "link", "set", CABLES[node.number], "up"], check=True)
    subprocess.run(["ip", "-n", node.name, "route", "add", "default", "via", ADDRESSES[1 - node.number]], check=True)


def thin(node: Node, mbit: int) -> None:
    """From now on, what leaves this machine goes at so many Mbit/s at most."""
    queue = ["root", "tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "400ms"]
    subprocess.run(["tc", "-n", node.name, "qdisc", "add", "dev", CABLES[node.number], *queue], check=True)


@contextlib.contextmanager
def _engine(home: Path, number: int, name: str) -> Iterator[Node]:
    node = Node(number, home / str(number + 1), ADDRESSES[number], name)
    node.home.mkdir(parents=True)
    places = ["--data-root", node.home / "data", "--exec-root", node.home / "exec", "--pidfile", node.home / "pid"]
    # `ip netns exec` would hide the mounts of the cgroups.
    command = ["nsenter", f"--net=/run/netns/{name}", "dockerd", "--host", node.host, *map(str, places)]
    log = node.home / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        wait(
            lambda: subprocess.run(["docker", "-H", node.host, "info"], capture_output=True, check=False).returncode == 0,
            120,
            lambda: log.read_text()[-3000:],
        )
        yield node
        node.docker("swarm", "leave", "--force", check=False)
    finally:
        process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
        for mounted in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if mounted.split()[1].startswith(str(node.home)):
                subprocess.run(["umount", "--lazy", mounted.split()[1]], check=False)
