"""The appliance on a swarm of two machines for the swarm tests: what scripts/swarm makes on the engines of tests/stack/nodes.py.

Owns the images' way there, the hub that the first machine reaches, keys, and clients that ask while something happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.init.demo import expand
from tests.conftest import ROOT
from tests.stack import dockerd
from tests.stack.callers import Request
from tests.stack.nodes import ADDRESSES, Node, nodes
from tests.stack.waiting import wait

PROJECT, REPO, HUB_PORT = "cloister", "someone/demo", 8100
API = f"http://{ADDRESSES[0]}:8000"
PAGE = f"http://{ADDRESSES[0]}:7860"
ENTRY = ("door", "gateway", "ui", "relay", "balancer")  # of each machine that people come in by


@dataclass(frozen=True)
class Cluster:
    """Both machines, the environment for scripts/swarm on the first one, API keys by name, and the hub's journal."""

    first: Node
    second: Node
    env: dict[str, str]
    keys: dict[str, str]
    journal: Path

    def swarm(self, *arguments: str, **more: str) -> str:
        """What scripts/swarm says, run on the first machine."""
        return self.run("swarm", *arguments, **more)

    def run(self, script: str, *arguments: str, timeout: float = 600, **more: str) -> str:
        """The same of another script."""
        command = [ROOT / "scripts" / script, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.env | more, text=True, capture_output=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.explain()}"
        return done.stdout + done.stderr

    def explain(self) -> str:
        """For a failed assertion: what does not run, and what the services said last."""
        said = self.first.docker(
            "stack", "ps", "--no-trunc", "--format", "{{.Name}} {{.Node}} {{.CurrentState}} {{.Error}}", PROJECT, check=False
        )
        for service in ("init", "api", "balancer", "relay"):
            said += f"--- {service}\n" + self.first.docker("service", "logs", "--tail", "15", f"{PROJECT}_{service}", check=False)
        return said

    def container(self, node: Node, service: str) -> str:
        """The id of the service's newest running container on that machine, empty without one."""
        found = node.docker("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={PROJECT}_{service}").split()
        return found[0] if found else ""

    def open(self, node: Node) -> None:
        """Let people come in by that machine, too, and wait until they can."""
        self.swarm("take", node.identity(), "--entry")
        healthy = ("ps", "--quiet", "--filter", "health=healthy", "--filter", f"label=com.docker.stack.namespace={PROJECT}")
        wait(lambda: len(node.docker(*healthy).split()) == len((*ENTRY, "api")), 120, self.explain)

    def later(self) -> str:
        """Make a release `later` on the first machine, of which only the api differs; the id of that one's image."""
        for image in images():
            self.first.docker("tag", f"cloister-{image}:{self.env['CLOISTER_TAG']}", f"cloister-{image}:later")
        build = ["docker", "-H", self.first.host, "build", "--quiet", "--tag", "cloister-api:later", "-"]
        made = f"FROM cloister-api:{self.env['CLOISTER_TAG']}\nLABEL release=later\n"
        subprocess.run(build, input=made, text=True, check=True, capture_output=True)
        return self.first.docker("image", "inspect", "--format", "{{.Id}}", "cloister-api:later")

    def state(self, node: Node) -> str:
        """What the first machine thinks of that one: ready or down."""
        return self.first.docker("node", "inspect", "--format", "{{.Status.State}}", node.identity()).strip()

    def tasks(self, service: str) -> list[str]:
        """The ids of the containers that were ever started for a service, by machine."""
        label = f"label=com.docker.swarm.service.name={PROJECT}_{service}"
        return [" ".join(sorted(node.docker("ps", "--all", "--quiet", "--filter", label).split())) for node in (self.first, self.second)]

    def images(self, service: str) -> list[str]:
        """What runs of a service on each machine: the id of its image, or an empty line."""
        found = [(node, self.container(node, service)) for node in (self.first, self.second)]
        return [node.docker("inspect", "--format", "{{.Image}}", container, check=False) if container else "" for node, container in found]

    def digest(self, node: Node) -> str:
        """The sha256 of the model in use, read from the machine's volume."""
        return node.docker("exec", self.container(node, "api"), "sha256sum", "var/volume/current/model.gguf").split()[0]

    def _balanced(self) -> list[list[str]]:
        """The rows of the first machine's balancer about addresses where a replica lives: backend, server, and HAProxy's other columns."""
        code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:2020/stats;csv', timeout=5).read().decode())"
        said = self.first.docker("exec", self.container(self.first, "balancer"), "python3", "-c", code, check=False)
        return [row for line in said.splitlines() if (row := line.split(","))[0] in ("near", "any") and row[1].startswith("a")]

    def replicas(self) -> set[str]:
        """The servers to which the first machine's balancer sends."""
        return {row[1] for row in self._balanced() if row[0] == "near" and row[17] == "UP"}

    def server(self, node: Node) -> str:
        """What the balancers call the replica of that machine."""
        networks = json.loads(node.docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", self.container(node, "api")))
        return "a" + str(networks[f"{PROJECT}_replicas"]["IPAddress"].rpartition(".")[2])

    def answered(self, node: Node) -> int:
        """Requests that the first machine's balancer has sent to the replica of that machine."""
        server = self.server(node)
        return sum(int(row[7]) for row in self._balanced() if row[1] == server)

    def quants(self) -> set[str]:
        """Of the models that the replicas run, as /v1/status tells; an empty one stands for a replica that has none yet."""
        replicas = self.ask("/v1/status")[1]["cluster"]["replicas"]
        return {(one["model"] or {"quant": ""})["quant"] for one in replicas if one["state"] != "down"}

    def running(self, server: str) -> int:
        """Requests that a replica answers now, as /v1/status tells."""
        return sum(one["running"] or 0 for one in self.ask("/v1/status")[1]["cluster"]["replicas"] if one["name"] == server)

    def ask(self, path: str, body: Any = None, *, key: str = "first") -> tuple[int, Any]:
        """Status and JSON of what the API on the first machine answers; with a body it is a POST."""
        [answer] = self._clients("once", API + path, json.dumps(body), key=key)
        return int(answer[0]), answer[1]

    def _start(self, *arguments: object, key: str = "first") -> subprocess.Popen[str]:
        enter = [*dockerd.entering(self.first.name), sys.executable, "-m", "tests.stack.callers", *map(str, arguments)]
        environment = os.environ | {"CLOISTER_KEY": self.keys[key]}
        return subprocess.Popen(enter, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _clients(self, *arguments: object, key: str = "first") -> list[Any]:
        said, _ = self._start(*arguments, key=key).communicate("", timeout=900)
        found: list[Any] = json.loads(said)
        return found

    @contextlib.contextmanager
    def load(self, clients: int, tokens: int) -> Iterator[list[Request]]:
        """Clients that ask the first machine without pause meanwhile; the list is filled at the end."""
        found: list[Request] = []
        asking = self._start("endless", API, clients, tokens)
        try:
            yield found
        finally:
            said, _ = asking.communicate("", timeout=300)
        found += [Request(**one) for one in json.loads(said)]

    def conversations(self, number: int, clients: int = 3, tokens: int = 16) -> list[list[tuple[int, int]]]:
        """For each of so many conversations and each of its turns: tokens of the prompt, and those from a cache."""
        return [[(prompt, cached) for prompt, cached in turns] for turns in self._clients("conversations", API, clients, tokens, number)]


@contextlib.contextmanager
def cluster(folder: Path, tag: str) -> Iterator[Cluster]:
    """Two engines, of which the first has the images of that tag and reaches a hub; nothing runs there yet."""
    expand.expand(folder / "demo")
    secrets = folder / "secrets"
    ours = ("CLOISTER_", "HF_", "SSL_", "DOCKER_")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(ours) and not k.lower().endswith("_proxy")}
    keys = {}
    for name, command in {"first": [], "limited": ["add", "limited", "--rpm", "8"]}.items():
        at = clean | {"CLOISTER_SECRETS": str(secrets)}
        made = subprocess.run([ROOT / "scripts/keys", *command], cwd=ROOT, env=at, text=True, capture_output=True, check=True)
        keys[name] = next(word for word in made.stdout.split() if word.startswith("cl-"))
    with nodes(folder / "nodes") as (first, second), _hub(folder, first) as journal:
        _images(first, tag)
        env = clean | {
            "DOCKER_HOST": first.host,
            "CLOISTER_TAG": tag,
            "CLOISTER_SECRETS": str(secrets),
            "CLOISTER_MODEL__NAME": REPO,
            "CLOISTER_MODEL__FALLBACK": "none",
            "HF_ENDPOINT": f"http://{first.address}:{HUB_PORT}",
        }
        yield Cluster(first, second, env, keys, journal)


def images() -> list[str]:
    """Those that scripts/swarm needs."""
    own = (ROOT / "scripts/swarm").read_text().split("own=(")[1].split(")")[0]
    return ["init", "api", "ui", "gateway", "door", *own.split()]


def _images(node: Node, tag: str) -> None:
    """From the usual engine to that machine's."""
    names = [f"cloister-{image}:{tag}" for image in images()]
    with subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE) as saving:
        subprocess.run(["docker", "-H", node.host, "load", "--quiet"], stdin=saving.stdout, check=True, capture_output=True)
    assert saving.returncode == 0


@contextlib.contextmanager
def _hub(folder: Path, node: Node) -> Iterator[Path]:
    journal = folder / "journal"
    hub = [
        sys.executable,
        "-m",
        "tests.hub",
        "--host",
        node.address,
        "--port",
        str(HUB_PORT),
        "--cdn",
        node.address,
        "--journal",
        str(journal),
    ]
    command = [*dockerd.entering(node.name), *hub, "--repo", f"{REPO}={folder / 'demo'}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield journal
    finally:
        process.terminate()
        process.wait(20)
