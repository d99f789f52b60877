"""The networks of a stack: overlays over all nodes, those inside without a way out and encrypted between the nodes."""

from __future__ import annotations

from typing import Any

REPLICAS = "replicas"  # of the api, and the balancers: each of its addresses is one server of docker/haproxy.cfg
COUNTING = "counting"  # of the api and its store: that one asks for no password, so nobody else is in here
MODELS = "models"  # by which the first node gives its model to the others
SUBNET = "${CLOISTER_SWARM_SUBNET:-10.213.8.0/26}"
ENCRYPTED = {"driver_opts": {"encrypted": ""}}  # scripts/swarm takes it out for kernels without ESP


def overlays(networks: dict[str, Any]) -> dict[str, Any]:
    """Compose's bridges as overlays; their options mean nothing there. An overlay has no address on the machines (inhibit_ipv4), and what
    leaves the door's network is stopped by the door itself (enable_ip_masquerade)."""
    made = {name: _inside() if bridge.get("internal") else {"driver": "overlay"} for name, bridge in networks.items()}
    return made | {REPLICAS: _inside() | {"ipam": {"config": [{"subnet": SUBNET}]}}, COUNTING: _inside(), MODELS: _inside()}


def _inside() -> dict[str, Any]:
    return {"driver": "overlay", "internal": True, **ENCRYPTED}
