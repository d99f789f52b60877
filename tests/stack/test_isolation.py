"""Nothing gets out: attacks from inside as root, and what the outside world hears meanwhile."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack.conftest import ROOT, SERVICES, Stack, ask, get
from tests.stack.world import FAR4, HUB_PORT, NEAR4, World

ATTACK = ROOT / "docker/attack.py"


def attack(stack: Stack, service: str, user: str, *addresses: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "compose", "exec", "-T", "--user", user, service, "python3", "-", *addresses]
    return subprocess.run(
        command, cwd=ROOT, env=stack.env, input=ATTACK.read_text(), text=True, capture_output=True, timeout=300, check=False
    )


def isolation_told(stack: Stack) -> dict[str, Any]:
    """What /v1/status says of the walls."""
    return dict(json.loads(get(f"{stack.api_url}/v1/status")[1])["isolation"])


@contextlib.contextmanager
def resolver_heard(name: str) -> Iterator[list[str]]:
    """Whether any interface of this machine carries a DNS question that contains the name; the list is filled at the end."""
    heard: list[str] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as ears:
        ears.settimeout(0.3)
        yield heard
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                data, (interface, *_) = ears.recvfrom(2048)
                if name.encode() in data and interface != "lo":
                    heard.append(interface)


def test_init_has_fetched_from_the_outside_world(stack: Stack, outside: World) -> None:
    """Without this, silence would prove nothing: packets of the stack do arrive there, from init, and the capture sees them."""
    seen = {packet.source.rpartition(":")[0] for packet in outside.packets() if packet.target == f"{FAR4}:{HUB_PORT}"}
    assert seen == {NEAR4}  # init's network is masqueraded; a packet of another network would bring its own address


@pytest.mark.parametrize("service", SERVICES)
def test_no_attack_as_root_sends_a_packet(stack: Stack, outside: World, service: str) -> None:
    began = time.time()
    done = attack(stack, service, "root", *outside.addresses, NEAR4)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outside.packets(since=began) == []


@pytest.mark.parametrize("service", [*SERVICES, "door"])
def test_no_name_is_asked_for_outside(stack: Stack, service: str) -> None:
    label = f"leak-{uuid.uuid4().hex}"
    code = f"import socket\ntry: socket.getaddrinfo('{label}.example', 443)\nexcept OSError as e: print(e)\nelse: raise SystemExit(3)"
    with resolver_heard(label) as heard:
        done = stack.compose("exec", "-T", service, "python3", "-c", code, check=False)
    assert done.returncode == 0 and heard == [], (done.stdout, heard)


def test_the_door_itself_reaches_nobody_outside(stack: Stack, outside: World) -> None:
    """It has a route out, so only its packet filter holds: as its own user, which has no right to change the filter."""
    began = time.time()
    done = attack(stack, "door", "65534", *outside.addresses, NEAR4)
    assert "OPEN, connected" not in done.stdout and "refused" not in done.stdout.replace("not refused", ""), done.stdout
    assert outside.packets(since=began) == []


def test_a_chat_sends_nothing(stack: Stack, outside: World) -> None:
    began = time.time()
    ask(stack.api_url)
    assert outside.packets(since=began) == []


def test_nothing_has_arrived_since_init_ended(stack: Stack, outside: World) -> None:
    """Named to run after the others of this file: over all of them."""
    ended = stack.inspect("init")["State"]["FinishedAt"]
    seconds = float(stack.run("date", "--date", ended, "+%s").stdout) + 1
    assert outside.packets(since=seconds) == []


def test_the_capture_hears_a_way_out_that_is_opened_on_purpose(stack: Stack, outside: World) -> None:
    """The negative control: with api on init's network the same attack is heard, and verify-isolation says so."""
    container = stack.container("api")
    network = f"{stack.env['CLOISTER_PROJECT']}_setup"
    stack.run("docker", "network", "connect", network, container)
    try:
        began = time.time()
        done = attack(stack, "api", "root", *outside.addresses)
        assert done.returncode == 1 and "OPEN" in done.stdout
        heard = outside.packets(since=began)
        assert {"tcp", "udp", "icmp"} <= {packet.protocol for packet in heard}
        report = stack.run(ROOT / "scripts/verify-isolation", FAR4, check=False)
        assert report.returncode == 1 and "A WAY OUT IS OPEN" in report.stderr
        told = isolation_told(stack)
        assert told["routes"] and any(one["closed"] < one["tried"] for one in told["checked"]["containers"])
    finally:
        stack.run("docker", "network", "disconnect", network, container)


def test_verify_isolation_is_content_with_the_stack_as_it_is(stack: Stack) -> None:
    report = stack.run(ROOT / "scripts/verify-isolation", FAR4)
    assert "nothing gets out" in report.stderr
    assert report.stdout.count("ways closed") == len(SERVICES)
    told = isolation_told(stack)
    assert told["contained"] and told["routes"] == []
    assert [one["name"] for one in told["checked"]["containers"]] == list(SERVICES)
    assert all(one["closed"] == one["tried"] > 0 for one in told["checked"]["containers"])


def test_the_host_itself_is_out_of_reach_from_inside(stack: Stack, tmp_path: Path) -> None:
    """A program of this machine that listens on every address is a way out too: a proxy, say."""
    with socket.create_server(("0.0.0.0", 0)) as listening:
        port = listening.getsockname()[1]
        gateways = [NEAR4]
        found = stack.run("ip", "-o", "-4", "address").stdout
        gateways += [line.split()[3].split("/")[0] for line in found.splitlines()]
        code = (
            "import socket, sys\n"
            "for host in sys.argv[2:]:\n"
            "    try: socket.create_connection((host, int(sys.argv[1])), 1); print('reached', host)\n"
            "    except OSError: pass\n"
        )
        addresses = [address for address in gateways if address != "127.0.0.1"]
        for service in SERVICES:
            done = stack.compose("exec", "-T", "--user", "root", service, "python3", "-c", code, str(port), *addresses)
            assert done.stdout == "", service
