"""Asks Docker: the manager about its swarm, and each engine that scripts/swarm has joined about itself. Judges nothing.

Into nodes that have the images, probe.py is sent in a short-lived container; without them, only this machine is looked at, as a process.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.diagnosis.swarm import probe
from scripts.diagnosis.swarm.cluster import Cluster, Machine, address
from services.shared.settings import ROOT
from services.ui.told import Told

WAIT = 60.0  # seconds for an answer of an engine
HOST = "cloister.host"  # label of a node that scripts/swarm joined: where its engine answers
SUBNET = "10.213.8.0/26"  # as swarm.yaml has it
PROBE = ("run", "--rm", "--interactive", "--user", "0", "--cap-drop", "ALL", "--read-only", "--entrypoint", "python3")
STATISTICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:2020/stats;csv', timeout=5).read().decode())"
MANAGED = 2377  # port of a manager
GOSSIP = 7946  # port of every node


class Docker:
    """The docker command for one engine."""

    def __init__(self, environ: Mapping[str, str], host: str = "") -> None:
        self.host, self._environ = host, environ
        self._command = ["docker", *(["-H", host] if host else [])]

    def run(self, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Without an engine, or a docker, it is a command that failed."""
        command = [*self._command, *arguments]
        try:
            return subprocess.run(command, env=self._environ, input=given, capture_output=True, timeout=WAIT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, 1, b"", type(error).__name__.encode())

    def say(self, *arguments: str) -> str:
        return self.run(*arguments).stdout.decode("utf-8", "replace").strip()

    def told(self, *arguments: str, given: bytes = b"") -> Told:
        """JSON that it says; `error` is the last line of what it says instead."""
        done = self.run(*arguments, given=given)
        try:
            return Told(json.loads(done.stdout))
        except ValueError:
            return Told({"error": done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or f"status {done.returncode}"})

    def inspect(self, kind: str, identities: str) -> list[Told]:
        """Of some, if there are any."""
        return self.told("inspect", "--type", kind, *identities.split()).items() if identities else []


def look(environ: Mapping[str, str], *, alone: bool = False) -> Cluster:
    """The swarm that this engine manages; `alone`: only what is here, as on a worker."""
    stack = environ.get("CLOISTER_PROJECT") or "cloister"
    here = Docker(environ)
    cluster = Cluster(stack, here.told("info", "--format", "{{json .}}"), now=time.time())
    cluster.client = here.say("version", "--format", "{{.Client.Version}}")
    cluster.declared = _declared((ROOT / "swarm.yaml").read_text(encoding="utf-8"))
    cluster.subnet = environ.get("CLOISTER_SWARM_SUBNET") or SUBNET
    if cluster.info.yes("Swarm", "ControlAvailable") and not alone:
        _ask_manager(cluster, here)
    cluster.networks = here.inspect("network", here.say("network", "ls", "--quiet", "--filter", "scope=swarm"))
    with ThreadPoolExecutor(16) as pool:
        hosts = [host for node in cluster.nodes if (host := node.text("Spec", "Labels", HOST))]
        found = list(pool.map(lambda host: _machine(cluster, Docker(environ, host)), ["", *hosts]))
    for machine in found:
        if not machine.info.text("ServerVersion"):
            cluster.silent.append(machine.host)
        elif machine.node not in [known.node for known in cluster.machines]:
            cluster.machines.append(machine)
    return cluster


def _ask_manager(cluster: Cluster, here: Docker) -> None:
    listed = here.run("node", "ls", "--quiet")
    if listed.returncode:
        cluster.error = listed.stderr.decode("utf-8", "replace").strip()
        return
    mine = ("--filter", f"label=com.docker.stack.namespace={cluster.stack}")
    cluster.nodes = here.inspect("node", listed.stdout.decode())
    cluster.services = here.inspect("service", here.say("service", "ls", "--quiet", *mine))
    if cluster.services:
        cluster.tasks = here.inspect("task", here.say("stack", "ps", "--quiet", "--no-trunc", cluster.stack))


