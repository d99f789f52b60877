"""What a process sees of the walls around it, in network namespaces of its own, and what a check left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.shared import isolation
from services.shared.isolation import Check, Container
from tests.conftest import ROOT

SEE = "from services.shared import isolation; print(*isolation.routes())"


def seen(*setup: str) -> str:
    """The routes of a process in a new network namespace, after these commands."""
    commands = " && ".join(("ip link set lo up", *setup, f"{sys.executable} -c '{SEE}'"))
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", commands]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_a_namespace_without_a_route_is_closed() -> None:
    assert seen() == ""


def test_a_neighbour_is_no_way_out() -> None:
    assert seen("ip addr add 10.9.8.1/24 dev lo", "ip route add 10.9.7.0/24 dev lo") == ""


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_route_to_everywhere_is_seen(family: str) -> None:
    assert seen("ip addr add 10.9.8.1/24 dev lo", "ip addr add fd00::1/64 dev lo", f"ip -{family[-1]} route add default dev lo") == family


# A second namespace at the other end of a cable, which has the gateway's address where somebody is there.
CABLE = (
    "ip link add near type veth peer name far",
    "{ unshare --net sleep 60 & } && there=$! && trap 'kill $there' EXIT",
    "until [ $(readlink /proc/$there/ns/net) != $(readlink /proc/$$/ns/net) ]; do sleep 0.05; done",
    "ip link set far netns $there",
    "ip link set near up && ip addr add 10.9.8.2/24 dev near",
    "nsenter --target $there --net ip link set far up",
)
ROUTE = "ip route add default via 10.9.8.1"


def test_a_route_to_nobody_is_none() -> None:
    """Docker's internal network has one, to the address that its gateway would have."""
    assert seen(*CABLE, ROUTE) == ""


def test_a_route_to_somebody_is_seen_at_the_first_look() -> None:
    assert seen(*CABLE, "nsenter --target $there --net ip addr add 10.9.8.1/24 dev far", ROUTE) == "ipv4"


def test_a_gateway_that_comes_later_is_seen() -> None:
    later = "nsenter --target $there --net ip addr add 10.9.8.1/24 dev far"
    look = f"{sys.executable} -c '{SEE}'"
    waited = f'for i in 1 2 3 4 5 6 7 8 9 10; do said=$({look}); [ -n "$said" ] && break; sleep 1; done'
    assert seen(*CABLE, ROUTE, f'test -z "$({look})"', later, waited) == "ipv4"


def test_a_check_is_read(tmp_path: Path) -> None:
    file = tmp_path / isolation.NAME
    assert isolation.read(file) is None
    containers = [{"name": "api", "tried": 25, "closed": 25}, {"name": "ui", "tried": 0, "closed": 0}]
    file.write_text(json.dumps({"at": "2026-11-24T08:00:00Z", "containers": containers}))
    assert isolation.read(file) == Check("2026-11-24T08:00:00Z", (Container("api", 25, 25), Container("ui", 0, 0)))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"at": "x", "containers": [{"name": "api"}]}', '{"at": "x", "containers": 3}'])
def test_what_is_no_check_is_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / isolation.NAME
    file.write_text(content)
    assert isolation.read(file) is None
