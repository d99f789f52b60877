"""The door: owns the published ports and passes every connection on to the gateway, which itself has no way out.

Started as root with NET_ADMIN it first sets a packet filter, by which this container can answer those who come in and reach the
gateway, and can send nothing else; then it becomes nobody, without capabilities, and only moves bytes. Knows nothing of HTTP.

DOOR_GATEWAY  the gateway's name, where it is another one than gateway
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

PORTS = (7860, 8000)
NOBODY = 65534
MOST = 1024  # connections at once
PIECE = 64 << 10
IMPATIENCE = 0.25  # seconds until the next gateway is tried as well, where there are several

# Docker's own rules in here, by which its resolver is reached, stay.
FILTER = """
table inet door
delete table inet door
table inet door {{
  chain output {{
    type filter hook output priority 0; policy drop;
    oifname "lo" accept
    oifname != "{edge}" tcp dport {{ {ports} }} accept
    oifname "{edge}" ct state established ct direction reply accept
  }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    iifname "{edge}" tcp dport {{ {ports} }} accept
    ct state established,related accept
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
  }}
}}
"""


def closed(bind: str, secrets: str) -> None:
    """Refuse to open the ports to others where nobody would be asked for a key or a password."""
    if not secrets and not ipaddress.ip_address(bind).is_loopback:
        sys.exit(
            f"door: CLOISTER_BIND={bind} opens page and API to others: run scripts/keys first, it makes an API key and a page password"
        )


def edge() -> str:
    """The interface with the default route: where the published ports are."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        name, destination, *_ = line.split()
        if destination == "00000000":
            return name
    sys.exit("door: no network with published ports: is `edge` missing in compose.yaml?")


def close() -> None:
    """Set the filter, give up root, and go on as `door.py relay`."""
    rules = FILTER.format(edge=edge(), ports=", ".join(map(str, PORTS)))
    done = subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"door: the packet filter can't be set, so nothing is opened: {done.stderr.strip()}")
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.execvp("tini", ["tini", "--", sys.executable, __file__, "relay"])


async def relay() -> None:
    """Serve until SIGTERM."""
    gate, gateway = asyncio.Semaphore(MOST), os.environ.get("DOOR_GATEWAY") or "gateway"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        async with gate:
            try:
                there, back = await asyncio.wait_for(asyncio.open_connection(gateway, port, happy_eyeballs_delay=IMPATIENCE), 5)
            except (OSError, TimeoutError):
                writer.transport.abort()
                return
            await asyncio.gather(move(reader, back), move(there, writer))
            for end in (writer, back):
                end.close()

    async def move(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Until the source ends; a broken side breaks the other one at once, so that an answer nobody hears is cancelled."""
        try:
            while data := await source.read(PIECE):
                sink.write(data)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()
        except OSError:
            sink.transport.abort()

    def listen(port: int) -> socket.socket:
        listening = socket.create_server(("0.0.0.0", port), backlog=256)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # inherited by what it accepts
        return listening

    servers = [await asyncio.start_server(serve, sock=listen(port)) for port in PORTS]
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    sys.stderr.write("door: open\n")
    await ended.wait()
    for server in servers:
        server.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["relay"]:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(relay())
    else:
        closed(os.environ["DOOR_BIND"], os.environ["DOOR_SECRETS"])
        close()
