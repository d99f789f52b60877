"""What is examined: a swarm as its manager tells of it, and the engines of its nodes that can be asked. Judges nothing, asks nobody."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from services.ui.told import Told

ONCE = ("on-failure", "none")  # restart conditions of a service that does its work and ends


@dataclass(frozen=True)
class Machine:
    """A node whose engine answers. `host`: as docker -H takes it, "" the one that this docker means. `info`: docker info, asked at `asked`
    and answered `took` seconds later. `seen` and `esp`: what probe.py told. `missing`: images of the stack that are not there.
    `door`: it runs there. `model`: the manifest in its api. `balancer`: HAProxy's own account, or what it said instead."""

    host: str
    info: Told
    asked: float = 0.0
    took: float = 0.0
    seen: Told = field(default_factory=Told)
    esp: Told = field(default_factory=Told)
    missing: tuple[str, ...] = ()
    door: bool = False
    model: Told = field(default_factory=Told)
    balancer: str = ""

    @property
    def node(self) -> str:
        return self.info.text("Swarm", "NodeID")


@dataclass
class Cluster:
    """`nodes`, `services`, `tasks` and `networks` as docker inspect has them; `error`: why the manager tells nothing; `silent`: hosts of
    joined nodes where no engine answers; `subnet`: of the replicas, as it would be made; `declared`: services of swarm.yaml; `now`:
    seconds since the epoch."""

    stack: str
    info: Told
    client: str = ""
    error: str = ""
    nodes: list[Told] = field(default_factory=list)
    services: list[Told] = field(default_factory=list)
    tasks: list[Told] = field(default_factory=list)
    networks: list[Told] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    subnet: str = ""
    declared: tuple[str, ...] = ()
    now: float = 0.0

    def name(self, node: str) -> str:
        """The node's host name, with its address where two have the same; else a shortened id."""
        names = [one.text("Description", "Hostname") for one in self.nodes]
        for one, hostname in zip(self.nodes, names, strict=True):
            if one.text("ID") == node:
                return hostname if names.count(hostname) == 1 else f"{hostname} ({address(one)})"
        here = next((machine.info.text("Name") for machine in self.machines if machine.node == node), "")
        return here or node[:12]

    def wanted(self, service: Told) -> list[Told]:
        """The nodes where a global service should be, whatever state they are in."""
        return [node for node in self.nodes if all(_fits(node, rule) for rule in rules(service))]

    def latest(self, service: Told, node: str) -> Told:
        """The newest task of a service on a node; nothing where there is none."""
        there = [task for task in self.tasks if task.text("ServiceID") == service.text("ID") and task.text("NodeID") == node]
        return max(there, key=lambda task: task.text("CreatedAt"), default=Told())

    def service(self, short: str) -> Told:
        """A service by its name in swarm.yaml."""
        return next((one for one in self.services if self.short(one) == short), Told())

    def short(self, service: Told) -> str:
        """As swarm.yaml calls it."""
        return service.text("Spec", "Name").removeprefix(f"{self.stack}_")

    def running(self, short: str) -> dict[str, Told]:
        """The running tasks of a service by node."""
        found = {node.text("ID"): self.latest(self.service(short), node.text("ID")) for node in self.nodes}
        return {node: task for node, task in found.items() if state(task) == "running"}


def address(node: Told) -> str:
    """Where other nodes reach it."""
    manages = node.text("ManagerStatus", "Addr").rpartition(":")[0]
    known = node.text("Status", "Addr")
    return manages if known in ("", "0.0.0.0", "127.0.0.1") and manages else known


def usable(node: Told) -> bool:
    """Whether it gets tasks."""
    return node.text("Status", "State") == "ready" and node.text("Spec", "Availability") == "active"


def labelled(node: Told, label: str) -> bool:
    return node.at("Spec", "Labels").pairs().get(label) == "true"


def state(task: Told) -> str:
    return task.text("Status", "State")


def rules(service: Told) -> list[str]:
    """On which nodes it may be."""
    return [rule.text() for rule in service.items("Spec", "TaskTemplate", "Placement", "Constraints")]


def excludes(service: Told) -> bool:
    """Whether it is for the rest of the nodes, of which there may be none."""
    return any("!=" in rule for rule in rules(service))


def once(service: Told) -> bool:
    """Whether it does its work and ends."""
    return service.text("Spec", "TaskTemplate", "RestartPolicy", "Condition") in ONCE


def moment(text: str) -> float | None:
    """Seconds since the epoch of Docker's time, which has nanoseconds."""
    head, _, rest = text.rstrip("Z").partition(".")
    try:
        return datetime.datetime.fromisoformat(f"{head}.{(rest or '0')[:6]:0<6}+00:00").timestamp()
    except ValueError:
        return None


def _fits(node: Told, rule: str) -> bool:
    """`node.labels.NAME == VALUE` or `!=`; other rules are not ours."""
    key, unequal, value = rule.partition("!=") if "!=" in rule else rule.partition("==")
    label = key.strip().removeprefix("node.labels.")
    if label == key.strip():
        return True
    return (node.at("Spec", "Labels").pairs().get(label) == value.strip()) != (unequal == "!=")
