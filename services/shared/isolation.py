"""What is known of the walls around this process: the result of the last check from outside, and what it sees for itself.

scripts/verify-isolation tries every way out of the containers and leaves its result beside the API's socket, in memory: it is gone when
the container starts anew, for nobody has checked that one yet. Knows nothing of how a way out is tried.
"""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from pathlib import Path

NAME = "isolation.json"
# Addresses that belong to nobody (RFC 5737, RFC 3849), where only a route to everywhere leads.
NOBODY = (("ipv4", socket.AF_INET, "203.0.113.1"), ("ipv6", socket.AF_INET6, "2001:db8::1"))
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
    """ipv4 and ipv6, as far as the kernel knows a way to everywhere. Nothing is sent: a datagram socket only asks for the route."""
    found = []
    for name, family, address in NOBODY:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as link:
            link.connect((address, 9))
            found.append(name)
    return tuple(found)