def _declared(stack: str) -> tuple[str, ...]:
    """The services of swarm.yaml, which is made, so that its form is known; the system's Python has no YAML."""
    return tuple(re.findall(r"^  (\w+):$", stack.partition("\nservices:\n")[2].partition("\nnetworks:\n")[0], re.MULTILINE))


def _machine(cluster: Cluster, docker: Docker) -> Machine:
    """One engine and its machine."""
    asked = time.time()
    info = docker.told("info", "--format", "{{json .}}")
    took = time.time() - asked
    if not info.text("ServerVersion"):
        return Machine(docker.host, info)
    image = _image(cluster, docker)
    there = _there(docker, *{_image_of(one) for one in cluster.services})
    missing = tuple(cluster.short(one) for one in cluster.services if _image_of(one) not in there)
    neighbours = _neighbours(cluster, info.text("Swarm", "NodeID"))
    seen = _probe(docker, image, "host", *neighbours)
    esp = _probe(docker, image, "esp") if image else Told({"error": "no image"})
    door = bool(_container(cluster, docker, "door"))
    return Machine(docker.host, info, asked, took, seen, esp, missing, door, _model(cluster, docker), _balancer(cluster, docker))


def _image_of(service: Told) -> str:
    return service.text("Spec", "TaskTemplate", "ContainerSpec", "Image")


def _there(docker: Docker, *images: str) -> list[str]:
    """Those ids of these that the engine has."""
    return docker.say("image", "inspect", "--format", "{{.Id}}", *images).split() if images else []


def _image(cluster: Cluster, docker: Docker) -> str:
    """One with a Python in it that is there: of the stack, or built for it."""
    known = [_image_of(cluster.service("gateway")), _image_of(cluster.service("balancer"))]
    built = docker.say("image", "ls", "--quiet", "--no-trunc", "cloister-gateway").split()
    wanted = [image for image in (*known, *built[:1]) if image]
    return next(iter(_there(docker, *wanted)), "")


def _neighbours(cluster: Cluster, node: str) -> list[str]:
    """What other nodes must let in, from this one."""
    if cluster.nodes:
        others = [one for one in cluster.nodes if one.text("ID") != node and one.text("Status", "State") == "ready"]
        managers = [f"{address(one)}:{MANAGED}" for one in others if one.at("ManagerStatus")]
        return managers + [f"{address(one)}:{GOSSIP}" for one in others]
    return [one.text("Addr") for one in cluster.info.items("Swarm", "RemoteManagers")]


def _probe(docker: Docker, image: str, part: str, *more: str) -> Told:
    source = Path(probe.__file__).read_bytes()
    if image:
        walls = ("--network", "host") if part == "host" else ("--network", "none", "--cap-add", "NET_ADMIN")
        return docker.told(*PROBE, *walls, image, "-", part, *more, given=source)
    if docker.host:
        return Told({"error": "it has no image of the stack"})
    done = subprocess.run([sys.executable, probe.__file__, part, *more], capture_output=True, timeout=WAIT, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return Told({"error": "it could not be looked at"})
    return Told({**found, "no_new_privileges": None})  # a process tells nothing of containers


def _container(cluster: Cluster, docker: Docker, short: str) -> str:
    """The running container of a service on that engine."""
    wanted = ("--filter", f"label=com.docker.swarm.service.name={cluster.stack}_{short}", "--filter", "status=running")
    return docker.say("ps", "--quiet", *wanted).partition("\n")[0]


def _model(cluster: Cluster, docker: Docker) -> Told:
    """Of the model that the engine has opened, or of the one in the volume while it has none."""
    found, read = _container(cluster, docker, "api"), "cat var/run/model/manifest.json 2>/dev/null || cat var/volume/current/manifest.json"
    return docker.told("exec", found, "sh", "-c", read) if found else Told()


def _balancer(cluster: Cluster, docker: Docker) -> str:
    found = _container(cluster, docker, "balancer")
    return docker.say("exec", found, "python3", "-c", STATISTICS) if found else ""
