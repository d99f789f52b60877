"""What is seen from a node itself: run in a short-lived container there, with this file as its standard input, or as a process.

    probe.py host [ADDRESS:PORT ...]   in the node's own network: routes, listeners, memory, disk; and whether others can be reached
    probe.py esp                       in a network of its own, with CAP_NET_ADMIN: whether the kernel can encrypt an overlay

One JSON object on standard output. Imports nothing but the standard library; judges nothing.
"""

from __future__ import annotations

import errno
import gzip
import ipaddress
import json
import os
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PATIENCE = 3.0  # seconds for a neighbour
KERNEL = ("CONFIG_INET_ESP", "CONFIG_NETFILTER_XT_MATCH_BPF", "CONFIG_NETFILTER_XT_MATCH_U32", "CONFIG_VXLAN")
NETLINK_XFRM, NEWSA, ESP = 6, 0x10, 50  # linux/netlink.h, linux/xfrm.h, linux/in.h
REQUEST, ACK = 1, 4
CIPHER = b"rfc4106(gcm(aes))"  # what Docker encrypts overlays with


def host(neighbours: list[str]) -> dict[str, Any]:
    """The node by its /proc, and `reached`: open, refused or silent by neighbour."""
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    disk = os.statvfs("/")
    with ThreadPoolExecutor(16) as pool:
        reached = dict(zip(neighbours, pool.map(reach, neighbours), strict=True))
    return {
        "routes": routes(Path("/proc/net/route").read_text()),
        "tcp": sorted({port for table in ("tcp", "tcp6") for port in ports(table, "0A")}),
        "udp": sorted({port for table in ("udp", "udp6") for port in ports(table, "07")}),
        "memory_available": int(memory["MemAvailable"].split()[0]) * 1024,
        "disk_free": disk.f_bavail * disk.f_frsize,
        "no_new_privileges": status["NoNewPrivs"].strip() == "1",
        "kernel": kernel(),
        "reached": reached,
        "now": time.time(),
    }


def reach(neighbour: str) -> str:
    """Whether a connection can be had."""
    address, _, port = neighbour.rpartition(":")
    try:
        socket.create_connection((address.strip("[]"), int(port)), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "silent"
    return "open"


def routes(table: str) -> list[dict[str, str]]:
    """The networks of /proc/net/route, without the default one."""
    found = []
    for fields in (line.split() for line in table.splitlines()[1:]):
        address, mask = (socket.inet_ntoa(struct.pack("=I", int(fields[at], 16))) for at in (1, 7))
        if mask != "0.0.0.0":
            found.append({"network": str(ipaddress.IPv4Network(f"{address}/{mask}")), "by": fields[0]})
    return found


def ports(table: str, state: str) -> set[int]:
    """Where somebody listens."""
    try:
        lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    except OSError:
        return set()
    return {int(fields[1].rpartition(":")[2], 16) for fields in map(str.split, lines) if fields[3] == state}


def kernel() -> dict[str, str]:
    """y, m or n for what overlays need; nothing where the kernel does not show how it was built."""
    try:
        built = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    except OSError:
        return {}
    said = dict(line.split("=", 1) for line in built.splitlines() if line.startswith("CONFIG_"))
    return {name: said.get(name, "n") for name in KERNEL}


def esp() -> dict[str, Any]:
    """Ask the kernel for an association such as Docker makes; `error` is the name of what it answers, "" if it can. It goes with the
    network that this runs in."""
    if len(Path("/proc/net/route").read_text().splitlines()) > 1:
        return {"error": "not in a network of its own"}
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_XFRM) as kernel:
            kernel.bind((0, 0))
            kernel.settimeout(PATIENCE)
            kernel.send(association())
            answer = kernel.recv(65536)
    except OSError as error:
        return {"error": errno.errorcode.get(error.errno or 0, type(error).__name__)}
    number = -struct.unpack_from("=i", answer, 16)[0]
    return {"error": errno.errorcode.get(number, str(number)) if number else ""}


def association() -> bytes:
    """XFRM_MSG_NEWSA: ESP from 127.0.0.1 to 127.0.0.2 in transport mode, with a key of 20 bytes and a checksum of 64 bits."""
    selector = struct.pack("=40xH14x", socket.AF_INET)  # struct xfrm_selector: any to any
    to = socket.inet_aton("127.0.0.2").ljust(16, b"\0") + struct.pack("!IB3x", 4097, ESP)
    sender = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    lifetimes = struct.pack("=4Q40x24x", *[2**64 - 1] * 4)  # no limit, nothing used
    rest = struct.pack("=12xIIHBBB7x", 0, 1, socket.AF_INET, 0, 0, 0)
    algorithm = CIPHER.ljust(64, b"\0") + struct.pack("=II", 160, 64) + bytes(20)
    body = selector + to + sender + lifetimes + rest + struct.pack("=HH", 4 + len(algorithm), 18) + algorithm
    return struct.pack("=IHHII", 16 + len(body), NEWSA, REQUEST | ACK, 1, 0) + body


if __name__ == "__main__":
    sys.stdout.write(json.dumps(host(sys.argv[2:]) if sys.argv[1] == "host" else esp()))
