"""The processes between a client and the api of a swarm: the relay, HAProxy and Caddy, with ports of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from docker import balancer, gateway
from tests.api.scripted import until
from tests.conftest import ROOT, free_port

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
CADDY = shutil.which("caddy")


def answers(url: str) -> bool:
    """Does it say at all that it is alive?"""
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def running(home: Path, name: str, *command: str | Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose log is `home/name.log`; stopped at the end, whatever has become of it."""
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


@contextlib.contextmanager
def relay(home: Path, upstream: str, cluster: str = "") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The relay before this upstream: its address and its process."""
    port = free_port()
    settings = {"RELAY_UPSTREAM": upstream, "RELAY_LISTEN": f"127.0.0.1:{port}", "RELAY_CLUSTER": cluster}
    with running(home, "relay", sys.executable, "-m", "services.relay", **settings) as process:
        until(lambda: answers(f"http://127.0.0.1:{port}/relay/livez"))
        yield f"http://127.0.0.1:{port}", process


@contextlib.contextmanager
def haproxy(home: Path, subnet: str, port: int) -> Iterator[tuple[str, str]]:
    """The balancer before the replicas of this subnet and port: its address, and the one where it tells of them."""
    assert HAPROXY
    front, inside, alive = free_port(), free_port(), free_port()
    filled = balancer.fill((ROOT / "docker/haproxy.cfg").read_text(), subnet, port)
    filled = filled.replace("bind :8080", f"bind 127.0.0.1:{front}").replace("127.0.0.1:2020", f"127.0.0.1:{alive}")
    (home / "haproxy.cfg").write_text(filled.replace("bind :8081", f"bind 127.0.0.1:{inside}"))
    with running(home, "haproxy", HAPROXY, "-db", "-f", home / "haproxy.cfg"):
        until(lambda: answers(f"http://127.0.0.1:{alive}/livez"))
        yield f"http://127.0.0.1:{front}", f"http://127.0.0.1:{inside}"


@contextlib.contextmanager
def caddy(home: Path, upstream: str) -> Iterator[str]:
    """The gateway's API before this upstream."""
    assert CADDY
    front, alive = free_port(), free_port()
    (home / "Caddyfile").write_text((ROOT / "docker/Caddyfile").read_text().replace("127.0.0.1:2020", f"127.0.0.1:{alive}"))
    ports = {
        "GATEWAY_PAGE": f"http://:{free_port()}",
        "GATEWAY_API": f"http://:{front}",
        "GATEWAY_UPSTREAM": upstream.removeprefix("http://"),
    }
    dirs = {"XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    with running(home, "caddy", CADDY, "run", "--config", home / "Caddyfile", "--adapter", "caddyfile", **gateway.fill({}) | ports | dirs):
        until(lambda: answers(f"http://127.0.0.1:{alive}/livez"))
        yield f"http://127.0.0.1:{front}"
