"""Two machines for the swarm tests: an engine each in a network namespace of its own, joined by one cable (a veth pair) that can be pulled.

Owns the cable and who has which end of it. Needs root.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.stack import dockerd

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
        return dockerd.host(self.home)

    def identity(self) -> str:
        """What the swarm that it belongs to calls it."""
        return self.docker("info", "--format", "{{.Swarm.NodeID}}").strip()

    def inside(self, *command: str | Path, check: bool = True, timeout: float = 600) -> str:
        """A command in the machine's network; what it says."""
        entering = [*dockerd.entering(self.name), *map(str, command)]
        done = subprocess.run(entering, text=True, capture_output=True, timeout=timeout, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def docker(self, *command: str, check: bool = True) -> str:
        return self.inside("docker", "-H", self.host, *command, check=check)


@contextlib.contextmanager
def nodes(home: Path, names: tuple[str, str] = NAMES) -> Iterator[tuple[Node, Node]]:
    """Both of them, with nothing in their engines; other names let two pairs be."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(dockerd.namespace(name))
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
    with dockerd.engine(node.home, name):
        yield node
        node.docker("swarm", "leave", "--force", check=False)
