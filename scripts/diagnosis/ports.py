"""Are the ports of page and API free, or Cloister's own."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
PATIENCE = 10.0  # seconds
LISTENS = "0A"  # the state in /proc/net/tcp


def examine(scene: Scene) -> list[Finding]:
    notes, config, environ = Notes("ports"), scene.settings, scene.environ
    bind = environ.get("CLOISTER_BIND")
    for section, host, port in (("ui", config.ui.host, config.ui.port), ("api", config.api.host, config.api.port)):
        if scene.mode == "docker" or bind:
            host = bind or "127.0.0.1"
        if scene.mode == "none":
            _free(notes, section, host, port)
        else:
            _ours(scene, notes, section, host, port)
    return notes.all


def _free(notes: Notes, section: str, host: str, port: int) -> None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        notes.ok(f"port {port} of [{section}] is free")
    except OSError:
        by = holder(port)
        if by is None:
            notes.bad(f"{host} of [{section}] is not an address of this machine", f"correct CLOISTER_{section.upper()}__HOST")
        else:
            todo = f"end that, or choose another: CLOISTER_{section.upper()}__PORT={port + 1}"
            notes.bad(f"port {port} of [{section}] is taken by {by or 'another program'}", todo)


def _ours(scene: Scene, notes: Notes, section: str, host: str, port: int) -> None:
    """Whether Cloister answers there; behind TLS or a sub-path, whether anybody does."""
    there = EVERYWHERE.get(host, host)
    hidden = scene.mode == "docker" and (scene.environ.get("CLOISTER_TLS") or scene.environ.get("CLOISTER_SUBPATH"))
    try:
        if hidden:
            socket.create_connection((there, port), timeout=PATIENCE).close()
        else:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            opener.open(f"http://{f'[{there}]' if ':' in there else there}:{port}/livez", timeout=PATIENCE).close()
        notes.ok(f"[{section}] answers on port {port}")
    except (OSError, ValueError) as error:
        by = holder(port)
        what = f"{by} listens there, {error}" if by else "nobody listens there" if by is None else str(error)
        notes.bad(f"[{section}] is not to be reached on port {port}: {what}", "see scripts/logs; free the port, then scripts/up")


def holder(port: int) -> str | None:
    """The program that listens on a port, "" where that is not to be seen, None where nobody listens."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(handle.readlink()) in sockets for handle in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:  # somebody else's, or gone
            continue
    return ""
