"""One service of compose.yaml as a service of the stack.

Every key that compose.yaml uses is named here, so that a new one stops the making of swarm.yaml until somebody has thought of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scripts.swarming import mount
from scripts.swarming.expression import translated

Piece = dict[str, Any]

# Where it runs: on each node that has the label. More nodes of a kind are more labels, but one is the first: it prepares the model.
FIRST, API, ENTRY = "cloister.first", "cloister.api", "cloister.entry"
LABELS = {"init": FIRST, "api": API, "ui": ENTRY, "gateway": ENTRY, "door": ENTRY}
STEADY = {"condition": "any", "delay": "2s"}


class Unknown(ValueError):
    """compose.yaml says something that was never translated; the message names it."""


def _same(key: str) -> Callable[[Any], Piece]:
    return lambda value: {key: translated(value)}


def _limit(key: str) -> Callable[[Any], Piece]:
    return lambda value: {"deploy": {"resources": {"limits": {key: value}}}}


def _dropped(_: Any) -> Piece:
    return {}


def _restart(value: str) -> Piece:
    kind, _, attempts = value.partition(":")
    policy = {"condition": kind, "delay": "5s", "max_attempts": int(attempts)} if kind == "on-failure" else STEADY
    return {"deploy": {"restart_policy": policy}}


def _image(value: str) -> Piece:
    """By its id, which scripts/swarm knows: so no node asks a registry, and all run the same."""
    name = value.partition(":")[0].removeprefix("cloister-").upper()
    return {"image": f"${{SWARM_IMAGE_{name}:?is set by scripts/swarm}}"}


def _ports(lines: list[str]) -> Piece:
    """In the node's own network: the mesh of all nodes needs IPVS, and shows no client's address."""
    ports = []
    for line in lines:
        published, target = line.replace(":-", "\0").split(":")[-2:]
        ports.append({"mode": "host", "target": int(target), "published": published.replace("\0", ":-"), "protocol": "tcp"})
    return {"ports": ports}


def _volumes(lines: list[str]) -> Piece:
    return {"volumes": [made for line in lines if (made := mount.volume(line))]}


KEYS: dict[str, Callable[[Any], Piece]] = {
    **{
        key: _same(key)
        for key in ("cap_add", "cap_drop", "dns", "environment", "logging", "networks", "read_only", "secrets", "stop_grace_period")
    },
    "sysctls": _same("sysctls"),
    "build": _dropped,  # images are made beforehand
    "security_opt": _dropped,  # a stack can't say no-new-privileges: dockerd of each node does ("no-new-privileges": true)
    "cpus": _limit("cpus"),
    "mem_limit": _limit("memory"),
    "pids_limit": _limit("pids"),
    "image": _image,
    "ports": _ports,
    "restart": _restart,
    "tmpfs": lambda lines: {"volumes": [mount.tmpfs(line) for line in lines]},
    "volumes": _volumes,
}


def service(name: str, compose: Piece) -> Piece:
    """The service `name` of the stack.

    Raises:
        Unknown: a key of it was never thought of.
    """
    made: Piece = {"deploy": placed(LABELS[name])}
    for key, value in compose.items():
        if key not in KEYS:
            raise Unknown(f"compose.yaml: services.{name}.{key} has no translation in scripts/swarming/service.py")
        merge(made, KEYS[key](value))
    return made


def placed(label: str, *without: str) -> Piece:
    """One on each node with this label and none of the others, found by its addresses (no IPVS), replaced one at a time, and taken back
    when that fails."""
    constraints = [f"node.labels.{label} == true", *(f"node.labels.{other} != true" for other in without)]
    change = {"parallelism": 1, "order": "stop-first", "monitor": "15s"}
    return {
        "mode": "global",
        "endpoint_mode": "dnsrr",
        "placement": {"constraints": constraints},
        "update_config": change | {"failure_action": "rollback"},
        "rollback_config": dict(change),
    }


def merge(into: Piece, piece: Piece) -> None:
    """Put the piece into what is there; lists are joined."""
    for key, value in piece.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        elif isinstance(value, list) and isinstance(into.get(key), list):
            into[key] = into[key] + value
        else:
            into[key] = value
