"""Nothing gets out: attacks from inside as root, and what the outside world hears meanwhile."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.stack.conftest import ROOT, SERVICES, Stack, ask, get
from tests.stack.world import FAR4, HUB_PORT, NEAR4, Packet, World

ATTACK = ROOT / "docker/attack.py"


def attack(stack: Stack, service: str, user: str, *addresses: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "compose", "exec", "-T", "--user", user, service, "python3", "-", *addresses]
    return subprocess.run(
        command, cwd=ROOT, env=stack.env, input=ATTACK.read_text(), text=True, capture_output=True, timeout=300, check=False
    )


def isolation_told(stack: Stack) -> dict[str, Any]:
    """What /v1/status says of the walls."""
    return dict(json.loads(get(f"{stack.api_url}/v1/status")[1])["isolation"])


@dataclass(frozen=True)
class Attacks:
    """What the attacks on all containers said, and the packets that the outside world got meanwhile."""

    done: dict[str, subprocess.CompletedProcess[str]]
    packets: list[Packet]


@pytest.fixture(scope="module")
def attacks(stack: Stack, outside: World) -> Attacks:
    """In every container as root, in the door as its own user, which has no right to change the packet filter that holds it.

    All at once: each waits for answers that don't come.
    """
    began = time.time()
    users = {**dict.fromkeys(SERVICES, "root"), "door": "65534"}
    with ThreadPoolExecutor(len(users)) as pool:
        running = {service: pool.submit(attack, stack, service, user, *outside.addresses, NEAR4) for service, user in users.items()}
    return Attacks({service: one.result() for service, one in running.items()}, outside.packets(since=began))


@dataclass
class Question:
    """A name that is asked for in a container, and the interfaces of this machine that carried it."""

    label: str
    done: Future[subprocess.CompletedProcess[str]]
    heard: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def questions(stack: Stack) -> dict[str, Question]:
    """Every container asks for a name of its own, all at once: each waits for its resolver."""

    def look(service: str, label: str) -> subprocess.CompletedProcess[str]:
        code = f"import socket\ntry: socket.getaddrinfo('{label}.example', 443)\nexcept OSError as e: print(e)\nelse: raise SystemExit(3)"
        return stack.compose("exec", "-T", service, "python3", "-c", code, check=False)

    asked: dict[str, Question] = {}
    with ThreadPoolExecutor() as pool, socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as ears:
        ears.settimeout(0.3)
        for service in (*SERVICES, "door"):
            label = f"leak-{uuid.uuid4().hex}"
            asked[service] = Question(label, pool.submit(look, service, label))
        end = time.monotonic() + 2
        while time.monotonic() < end:
            if not all(question.done.done() for question in asked.values()):
                end = time.monotonic() + 2
            with contextlib.suppress(TimeoutError):
                data, (interface, *_) = ears.recvfrom(2048)
                for question in asked.values():
                    if question.label.encode() in data and interface != "lo":
                        question.heard.add(interface)
    return asked


def test_init_has_fetched_from_the_outside_world(stack: Stack, outside: World) -> None:
    """Without this, silence would prove nothing: packets of the stack do arrive there, from init, and the capture sees them."""
    seen = {packet.source.rpartition(":")[0] for packet in outside.packets() if packet.target == f"{FAR4}:{HUB_PORT}"}
    assert seen == {NEAR4}  # init's network is masqueraded; a packet of another network would bring its own address


@pytest.mark.parametrize("service", SERVICES)
def test_no_attack_as_root_sends_a_packet(attacks: Attacks, service: str) -> None:
    done = attacks.done[service]
    assert done.returncode == 0, done.stdout + done.stderr
    assert attacks.packets == []


@pytest.mark.parametrize("service", [*SERVICES, "door"])
def test_no_name_is_asked_for_outside(questions: dict[str, Question], service: str) -> None:
    done = questions[service].done.result()
    assert done.returncode == 0 and questions[service].heard == set(), (done.stdout, questions[service].heard)


def test_the_door_itself_reaches_nobody_outside(attacks: Attacks) -> None:
    """It has a route out, so only its packet filter holds."""
    said = attacks.done["door"].stdout
    assert "ways closed" in said and "OPEN, connected" not in said and "refused" not in said.replace("not refused", ""), said
    assert attacks.packets == []


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
            "from concurrent.futures import ThreadPoolExecutor\n"
            "def reach(host):\n"
            "    try: socket.create_connection((host, int(sys.argv[1])), 1); print('reached', host)\n"
            "    except OSError: pass\n"
            "with ThreadPoolExecutor(32) as pool: list(pool.map(reach, sys.argv[2:]))\n"
        )
        addresses = [address for address in gateways if address != "127.0.0.1"]
        for service in SERVICES:
            done = stack.compose("exec", "-T", "--user", "root", service, "python3", "-c", code, str(port), *addresses)
            assert done.stdout == "", service
