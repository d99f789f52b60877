"""The networks between the nodes: encrypted or not, the replicas' subnet, the ports that nodes need of each other, and those for people."""

from __future__ import annotations

import ipaddress

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.ports import holder
from scripts.diagnosis.swarm.cluster import Cluster, Machine, address, labelled, state
from services.shared.settings import Settings
from services.ui.told import Told

ENCRYPTED = ("inside", "replicas")
REPLICAS = "replicas"
MOST = 254  # servers of docker/haproxy.cfg (docker/balancer.py)
TIGHT = 0.8  # share of the addresses that may be taken before it is worth a word
OTHER = "CLOISTER_SWARM_SUBNET= a subnet that nobody has, scripts/swarm down, scripts/swarm up"
LET = "let {} through between all nodes"


def examine(cluster: Cluster, settings: Settings) -> list[Finding]:
    notes = Notes("networks")
    _encryption(cluster, notes)
    _subnet(cluster, notes)
    for machine in cluster.machines:
        _neighbours(cluster, machine, notes)
        _published(cluster, machine, settings, notes)
    _gossip(cluster, notes)
    return notes.all


def plain(cluster: Cluster) -> bool:
    """Whether the stack was made with --plain."""
    return any(not _encrypted(network) for network in _ours(cluster))


def _ours(cluster: Cluster) -> list[Told]:
    """Those that are to be encrypted: between nodes, and without a way out."""
    return [network for network in cluster.networks if _of_stack(cluster, network) and network.yes("Internal")]


def _of_stack(cluster: Cluster, network: Told) -> bool:
    return network.at("Labels").pairs().get("com.docker.stack.namespace") == cluster.stack


def _encrypted(network: Told) -> bool:
    return network.at("Options", "encrypted").text("") == "" and bool(network.at("Options", "encrypted"))


def _encryption(cluster: Cluster, notes: Notes) -> None:
    names = {network.text("Name").removeprefix(f"{cluster.stack}_"): _encrypted(network) for network in _ours(cluster)}
    bare = sorted(name for name, encrypted in names.items() if not encrypted)
    if bare:
        found = f"{', '.join(bare)} go from node to node in plain text: prompts, answers and keys can be read on the wire"
        notes.warn(found, "scripts/swarm down, then scripts/swarm up without --plain, unless nobody else is on that wire")
    elif names:
        notes.ok(f"{', '.join(sorted(names))} are encrypted between the nodes and have no way out")


def _subnet(cluster: Cluster, notes: Notes) -> None:
    """Of the replicas: nobody else's, and with addresses enough."""
    made = next((one for one in _ours(cluster) if one.text("Name") == f"{cluster.stack}_{REPLICAS}"), Told())
    text = next((config.text("Subnet") for config in made.items("IPAM", "Config")), "") or cluster.subnet
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        notes.bad(f"CLOISTER_SWARM_SUBNET={text} is no subnet: {error}", "such as 10.213.8.0/26")
        return
    taken = [
        f"{route.text('network')} by {route.text('by')} on {cluster.name(machine.node)}"
        for machine in cluster.machines
        for route in machine.seen.items("routes")
        if _overlaps(subnet, route.text("network"))
    ]
    taken += [
        f"{config.text('Subnet')} by Docker's network {network.text('Name')}"
        for network in cluster.networks
        if network.text("Name") != f"{cluster.stack}_{REPLICAS}"
        for config in network.items("IPAM", "Config")
        if _overlaps(subnet, config.text("Subnet"))
    ]
    for one in taken:
        notes.bad(f"the replicas' subnet {subnet} is also {one}", OTHER)
    if made and text != cluster.subnet:
        todo = "scripts/swarm down, scripts/swarm up"
        notes.warn(f"the replicas have the subnet {text}, and CLOISTER_SWARM_SUBNET is {cluster.subnet}", todo)
    _addresses(cluster, subnet, notes, taken=bool(taken))


