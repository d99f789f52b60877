"""The outside world of the stack tests: one host in a network namespace of its own, with a hub and ears.

Owns the namespace, its link to this machine, the hub that listens there, and the capture of every packet that arrives, which
`python -m tests.stack.world` does inside the namespace. Knows nothing of Docker. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hub import Hub

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE, NEAR, FAR = "cloister-world", "clworld0", "clworld1"
NEAR4, FAR4, CDN4, NEAR6, FAR6 = "10.203.0.1", "10.203.0.2", "10.203.0.3", "fd03:c10c::1", "fd03:c10c::2"
HUB_PORT = 8100
SLOW_PORT, SLOW = 8101, 10_000_000  # the same hub over a thin line, in bytes a second, and with TLS by an authority of its own
ETH_P_ALL = 0x0003
TOKEN = "hf_onlyforthehub"  # without it the repositories are not there
HOUSEKEEPING = range(130, 144)  # ICMPv6 by which a kernel keeps house on its own link: multicast listeners, neighbours, routers


@dataclass(frozen=True)
class Packet:
    """What arrived: when (seconds since the epoch), from which interface's point of view, protocol and both ends."""

    at: float
    interface: str
    protocol: str
    source: str
    target: str
    payload: bytes


class World:
    """The running world; `packets()` tells what has arrived so far. `authority` is the certificate that the slow hub is known by."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "packets"
        self.authority = folder / "authority.pem"
        self.endpoint, self.slow_endpoint = f"http://{FAR4}:{HUB_PORT}", f"https://{FAR4}:{SLOW_PORT}"
        self.addresses = (FAR4, FAR6)

    def packets(self, since: float = 0.0) -> list[Packet]:
        """Everything that arrived after `since`, without what a kernel sends to keep house on the link itself."""
        time.sleep(0.5)  # what is on its way arrives
        found = []
        for line in self._log.read_text().splitlines():
            at, interface, protocol, source, target, payload = line.split(" ")
            if float(at) >= since:
                found.append(Packet(float(at), interface, protocol, source, target, bytes.fromhex(payload)))
        return found


@contextlib.contextmanager
def world(folder: Path, repositories: dict[str, Path]) -> Iterator[World]:
    """Build the world, serve the repositories in it, and take it away again."""
    remove()
    run("ip", "netns", "add", NAMESPACE)
    run("ip", "link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", NAMESPACE)
    for where, name, four, six in (((), NEAR, NEAR4, NEAR6), (("-n", NAMESPACE), FAR, FAR4, FAR6)):
        run("ip", *where, "address", "add", f"{four}/29", "dev", name)
        run("ip", *where, "-6", "address", "add", f"{six}/64", "dev", name, "nodad", check=False)
        run("ip", *where, "link", "set", name, "up")
    run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
    run("ip", "-n", NAMESPACE, "address", "add", f"{CDN4}/29", "dev", FAR)
    # Whoever gets as far as this machine's link is answered, whatever its address is.
    run("ip", "-n", NAMESPACE, "route", "add", "default", "via", NEAR4)
    (folder / "packets").touch()
    key, certificate = folder / "hub.pem", folder / "authority.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    run(*made, "-subj", "/CN=hub", "-addext", f"subjectAltName=IP:{FAR4},IP:{CDN4}")
    key.write_bytes(key.read_bytes() + certificate.read_bytes())
    command = ["ip", "netns", "exec", NAMESPACE, sys.executable, "-m", "tests.stack.world", str(folder)]
    command += [f"{name}={path}" for name, path in repositories.items()]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield World(folder)
    finally:
        process.terminate()
        process.wait(10)
        remove()


def remove() -> None:
    run("ip", "link", "delete", NEAR, check=False)
    run("ip", "netns", "delete", NAMESPACE, check=False)


def run(*command: str, check: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def listen(log: Path) -> None:
    """Write a line for every packet that arrives on any interface of this namespace."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as ears, log.open("a", buffering=1) as lines:
        while True:
            data, (interface, kind, direction, *_) = ears.recvfrom(2048)
            if direction == socket.PACKET_OUTGOING or interface == "lo":
                continue
            if seen := describe(kind, data):
                lines.write(f"{time.time():.3f} {interface} {' '.join(seen)} {data[:128].hex() or '00'}\n")


def describe(kind: int, data: bytes) -> tuple[str, str, str] | None:
    """Protocol, source and target of an IP packet; ARP and a kernel's housekeeping are None."""
    if kind == 0x0800:
        protocol, ends = data[9], (socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20]))
        header = (data[0] & 15) * 4
    elif kind == 0x86DD:
        protocol, header = data[6], 40
        ends = (socket.inet_ntop(socket.AF_INET6, data[8:24]), socket.inet_ntop(socket.AF_INET6, data[24:40]))
        if protocol == 0:
            protocol, header = data[40], 40 + (data[41] + 1) * 8
        if protocol == 58 and data[header] in HOUSEKEEPING:
            return None
    else:
        return None if kind == 0x0806 else (f"ethernet-{kind:04x}", "?", "?")
    name = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}.get(protocol, str(protocol))
    if protocol in (6, 17) and len(data) >= header + 4:
        ports = struct.unpack("!HH", data[header : header + 4])
        return name, f"{ends[0]}:{ports[0]}", f"{ends[1]}:{ports[1]}"
    return name, *ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("repository", nargs="*", help="OWNER/NAME=FOLDER")
    given = parser.parse_args()
    threading.Thread(target=listen, args=(given.folder / "packets",), daemon=True).start()
    slow = Hub("", SLOW_PORT, token=TOKEN, cdn=CDN4, rate=SLOW, tls=given.folder / "hub.pem")
    hubs = [Hub("", HUB_PORT, token=TOKEN, cdn=CDN4), slow]
    for item in given.repository:
        name, _, folder = item.partition("=")
        for hub in hubs:
            hub.add(name, Path(folder))
            hub.repositories[name].private = True
    with slow:
        print("ready", flush=True)
        hubs[0].serve()


if __name__ == "__main__":
    main()
