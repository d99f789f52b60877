"""What scripts/doctor --swarm finds out about the machines of a swarm and the stack on them; one topic a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.swarm import ask, engines, members, networks, replicas, services
from scripts.diagnosis.swarm.cluster import Cluster
from services.shared import settings


def examine(environ: Mapping[str, str], *, alone: bool, show: Callable[[Finding], object]) -> list[Finding]:
    """Every topic; `alone`: only what concerns this machine, as on a worker."""
    try:
        config = settings.load(environ)
    except settings.SettingsError as error:
        notes = Notes("settings")
        notes.bad(str(error), "correct it in .env or in the environment")
        show(notes.all[0])
        return notes.all
    found: list[Finding] = []
    for one in judge(ask.look(environ, alone=alone), config, alone=alone):
        show(one)
        found.append(one)
    return found


def judge(cluster: Cluster, config: settings.Settings, *, alone: bool = False) -> list[Finding]:
    """What is found of what Docker told."""
    found = members.examine(cluster, alone=alone)
    if (alone and cluster.machines) or cluster.nodes:
        found += [] if alone else services.examine(cluster)
        found += engines.examine(cluster, engines.wanted(config), plain=networks.plain(cluster))
        found += networks.examine(cluster, config)
        found += [] if alone else replicas.examine(cluster)
    return found
