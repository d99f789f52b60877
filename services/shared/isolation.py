"""What is known of the walls around this process: the result of the last check from outside, and what it sees for itself.

scripts/verify-isolation tries every way out of the containers and leaves its result beside the API's socket, in memory: it is gone when
the container starts anew, for nobody has checked that one yet. Knows nothing of how a way out is tried.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAME = "isolation.json"
# Addresses that belong to nobody (RFC 5737, RFC 3849), where only a route to everywhere leads.
NOBODY = (("ipv4", socket.AF_INET, "203.0.113.1"), ("ipv6", socket.AF_INET6, "2001:db8::1"))
NET = Path("/proc/self/net")
ANSWERED = 0.02  # seconds in which a neighbour of the same network has said that it is there
MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))


@dataclass(frozen=True)
class Container:
    """Ways out that were tried from inside of one container, and those of them that were closed; 0 of 0 where nothing could be tried."""

    name: str
    tried: int
    closed: int


@dataclass(frozen=True)
class Check:
    """One run of scripts/verify-isolation, ended at `at` (ISO 8601, UTC)."""

    at: str
    containers: tuple[Container, ...]


def read(path: Path) -> Check | None:
    """The last check, or None when there was none since this container started, or its result can't be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        containers = tuple(Container(str(item["name"]), int(item["tried"]), int(item["closed"])) for item in data["containers"])
        return Check(str(data["at"]), containers)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def contained() -> bool:
    """Whether this process runs in a container."""
    return any(mark.exists() for mark in MARKS)


def routes() -> tuple[str, ...]:
    """ipv4 and ipv6, as far as the kernel knows a way to everywhere. Nothing is sent there: a datagram socket only asks for the route.

    Docker gives a network without a gateway a default route all the same, to an address that nobody has: it leads nowhere, and counts
    only once somebody answers there.
    """
    found = []
    for name, family, address in NOBODY:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as link:
            link.connect((address, 9))
            if family == socket.AF_INET6 or _anybody_there():
                found.append(name)
    return tuple(found)


def _anybody_there() -> bool:
    """Whether a default route of IPv4 ends at somebody. What is not known (another table's route, say) counts as open."""
    gateways = list(_gateways())
    return not gateways or any(gateway is None or _answers(gateway) for gateway in gateways)


def _gateways() -> Iterator[str | None]:
    """The addresses that default routes of IPv4 lead to; None for a route that needs nobody on the way."""
    for line in _table("route"):
        _, target, gateway, flags, _, _, _, mask, *_ = line
        if int(target, 16) == int(mask, 16) == 0:
            yield socket.inet_ntoa(struct.pack("=I", int(gateway, 16))) if int(flags, 16) & 2 else None


def _answers(address: str) -> bool:
    """Whether the neighbour of that address is there: the kernel asks for it by ARP when something is to be sent to it."""
    known = _neighbour(address) is not None
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.sendto(b"", (address, 9))
    if not known:
        time.sleep(ANSWERED)
    return bool(_neighbour(address))


def _neighbour(address: str) -> bool | None:
    """Whether the neighbour has answered the kernel; None where it was not asked for lately."""
    flags = next((line[2] for line in _table("arp") if line[0] == address), None)
    return None if flags is None else bool(int(flags, 16) & 2)


def _table(name: str) -> list[list[str]]:
    """The lines of a table of the kernel's, below its head."""
    return [line.split() for line in (NET / name).read_text().splitlines()[1:]]
