"""The whole stack: what compose.yaml has, and what only several machines need: relay and balancer between gateway and replicas, the
store in which the replicas count the limits of keys, the depot of the first node, and the copy of its model on each other one."""

from __future__ import annotations

import json
from typing import Any

import yaml

from scripts.swarming import network
from scripts.swarming.service import API, FIRST, merge, placed, service

HEAD = """\
# One appliance on several machines, for `docker stack deploy`; scripts/swarm sets what it leaves open.
# Made by `python -m scripts.swarming` of compose.yaml: change that one, and make this again. Why so: docs/decisions/0007-swarm-yaml.md
"""
DEPOT, STORE = "depot:8080", "redis://store:6379"
# A service's name leads to all of its tasks; a task's host name is a name on the networks, too. By these an answer of the API passes
# through the entry that the client came to and the replica's node, and no third one, whose death could break it.
OWN = ("gateway", "relay", "balancer")
# What the replicas run: scripts/swarm compares, and replaces them when it has changed. Labels of the service, not of its tasks: a new one
# replaces nothing, and whatever begins from then on opens that model, whatever init has made or is not copied yet.
MODEL = {"cloister.model": "${SWARM_MODEL:-}", "cloister.opens": "${SWARM_OPENS:-}"}
OPENS = {"CLOISTER_ENGINE__MODEL": '{{index .Service.Labels "cloister.opens"}}'}
GRACE = "5m"  # for what is under way when a task is stopped
# Swarm replaces what is not healthy. A node whose cores all compute answers late: only what has said nothing for 2 minutes is stuck.
STUCK = {"interval": "10s", "timeout": "10s", "retries": 12}
# Of the api: for so long balancers are told that it is about to stop, and its answers have time to come to their end. The next replica's
# turn comes when this one answers, and not when it begins to load its model, or waits for init, which may take hours.
DRAINING = {
    "environment": {"CLOISTER_API__DRAIN": "3", "CLOISTER_API__GRACE": "280", "SUPERVISE_GRACE": "285"},
    "stop_grace_period": GRACE,
    "healthcheck": {
        "test": ["CMD", "python3", "docker/health.py", "http://127.0.0.1:8000/readyz"],
        "interval": "5s",
        "timeout": "5s",
        "retries": 60,
        "start_period": "24h",
    },
}


def stack(compose: str) -> dict[str, Any]:
    """The stack of this compose.yaml.

    Raises:
        Unknown: there is something in it that was never translated.
    """
    given = yaml.safe_load(compose)
    services = {name: service(name, described) for name, described in given["services"].items()}
    services["gateway"] = _passing(services["gateway"])
    services["relay"] = _relay(given["services"]["gateway"])
    services["balancer"] = _balancer(given["services"]["gateway"])
    services["store"] = _store(given["services"]["gateway"])
    services["depot"] = _depot(given["services"]["gateway"], services["init"])
    services["copy"] = _copy(given["services"]["init"], given["services"]["gateway"])
    services["api"]["networks"] = [network.REPLICAS, network.COUNTING]
    merge(services["api"], {"environment": {"CLOISTER_API__STORE": STORE} | OPENS, "deploy": {"labels": MODEL}})
    merge(services["api"], DRAINING)
    merge(services["gateway"], {"environment": {"GATEWAY_UPSTREAM": f"{_own('relay')}:8080", "GATEWAY_SEVERAL": "true"}})
    merge(services["door"], {"environment": {"DOOR_GATEWAY": _own("gateway")}})
    merge(services["ui"], {"environment": {"CLOISTER_UI__API": f"http://{_own('relay')}:8080"}})
    for name in OWN:
        services[name]["hostname"] = _own(name)
    for ending in ("init", "copy"):  # Swarm takes a task that has ended, even well, for one that failed; scripts/swarm looks itself
        services[ending]["deploy"]["update_config"]["failure_action"] = "continue"
    for name, made in services.items():
        # In the order in which `docker service update` puts them: in another one, even a new label of the service would replace its tasks.
        made.get("volumes", []).sort(key=lambda mounted: (mounted.get("source", ""), mounted["target"]))
        if name not in ("init", "copy", "api"):
            made["healthcheck"] = dict(STUCK)  # how it is asked stands in its image
    volumes = {mounted["source"] for made in services.values() for mounted in made.get("volumes", ()) if mounted["type"] == "volume"}
    return {
        "version": "3.9",  # what Docker 20.10 knows
        "services": services,
        "networks": network.overlays(given["networks"]),
        "volumes": dict.fromkeys(sorted(volumes)),
        "secrets": {name: _secret(name) for name in given["secrets"]},
    }


