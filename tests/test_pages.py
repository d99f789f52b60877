"""Several pages behind one gateway: a browser stays with the one that it came to, as long as that one lives. With the real Caddy."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from docker import gateway
from tests.conftest import ROOT, free_port
from tests.relay.processes import CADDY, answers, running, until

pytestmark = pytest.mark.skipif(not CADDY and os.environ.get("CI") != "true", reason="no caddy here")
HOSTS = ("127.0.0.1", "127.0.0.2")


@contextlib.contextmanager
def page(host: str, port: int) -> Iterator[None]:
    """A page that says which one it is."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(host)))
            self.end_headers()
            self.wfile.write(host.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host, port), Page) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield
        server.shutdown()


@contextlib.contextmanager
def names(port: int) -> Iterator[list[str]]:
    """A resolver as Docker's: to every question for A it names the hosts of the list, to others none."""
    known = list(HOSTS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.bind(("127.0.0.1", port))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    data, client = asked.recvfrom(512)
                    end = data.index(0, 12) + 5  # of the question: its name, type and class
                    hosts = known if data[end - 4 : end - 2] == b"\0\1" else ()
                    records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(host) for host in hosts)
                    asked.sendto(data[:2] + b"\x81\x80\0\1\0" + bytes([len(hosts)]) + bytes(4) + data[12:end] + records, client)

        threading.Thread(target=serve, daemon=True).start()
        yield known


def visit(port: int, cookie: str = "") -> tuple[str, str]:
    """Which page answers, and the cookie to come back with."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/", headers={"Cookie": cookie} if cookie else {})
    response = connection.getresponse()
    said = response.read().decode()
    return said, (response.getheader("Set-Cookie") or cookie).partition(";")[0]


def test_a_browser_stays_with_its_page_and_gets_another_one_when_that_is_gone(tmp_path: Path) -> None:
    assert CADDY
    behind, front, alive, resolver = (free_port() for _ in range(4))
    filled = gateway.fill({"GATEWAY_SEVERAL": "true"})
    filled["GATEWAY_UI"] = filled["GATEWAY_UI"].replace("ui 7860 {", f"ui {behind} {{\n resolvers udp/127.0.0.1:{resolver}\n")
    filled |= {"GATEWAY_PAGE": f"http://:{front}", "GATEWAY_API": f"http://:{free_port()}"}
    filled |= {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    (tmp_path / "Caddyfile").write_text((ROOT / "docker/Caddyfile").read_text().replace("127.0.0.1:2020", f"127.0.0.1:{alive}"))
    caddy = running(tmp_path, "caddy", CADDY, "run", "--config", tmp_path / "Caddyfile", "--adapter", "caddyfile", **filled)
    with caddy, names(resolver) as known, page(HOSTS[0], behind), contextlib.ExitStack() as other:
        other.enter_context(page(HOSTS[1], behind))
        until(lambda: answers(f"http://127.0.0.1:{alive}/livez"))
        came, deadline = {}, time.monotonic() + 60
        while not came.keys() >= set(HOSTS):  # without a cookie it is either
            assert time.monotonic() < deadline, came
            where, cookie = visit(front)
            came[where] = cookie
        for host in HOSTS:
            assert [visit(front, came[host])[0] for _ in range(10)] == [host] * 10
        other.close()
        known.remove(HOSTS[1])  # as Swarm does with a node that is gone; until then its visitors are told that the page is starting
        until(lambda: visit(front, came[HOSTS[1]])[0] == HOSTS[0])
        assert visit(front, came[HOSTS[0]])[0] == HOSTS[0]


def test_one_page_sets_no_cookie() -> None:
    assert gateway.fill({})["GATEWAY_UI"] == "to ui:7860"
    with pytest.raises(ValueError, match="GATEWAY_SEVERAL must be true or false"):
        gateway.fill({"GATEWAY_SEVERAL": "yes"})
