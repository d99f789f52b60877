"""The replicas: does every balancer see each of them, and have all of them the same model."""

from __future__ import annotations

import csv
import io
import ipaddress

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.swarm.cluster import Cluster, Machine
from services.ui.told import Told

NEAR = "near"  # the backend of docker/haproxy.cfg that knows who has room
WIRE = ("L4TOUT", "L7TOUT")  # of HAProxy's checks: packets are lost
LOADING = "L7STS"  # it answers, but not with 200
LOST = "let 4789/udp and, if the networks are encrypted, ESP (IP protocol 50) through between all nodes; see the kernels above"


def examine(cluster: Cluster) -> list[Finding]:
    notes = Notes("replicas")
    if not cluster.services:
        return notes.all
    for machine in cluster.machines:
        if machine.node in cluster.running("balancer"):
            _balancer(cluster, machine, notes)
    _models(cluster, notes)
    return notes.all


def _balancer(cluster: Cluster, machine: Machine, notes: Notes) -> None:
    """What HAProxy there says of each replica that Swarm says is running."""
    name, servers = cluster.name(machine.node), read(machine.balancer)
    if not servers:
        notes.skip(f"the balancer on {name} does not tell whom it sees")
        return
    seen, busy = [], []
    for node, task in cluster.running("api").items():
        server = servers.get(_server(task, cluster), {})
        status, check = server.get("status", "unknown"), server.get("check_status", "").strip("* ")
        if status.startswith("UP"):
            seen.append(cluster.name(node))
        elif status.startswith("NOLB"):
            busy.append(cluster.name(node))
        elif check == LOADING:
            notes.warn(
                f"the balancer on {name} waits for the replica on {cluster.name(node)}: it is not ready", "wait until its model is loaded"
            )
        else:
            found = f"the balancer on {name} does not see the replica on {cluster.name(node)} ({status}, {check or 'no check'})"
            notes.bad(found, LOST if check in WIRE and node != machine.node else f"docker service logs {cluster.stack}_api")
    if busy:
        notes.ok(f"the balancer on {name} spares {', '.join(busy)}: no room there, or about to stop")
    if seen:
        notes.ok(f"the balancer on {name} sees the replicas on {', '.join(seen)}")


def read(statistics: str) -> dict[str, dict[str, str]]:
    """HAProxy's CSV: a row for each server of the backend."""
    rows = csv.DictReader(io.StringIO(statistics.removeprefix("# ")))
    return {row["svname"]: row for row in rows if row.get("pxname") == NEAR and row["svname"] != "BACKEND"}


def _server(task: Told, cluster: Cluster) -> str:
    """A replica's name in docker/haproxy.cfg: the place of its address in the subnet."""
    for network in task.items("NetworksAttachments"):
        if network.text("Network", "Spec", "Name") == f"{cluster.stack}_replicas":
            for given in network.items("Addresses"):
                found = ipaddress.IPv4Interface(given.text())
                return f"a{int(found.ip) - int(found.network.network_address)}"
    return ""


def _models(cluster: Cluster, notes: Notes) -> None:
    """By the manifest of what each engine has opened."""
    hashes: dict[str, list[str]] = {}
    titles = {}
    for machine in cluster.machines:
        sha256, name = machine.model.text("model", "sha256"), cluster.name(machine.node)
        if sha256:
            hashes.setdefault(sha256, []).append(name)
            titles[sha256] = f"{machine.model.text('title')}, {machine.model.text('quant')}"
        elif machine.node in cluster.running("api"):
            notes.warn(f"no model is prepared on {name} yet", f"wait, or see docker service logs {cluster.stack}_init")
    if len(hashes) > 1:
        each = "; ".join(f"{', '.join(names)}: {titles[sha256]}, sha256 {sha256[:12]}" for sha256, names in hashes.items())
        notes.bad(f"the nodes have different models: {each}", "scripts/swarm up, and wait until each has the new one")
    elif hashes:
        ((sha256, names),) = hashes.items()
        notes.ok(f"{titles[sha256]}, sha256 {sha256[:12]} on {', '.join(names)}")
