"""A proxy with TLS that shows the page below a path, as somebody's web server in front of Cloister does."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def front(page_url: str, path: str, home: Path) -> Iterator[str]:
    """The address of the page behind it; the path is taken off, and the scheme told in X-Forwarded-Proto."""
    pem = home / "front.pem"
    subject = ["-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out", home / "front.crt", *subject],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home / "front.crt", pem)
    port = int(page_url.rpartition(":")[2])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection: enough for a browser, and nothing to keep in step."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *fields = head.rstrip("\r\n").split("\r\n")
            method, target, version = line.split()
            below = target.removeprefix(path) if target.startswith((f"{path}/", f"{path}?")) or target == path else "/nothing"
            kept = [field for field in fields if not field.lower().startswith(("connection:", "x-forwarded-"))]
            there, back = await asyncio.open_connection("127.0.0.1", port)
            told = [f"{method} {below or '/'} {version}", *kept, "X-Forwarded-Proto: https", "Connection: close", "", ""]
            back.write("\r\n".join(told).encode("latin-1"))
            moves = [asyncio.ensure_future(_move(reader, back)), asyncio.ensure_future(_move(there, writer))]
            await asyncio.wait(moves, return_when=asyncio.FIRST_COMPLETED)
            if not moves[1].done():  # the browser has gone
                back.close()
            await moves[1]
            moves[0].cancel()
            back.close()
        writer.close()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    starting = asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, limit=1 << 16)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(20)
    try:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}{path}"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    connections = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for connection in connections:
        connection.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


async def _move(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
