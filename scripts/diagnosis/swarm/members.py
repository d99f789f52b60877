"""Does this engine manage a swarm, are its nodes there, are there managers enough, and is each node labelled for its work."""

from __future__ import annotations

import re

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.swarm.cluster import Cluster, labelled, rules
from services.ui.told import Told

OLDEST = (20, 10)
OLD = "20.10"
FIRST = "cloister.first"


def examine(cluster: Cluster, *, alone: bool = False) -> list[Finding]:
    """`alone`: only what is to be said of this engine, which may be a worker's."""
    notes = Notes("swarm")
    if alone and cluster.info.text("Swarm", "LocalNodeState") == "active":
        kind = "manager" if cluster.info.yes("Swarm", "ControlAvailable") else "worker"
        notes.ok(f"this engine is a {kind} of a swarm, by {cluster.info.text('Swarm', 'NodeAddr')}")
        return notes.all
    if not _manages(cluster, notes):
        return notes.all
    ready = [node for node in cluster.nodes if node.text("Status", "State") == "ready"]
    for node in cluster.nodes:
        _node(cluster, node, notes)
    if len(ready) == len(cluster.nodes):
        notes.ok(f"this engine manages a swarm of {_count(ready, 'node')}, and all of them answer")
    _managers(cluster, notes)
    _versions(cluster, notes)
    _labels(cluster, notes)
    return notes.all


def _manages(cluster: Cluster, notes: Notes) -> bool:
    swarm = cluster.info.at("Swarm")
    state, error = swarm.text("LocalNodeState"), swarm.text("Error") or cluster.error
    if not cluster.info.text("ServerVersion"):
        reason = cluster.info.text("error") or ", ".join(one.text() for one in cluster.info.items("ServerErrors"))
        notes.bad(f"no Docker engine answers: {reason}", "start it (systemctl start docker), or set DOCKER_HOST")
    elif state in ("", "inactive"):
        notes.bad("this engine is in no swarm", "scripts/swarm up begins one; scripts/swarm join, on a manager, takes this one in")
    elif state != "active":
        todo = "see the engine's log (journalctl -u docker); docker swarm unlock, if the swarm is locked"
        notes.bad(f"this engine is in a swarm, and its state there is {state}{f': {error}' if error else ''}", todo)
    elif not swarm.yes("ControlAvailable"):
        notes.bad("this engine is a worker of a swarm", "run this on a manager; here, scripts/doctor --swarm --node looks at this machine")
    elif error:
        todo = "bring the other managers back; if they are gone for good: docker swarm init --force-new-cluster on this one"
        notes.bad(f"the swarm can't be managed: {error}", todo)
    else:
        return True
    return False


def _node(cluster: Cluster, node: Told, notes: Notes) -> None:
    name, state = cluster.name(node.text("ID")), node.text("Status", "State")
    if state != "ready":
        said = node.text("Status", "Message")
        todo = f"start the machine and its engine; if it is gone for good: docker node rm --force {node.text('ID')}"
        notes.bad(f"{name} is {state or 'unknown'}{f' ({said})' if said else ''}", todo)
    elif (availability := node.text("Spec", "Availability")) != "active":
        notes.warn(f"{name} gets no work: it is set to {availability}", f"docker node update --availability active {node.text('ID')}")


def _managers(cluster: Cluster, notes: Notes) -> None:
    managers = [node for node in cluster.nodes if node.at("ManagerStatus")]
    lost = [node for node in managers if node.text("ManagerStatus", "Reachability") != "reachable"]
    for node in lost:
        notes.bad(f"the manager {cluster.name(node.text('ID'))} is not to be reached by the others", "start it; let 2377/tcp through to it")
    number, nodes = len(managers), len(cluster.nodes)
    may_go = (number - 1) // 2
    alone = "without it nothing is replaced or changed, though what runs goes on"
    more = "docker node promote two others: 3 managers bear the loss of one"
    if number == 1 and nodes < 3:
        notes.ok(f"1 manager: {alone}; three nodes or more could have 3 managers")
    elif number == 1:
        notes.warn(f"1 manager of {nodes} nodes: {alone}", more)
    elif number == 2:
        todo = "docker node promote a third one" if nodes > 2 else "docker node demote one of them, or join a third node and promote it"
        notes.warn("2 managers are worse than 1: when either is gone, nothing can be replaced or changed", todo)
    elif number % 2 == 0:
        found = f"{number} managers bear the loss of {may_go}, no more than {number - 1} would"
        notes.warn(found, "docker node promote one more, or demote one")
    elif not lost:
        notes.ok(f"{number} managers: {may_go} of them may be gone")


def _versions(cluster: Cluster, notes: Notes) -> None:
    engines = {cluster.name(node.text("ID")): node.text("Description", "Engine", "EngineVersion") for node in cluster.nodes}
    old = [f"{name} has {version}" for name, version in engines.items() if _number(version) < OLDEST]
    if old:
        notes.bad(f"Docker {OLD} or newer is needed: {', '.join(old)}", "install a newer one there")
    if _number(cluster.client) < OLDEST:
        notes.bad(f"docker's command is {cluster.client or 'of an unknown version'}, {OLD} or newer is needed", "install a newer one here")
    if len(set(engines.values())) > 1:
        each = ", ".join(f"{name} {version}" for name, version in engines.items())
        notes.warn(f"the engines are of different versions: {each}", "bring them to the same one, managers last")
    elif not old:
        notes.ok(f"all engines are {', '.join(set(engines.values()))}, the command {cluster.client}")


def _labels(cluster: Cluster, notes: Notes) -> None:
    name = {node.text("ID"): cluster.name(node.text("ID")) for node in cluster.nodes}
    todo = "docker node update --label-add {}=true NODE"
    for label, work in (("cloister.api", "answers"), ("cloister.entry", "has the published ports")):
        there = [name[node.text("ID")] for node in cluster.nodes if labelled(node, label)]
        if there:
            notes.ok(f"{label}: {', '.join(there)}")
        else:
            notes.bad(f"no node is labelled {label}=true, so none {work}", f"scripts/swarm up, or {todo.format(label)}")
    _first(cluster, name, notes)
    spare = [name[node.text("ID")] for node in cluster.nodes if not any("cloister." in label for label in node.pairs("Spec", "Labels"))]
    if spare:
        notes.warn(f"without a label of ours, nothing runs on {', '.join(spare)}", "scripts/swarm join HOST, or leave it so")


def _first(cluster: Cluster, name: dict[str, str], notes: Notes) -> None:
    """The one that fetches the model, where the stack has such a one."""
    first = [name[node.text("ID")] for node in cluster.nodes if labelled(node, FIRST)]
    if len(first) > 1:
        found = f"{', '.join(first)} are all labelled {FIRST}=true, but only one may give the model to the others"
        notes.bad(found, f"docker node update --label-rm {FIRST} all but one of them")
    elif first:
        notes.ok(f"{FIRST}: {first[0]}")
    elif any(FIRST in rule for one in cluster.services for rule in rules(one)):
        notes.bad(f"no node is labelled {FIRST}=true, so none fetches the model", f"docker node update --label-add {FIRST}=true NODE")


def _number(version: str) -> tuple[int, int]:
    """The first two parts of 20.10.24+dfsg1."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _count(things: list[Told], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