def _addresses(cluster: Cluster, subnet: ipaddress.IPv4Network, notes: Notes, *, taken: bool) -> None:
    """A node has one for its replica, one for its balancer and one for that one's successor, and one of its own in each network that it
    takes part in (lb-NETWORK)."""
    has, answers, enters = subnet.num_addresses - 3, 0, 0  # less the network's own, its gateway, and broadcast
    for node in cluster.nodes:
        answers, enters = answers + labelled(node, "cloister.api"), enters + labelled(node, "cloister.entry")
    both = sum(labelled(node, "cloister.api") or labelled(node, "cloister.entry") for node in cluster.nodes)
    need = answers + 2 * enters + both
    found = f"the replicas' subnet {subnet} has {has} addresses, and {need} are needed"
    if subnet.num_addresses > MOST + 2:
        todo = "CLOISTER_SWARM_SUBNET= a /24 or smaller"
        notes.bad(f"the replicas' subnet {subnet} has more addresses than a balancer tries ({MOST})", todo)
    elif need > has:
        notes.bad(found, OTHER)
    elif need > TIGHT * has:
        notes.warn(found, OTHER)
    elif not taken and need:
        notes.ok(f"{found}; nobody else has them")


def _overlaps(subnet: ipaddress.IPv4Network, other: str) -> bool:
    try:
        return subnet.overlaps(ipaddress.IPv4Network(other))
    except ValueError:  # IPv6
        return False


def _neighbours(cluster: Cluster, machine: Machine, notes: Notes) -> None:
    """Whether this node reaches the others' engines by TCP."""
    name, reached = cluster.name(machine.node), machine.seen.at("reached").pairs()
    for neighbour, how in reached.items():
        if how != "open":
            host, _, port = neighbour.rpartition(":")
            what = "nobody listens there" if how == "refused" else "no answer"
            protocols = {"2377": "2377/tcp"}.get(port, "7946/tcp and 7946/udp")
            notes.bad(f"{name} does not reach {_called(cluster, host)} on port {port}: {what}", LET.format(protocols))
    if reached and set(reached.values()) == {"open"}:
        ports = ", ".join(sorted({one.rpartition(":")[2] for one in reached}))
        notes.ok(f"{name} reaches {'all others' if cluster.nodes else 'the managers'} on {ports}/tcp")


def _called(cluster: Cluster, host: str) -> str:
    return next((cluster.name(node.text("ID")) for node in cluster.nodes if address(node) == host), host)


def _gossip(cluster: Cluster, notes: Notes) -> None:
    """Engines tell each other over 7946, tcp and udp, where on an overlay a container is; all that have one there must be known here."""
    here, lost = cluster.info.text("Swarm", "NodeID"), set()
    for network in cluster.networks:
        there = {task.text("NodeID") for task in cluster.tasks if state(task) == "running" and _attached(task, network)}
        peers = {peer.text("IP") for peer in network.items("Peers")}
        if here in there and peers:
            lost |= {node.text("ID") for node in cluster.nodes if node.text("ID") in there and address(node) not in peers}
    for node in sorted(lost):
        notes.bad(f"the engines here and on {cluster.name(node)} don't tell each other who is where", LET.format("7946/tcp and 7946/udp"))


def _attached(task: Told, network: Told) -> bool:
    return any(one.text("Network", "ID") == network.text("Id") for one in task.items("NetworksAttachments"))


def _published(cluster: Cluster, machine: Machine, settings: Settings, notes: Notes) -> None:
    """On a node where people come in: the ports are the door's, or free for it."""
    name = cluster.name(machine.node)
    node = next((one for one in cluster.nodes if one.text("ID") == machine.node), None)
    if not machine.seen.at("tcp") or (node is not None and not labelled(node, "cloister.entry")):
        return
    listening = [int(port.number() or 0) for port in machine.seen.items("tcp")]
    declared = [int(port.number("PublishedPort") or 0) for port in cluster.service("door").items("Spec", "EndpointSpec", "Ports")]
    wanted = declared or [settings.ui.port, settings.api.port]
    for port in wanted:
        if port in listening and not machine.door:
            by = "" if machine.host else holder(port)
            todo = "end that, or choose another: CLOISTER_UI__PORT, CLOISTER_API__PORT"
            notes.bad(f"{name}: port {port} is taken by {by or 'another program'}", todo)
        elif port not in listening and machine.door:
            todo = f"docker service update --force {cluster.stack}_door"
            notes.bad(f"{name}: the door runs, and nobody listens on port {port}", todo)
    if all((port in listening) == machine.door for port in wanted):
        notes.ok(f"{name}: the ports {', '.join(map(str, wanted))} are {'taken by the door' if machine.door else 'free'}")
