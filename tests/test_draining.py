"""Real processes of the API behind the real HAProxy: they are restarted one after the other under load, and nobody notices."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import haproxy
from tests.api.apart import apart
from tests.api.scripted import Step, accepted, finished, tag, text, until
from tests.conftest import free_port

pytestmark = [pytest.mark.alone, haproxy.NEEDED]  # a replica that is late counts as dead
CLIENTS = 6
HOSTS = ("127.93.8.1", "127.93.8.2")
SUBNET = "127.93.8.0/30"


class Client(threading.Thread):
    """Asks again and again, in conversations of its own, streamed; `lost`: what was no whole answer."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(daemon=True)
        self.whole, self.lost, self.enough = 0, list[str](), False
        self._url, self._number = f"http://127.0.0.1:{port}/v1/chat/completions", number
        self.start()

    def run(self) -> None:
        with httpx.Client(timeout=60) as http:
            while not self.enough:
                self._ask(http, {"role": "user", "content": f"{self._number} asks {self.whole}"})

    def _ask(self, http: httpx.Client, message: dict[str, Any]) -> None:
        said = ""
        try:
            with http.stream("POST", self._url, json={"messages": [message], "stream": True}) as response:
                for piece in response.iter_text():
                    said += piece
        except httpx.TransportError as error:
            said += repr(error)
        if "last" in said and said.endswith("data: [DONE]\n\n"):
            self.whole += 1
        else:
            self.lost.append(said)


def answer(seconds: float) -> list[Step]:
    return [accepted(), tag("</think>"), *text("first"), seconds, *text("last"), finished()]


def test_a_rolling_restart_loses_no_request(tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(apart(tmp_path / host, host=host, port=port, API__DRAIN=2, API__GRACE=60)) for host in HOSTS)
        first.engine.play(answer(2.5))  # longer than the drain
        second.engine.play(answer(0.2))
        front, _ = stack.enter_context(haproxy.running(tmp_path, SUBNET, port, alive=2))
        clients = [Client(front, number) for number in range(CLIENTS)]
        until(lambda: first.engine.open and second.engine.requests)
        first.told(signal.SIGTERM)
        first.process.wait(60)
        seen = len(first.engine.requests)
        first.engine.play(answer(0.2))
        first.launch()
        until(lambda: len(first.engine.requests) > seen)
        second.told(signal.SIGTERM)
        second.process.wait(60)
        for client in clients:
            client.enough = True
        for client in clients:
            client.join(60)
        assert [said for client in clients for said in client.lost] == []
        assert sum(client.whole for client in clients) >= 3 * CLIENTS
