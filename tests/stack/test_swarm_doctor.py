"""scripts/doctor --swarm on a real swarm of one node, whose engine has a network namespace of its own; and --node on an engine with images.

That engine has no images, so nothing of the stack starts there: what a swarm says of that must be found.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.diagnosis.finding import Finding
from tests.conftest import ROOT, environment
from tests.doctor.conftest import one
from tests.stack import dockerd
from tests.stack.conftest import Stack
from tests.stack.waiting import wait

NAME, ADDRESS = "clsdoctor", "10.206.0.1"
NOWHERE = "sha256:" + "0" * 64


class Engine:
    """An engine with nothing in it, and commands in its network."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = environment(home, MODEL__NAME="demo") | {"DOCKER_HOST": dockerd.host(home), "CLOISTER_PROJECT": "cloister"}

    def run(self, *command: str | Path, given: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        entering = [*dockerd.entering(NAME), *map(str, command)]
        return subprocess.run(entering, env=self.env | env, input=given, text=True, capture_output=True, timeout=120, check=False)

    def docker(self, *command: str, **more: Any) -> str:
        done = self.run("docker", *command, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def doctor(self) -> list[Finding]:
        done = self.run(ROOT / "scripts/doctor", "--swarm", "--json")
        found = [Finding(**item) for item in json.loads(done.stdout)]
        assert done.returncode == any(item.level == "BAD" for item in found), done.stderr
        return found


@pytest.fixture
def lonely(engine: str, tmp_path: Path) -> Iterator[Engine]:
    """It has an address by which a swarm may be advertised, and no way anywhere."""
    there = Engine(tmp_path)
    with dockerd.namespace(NAME):
        link = ["link", "add", "clsd0", "type", "veth", "peer", "name", "clsd1"]
        for command in (link, ["address", "add", f"{ADDRESS}/24", "dev", "clsd0"], ["link", "set", "clsd0", "up"]):
            subprocess.run(["ip", "-n", NAME, *command], check=True)
        with dockerd.engine(tmp_path, NAME):
            yield there
            there.run("docker", "swarm", "leave", "--force")


def deploy(engine: Engine) -> None:
    """swarm.yaml with images that no engine has."""
    secrets, text = engine.home / "secrets", (ROOT / "swarm.yaml").read_text()
    secrets.mkdir()
    for name in re.findall(r"\$\{SWARM_SECRETS\}/(\w+)", text):
        (secrets / name).write_text("\n")
    needed = {name: NOWHERE if "IMAGE" in name else "0" for name in re.findall(r"\$\{(SWARM_\w+):\?", text)}
    command = ("stack", "deploy", "--compose-file", "-", "--resolve-image", "never", "cloister")
    engine.docker(*command, given=text, **needed, SWARM_SECRETS=str(secrets))


def test_a_swarm_that_comes_up(lonely: Engine) -> None:
    assert "scripts/swarm up" in one(lonely.doctor(), "BAD", "swarm", "is in no swarm").todo

    lonely.docker("swarm", "init", "--advertise-addr", ADDRESS)
    found = lonely.doctor()
    one(found, "ok", "swarm", "a swarm of 1 node")
    one(found, "BAD", "swarm", "no node is labelled cloister.api=true")
    one(found, "warn", "services", "nothing of the stack cloister runs")
    one(found, "ok", "nodes", "of memory and")

    labels = [text for name in ("api", "entry", "first") for text in ("--label-add", f"cloister.{name}=true")]
    lonely.docker("node", "update", *labels, lonely.docker("node", "ls", "--quiet").strip())
    deploy(lonely)
    wait(lambda: "Rejected" in lonely.docker("stack", "ps", "--format", "{{.Name}} {{.CurrentState}}", "cloister"), 60)
    found = lonely.doctor()
    one(found, "ok", "swarm", "cloister.api: ")
    assert [item for item in found if item.level == "BAD" and "lacks the images of" in item.found and "balancer" in item.found]
    assert [item for item in found if item.topic == "services" and "No such image" in item.found], found
    one(found, "ok", "networks", "replicas are encrypted between the nodes")
    one(found, "ok", "networks", "the replicas' subnet 10.213.8.0/26 has 61 addresses, and 4 are needed")
    one(found, "ok", "networks", "the ports 7860, 8000 are free")


def test_one_node_with_the_images(stack: Stack) -> None:
    """The engine of the stack is in no swarm, and stays so; a container is sent into it, and none stays behind."""
    listed = ("docker", "ps", "--all", "--quiet", "--filter", "ancestor=" + stack.image("gateway"))
    before = stack.run(*listed).stdout
    done = stack.run(ROOT / "scripts/doctor", "--swarm", "--node", "--json", check=False)
    found = [Finding(**item) for item in json.loads(done.stdout)]
    one(found, "BAD", "swarm", "this engine is in no swarm")
    one(found, "ok", "nodes", "of memory and")
    told = [item for item in found if item.level in ("ok", "warn", "BAD")]
    assert len([item for item in told if "gain privileges" in item.found]) == 1, found
    assert len([item for item in told if "ESP" in item.found]) == 1, "the kernel has answered, one way or the other"
    one(found, "BAD", "networks", f"port {stack.env['CLOISTER_UI__PORT']} is taken by")
    assert stack.run(*listed).stdout == before
