"""The real HAProxy with docker/haproxy.cfg, for replicas on addresses of this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from docker import balancer
from tests.conftest import ROOT, free_port

PROGRAM = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
NEEDED = pytest.mark.skipif(PROGRAM is None and os.environ.get("CI") != "true", reason="no haproxy here")
BACKENDS = 3  # whose servers are checked


@contextlib.contextmanager
def running(folder: Path, subnet: str, port: int, alive: int) -> Iterator[tuple[int, int]]:
    """HAProxy before `port` of all addresses of the subnet, of which so many are alive. Its ports, for requests and for those inside."""
    assert PROGRAM
    front, inside, file, log = free_port(), free_port(), folder / "haproxy.cfg", folder / "haproxy.log"
    filled = balancer.fill((ROOT / "docker/haproxy.cfg").read_text(), subnet, port)
    dead = BACKENDS * (len(list(ipaddress.IPv4Network(subnet).hosts())) - alive)
    filled = filled.replace("bind :8081", f"bind 127.0.0.1:{free_port()}")
    file.write_text(filled.replace("bind :8080", f"bind 127.0.0.1:{front}").replace("bind 127.0.0.1:2020", f"bind 127.0.0.1:{inside}"))
    with log.open("wb") as output:
        process = subprocess.Popen([PROGRAM, "-db", "-f", file], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while log.read_text().count(" is DOWN") < dead or not _listens(inside):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield front, inside
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
