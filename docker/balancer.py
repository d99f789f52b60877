"""Turns the subnet of the replicas into the servers of docker/haproxy.cfg, and becomes HAProxy.

BALANCER_SUBNET  the replicas' network, such as 10.213.8.0/26; each of its addresses is a server, and those where nobody lives are down
BALANCER_AFFINITY  no: replicas take turns, whatever they have in their caches (to measure what affinity is worth)

A server's id, which decides its place on the ring, is its address's place in the subnet: so all balancers agree.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

PORT = 8000
MOST = 254  # servers; more would be more checks than work


def fill(template: str, subnet: str, port: int = PORT, *, affinity: bool = True) -> str:
    """docker/haproxy.cfg with a server for each address of the replicas.

    Raises:
        ValueError: that is no subnet, or too large a one.
    """
    network = ipaddress.IPv4Network(subnet)
    if network.num_addresses > MOST + 2:
        raise ValueError(f"BALANCER_SUBNET={subnet} has more than {MOST} addresses")
    servers = [f"server a{number} {address}:{port} id {number}" for number, address in enumerate(network.hosts(), 1)]
    if not affinity:
        template = template.replace("balance hash var(txn.conversation)", "balance roundrobin")
    return template.replace("$SERVERS", "\n  ".join(servers))


def main() -> None:
    affinity = os.environ.get("BALANCER_AFFINITY") != "no"
    try:
        filled = fill(Path("docker/haproxy.cfg").read_text(), os.environ.get("BALANCER_SUBNET", ""), affinity=affinity)
    except ValueError as error:
        sys.exit(f"balancer: {error}")
    Path("/tmp/haproxy.cfg").write_text(filled)
    os.execvp("haproxy", ["haproxy", "-db", "-f", "/tmp/haproxy.cfg"])


if __name__ == "__main__":
    main()
