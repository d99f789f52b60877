"""Each node by itself: its engine's settings, what its kernel can do, its clock, memory and disk, and whether it has the images.

Of a node whose engine does not answer from here, nothing is known but what the manager tells.
"""

from __future__ import annotations

from dataclasses import dataclass

from scripts.diagnosis.disk import RESERVE
from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.memory import SCARCE
from scripts.diagnosis.need import Unknown, needs
from scripts.diagnosis.swarm.cluster import Cluster, Machine, labelled, moment
from services.init.errors import InitError
from services.shared.hardware import human
from services.shared.settings import Settings
from services.ui.told import Told

APART = 2.0  # seconds that two clocks may differ
TLS = 3600.0  # seconds that Swarm's certificates are valid before they were made (swarmkit, CertBackdate)
DAEMON = "put {} into /etc/docker/daemon.json there and restart the engine"
KERNEL = "a kernel with CONFIG_INET_ESP, CONFIG_CRYPTO_GCM and CONFIG_NETFILTER_XT_MATCH_BPF"
PLAIN = "scripts/swarm up --plain, where nobody else is on the wire"
CLOCK = "set it (timedatectl set-ntp true)"
LEAVE = "docker node update --label-rm cloister.api NODE"
NO_ESP = ("EPROTONOSUPPORT", "ENOSYS", "ENOENT")  # of the kernel: no ESP, no AES-GCM


@dataclass(frozen=True)
class Wanted:
    """Bytes that the model takes where it is prepared and run; None where that is not known."""

    title: str
    memory: float | None
    disk: float | None


def wanted(settings: Settings) -> Wanted:
    """By the settings that scripts/swarm up would take."""
    try:
        found = needs(settings)
    except (Unknown, InitError, OSError):
        return Wanted(settings.model.name, None, None)
    return Wanted(found.title, found.memory.total, found.disk.total if found.disk else None)


def examine(cluster: Cluster, model: Wanted, *, plain: bool) -> list[Finding]:
    """`plain`: nothing is encrypted between the nodes, so that no kernel needs to be able to."""
    notes = Notes("nodes")
    for machine in cluster.machines:
        name = cluster.name(machine.node) or machine.info.text("Name")
        _engine(name, machine, notes)
        _esp(name, machine, notes, plain=plain)
        _clock(name, machine, notes)
        _room(cluster, name, machine, model, notes)
        if machine.missing:
            todo = f"scripts/swarm join {machine.host} brings them" if machine.host else "scripts/swarm up builds them"
            notes.bad(f"{name} lacks the images of {', '.join(machine.missing)}", todo)
        elif cluster.services:
            notes.ok(f"{name} has the very images of the stack")
    for host in cluster.silent:
        notes.bad(f"no engine answers at {host}, which scripts/swarm joined", "start it; if it is gone for good: docker node rm --force")
    known = [machine.node for machine in cluster.machines]
    for node in cluster.nodes:
        if node.text("ID") not in known:
            notes.skip(f"{cluster.name(node.text('ID'))} was not looked at: run scripts/doctor --swarm --node there")
    return notes.all


def _engine(name: str, machine: Machine, notes: Notes) -> None:
    """Settings of the daemon that a stack can't make."""
    if machine.info.yes("LiveRestoreEnabled"):
        notes.bad(f"{name}: live-restore is on, and can't go with swarm mode", DAEMON.format('"live-restore": false'))
    if machine.seen.yes("no_new_privileges"):
        notes.ok(f"{name}: nothing in a container can gain privileges")
    elif machine.seen.at("no_new_privileges"):
        found = f"{name}: programs in containers may gain privileges by setuid files, and no stack can forbid it"
        notes.warn(found, DAEMON.format('"no-new-privileges": true'))
    else:
        why = _why(machine.seen) if machine.seen.text("error") else " shows in a container only, and there is no image yet"
        notes.skip(f"{name}: whether programs in containers can gain privileges{why}")


def _esp(name: str, machine: Machine, notes: Notes, *, plain: bool) -> None:
    """Whether the kernel can encrypt an overlay: by trying, else by what it says of how it was built."""
    tried, built = machine.esp.at("error"), machine.seen.at("kernel").pairs()
    error, matches = tried.text(), [built.get(f"CONFIG_NETFILTER_XT_MATCH_{one}") for one in ("BPF", "U32")]
    lacks = ""
    if error in NO_ESP or built.get("CONFIG_INET_ESP") == "n":
        lacks = f"ESP or AES-GCM ({error if error in NO_ESP else 'CONFIG_INET_ESP'})"
    elif matches == ["n", "n"]:
        lacks = "xt_bpf and xt_u32"
    if lacks and plain:
        notes.warn(f"{name}: the kernel has no {lacks}, so the networks can't be encrypted", KERNEL)
    elif lacks:
        notes.bad(f"{name}: the kernel has no {lacks}, so encrypted networks lose what goes to other nodes", f"{KERNEL}, or {PLAIN}")
    elif (tried and not error) or built.get("CONFIG_INET_ESP"):
        notes.ok(f"{name}: the kernel can encrypt networks (ESP)")
    else:
        notes.skip(f"{name}: whether the kernel can encrypt networks{_why(machine.esp)}")


def _clock(name: str, machine: Machine, notes: Notes) -> None:
    """Against the clock of this machine; what the question took is allowed for."""
    theirs = moment(machine.info.text("SystemTime"))
    if theirs is None:
        return
    apart = max(machine.asked - theirs, theirs - machine.asked - machine.took, 0.0)
    if apart > TLS:
        notes.bad(f"{name}: its clock is {apart:.0f} s off this one's, and Swarm's certificates are not valid for both", CLOCK)
    elif apart > APART:
        notes.warn(f"{name}: its clock is {apart:.1f} s off this one's", CLOCK)
    elif machine.host:
        notes.ok(f"{name}: its clock is this one's, as far as that can be told")


def _room(cluster: Cluster, name: str, machine: Machine, model: Wanted, notes: Notes) -> None:
    """Memory and disk, for what is to run there and does not yet."""
    free, disk = machine.seen.number("memory_available"), machine.seen.number("disk_free")
    if free is None or disk is None:
        notes.skip(f"{name}: memory and disk{_why(machine.seen)}")
        return
    node = next((one for one in cluster.nodes if one.text("ID") == machine.node), None)
    answers = machine.node in cluster.running("api") or (node is not None and not labelled(node, "cloister.api"))
    memory = SCARCE if answers else model.memory or SCARCE
    space = RESERVE if machine.model.text("created") or answers else model.disk or RESERVE
    found = f"{name}: {human(free)} of memory and {human(disk)} of disk are free"
    if memory > free:
        notes.bad(f"{found}, and {model.title} takes {human(memory)} of memory", f"a smaller quant or model, or {LEAVE}")
    if space > disk:
        notes.bad(f"{found}, and preparing {model.title} takes {human(space)} of disk", f"free some, or {LEAVE}")
    if memory <= free and space <= disk:
        notes.ok(found)


def _why(seen: Told) -> str:
    """Why something was not found out."""
    return f" was not found out: {seen.text('error') or 'it does not tell'}"