def _own(service: str) -> str:
    """The name of the service's task on the same node; Swarm fills the node in."""
    return f"{service}-{{{{.Node.ID}}}}"


def _relay(gateway: dict[str, Any]) -> dict[str, Any]:
    return _beside(gateway, "relay") | {
        "networks": ["inside"],
        "environment": {"RELAY_UPSTREAM": f"http://{_own('balancer')}:8080", "RELAY_CLUSTER": f"http://{_own('balancer')}:8081"},
    }


def _balancer(gateway: dict[str, Any]) -> dict[str, Any]:
    return _beside(gateway, "balancer") | {
        "networks": ["inside", network.REPLICAS],
        "stop_signal": "SIGUSR1",  # finishes what it has
        "environment": {"BALANCER_SUBNET": network.SUBNET},
    }


def _beside(gateway: dict[str, Any], name: str) -> dict[str, Any]:
    """On every node with a gateway, with the same walls."""
    made = service("gateway", {key: value for key, value in gateway.items() if key not in ("environment", "volumes")})
    return _passing(made) | {"image": made["image"].replace("GATEWAY", name.upper())}


def _passing(made: dict[str, Any]) -> dict[str, Any]:
    """Answers under way pass through it: it gets time to finish them, and as that can take minutes, the next one runs before."""
    for change in ("update_config", "rollback_config"):
        made["deploy"][change]["order"] = "start-first"
    return made | {"stop_grace_period": GRACE}


def _store(gateway: dict[str, Any]) -> dict[str, Any]:
    """One for all, on any node of the gateway's, with the same walls; Swarm starts another one where that node dies."""
    made = service("gateway", {key: value for key, value in gateway.items() if key not in ("environment", "volumes", "mem_limit")})
    del made["deploy"]["mode"]
    merge(made, {"deploy": {"mode": "replicated", "replicas": 1, "resources": {"limits": {"memory": "128m"}}}})
    return made | {"image": made["image"].replace("GATEWAY", "STORE"), "networks": [network.COUNTING]}


def _depot(gateway: dict[str, Any], init: dict[str, Any]) -> dict[str, Any]:
    """Caddy beside init, which shows the others what that one has made."""
    made = service("gateway", {key: value for key, value in gateway.items() if key not in ("environment", "volumes")})
    made["deploy"] |= placed(FIRST)
    made["volumes"] += [mounted | {"read_only": True} for mounted in init["volumes"] if mounted["type"] == "volume"]
    return made | {
        "command": ["caddy", "run", "--config", "docker/Caddyfile.depot", "--adapter", "caddyfile"],
        "networks": [network.MODELS],
        "environment": {"XDG_DATA_HOME": "/tmp"},
    }


def _copy(init: dict[str, Any], gateway: dict[str, Any]) -> dict[str, Any]:
    """Init on the other nodes: it takes the first one's model, has no way out, and knows neither the hub nor a secret."""
    inside = {key: gateway[key] for key in ("dns", "sysctls")}
    made = service("init", {key: value for key, value in init.items() if key != "secrets"} | inside | {"mem_limit": "1g"})
    made["deploy"] |= placed(API, FIRST)
    return made | {
        "networks": [network.MODELS],
        "environment": {"CLOISTER_MODEL__PEER": f"http://{DEPOT}", "CLOISTER_LOG__LEVEL": None},
    }


def _secret(name: str) -> dict[str, str]:
    """Of a folder where scripts/swarm puts them all, none empty, as Swarm takes none; named by what is in it, as none can change."""
    return {
        "name": f"${{CLOISTER_PROJECT:-cloister}}_{name}_${{SWARM_SUM_{name.upper()}:?is set by scripts/swarm}}",
        "file": f"${{SWARM_SECRETS}}/{name}",
    }


def text(made: dict[str, Any]) -> str:
    """As it stands in swarm.yaml."""
    spelled = json.loads(json.dumps(made))  # nothing in it is the same object twice, so YAML needs no anchors
    lines: str = yaml.safe_dump(spelled, sort_keys=False, width=140)
    return HEAD + lines
