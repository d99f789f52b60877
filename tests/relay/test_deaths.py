"""A replica of the real API dies, or falls silent, in the middle of answers in every dialect: what clients behind gateway, relay and
balancer are told, all of them the real programs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.scripted import Stand, accepted, hold, stand, tag, text, until
from tests.conftest import environment, free_port
from tests.relay.processes import CADDY, HAPROXY, caddy, haproxy, relay, running

REPLICA = "127.93.8.1"
KEY = "sk-anna"
HEADERS = {"Authorization": f"Bearer {KEY}"}
QUESTION: list[Any] = [{"role": "user", "content": "Why?"}]
pytestmark = [
    pytest.mark.alone,  # a replica that is late counts as dead
    pytest.mark.skipif(not (CADDY and HAPROXY) and os.environ.get("CI") != "true", reason="no caddy or no haproxy here"),
]


class Way:
    """`url` is the gateway's, `relay` the relay's; `replica` starts the one replica, which is stopped at the end."""

    def __init__(self, url: str, relay: str, engine: Stand, home: Path, port: int) -> None:
        self.url, self.relay, self.engine, self._home, self._port = url, relay, engine, home, port

    def replica(self, address: str = REPLICA) -> Any:
        keys = self._home / "keys"  # as on every swarm
        keys.write_text(f"anna {hashlib.sha256(KEY.encode()).hexdigest()}\n")
        env = environment(self.engine.home, API__HOST=address, API__PORT=self._port, API__KEYS=keys)
        return running(self._home, address, sys.executable, "-m", "services.api", **env)

    def ready(self) -> bool:
        return httpx.get(self.url + "/readyz", timeout=30).status_code == 200


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    home, port = tmp_path_factory.mktemp("way"), free_port()
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(stand(home / "engine"))
        url, _ = stack.enter_context(relay(home, *stack.enter_context(haproxy(home, "127.93.8.0/30", port))))
        yield Way(stack.enter_context(caddy(home, url)), url, engine, home, port)


def chat(url: str) -> Iterator[str]:
    client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0)
    for chunk in client.chat.completions.create(model="scripted", messages=QUESTION, stream=True):
        yield chunk.choices[0].delta.content or ""


def completion(url: str) -> Iterator[str]:
    client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0)
    for chunk in client.completions.create(model="scripted", prompt="Why?", stream=True):
        yield chunk.choices[0].text


def response(url: str) -> Iterator[str]:
    client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0)
    for event in client.responses.create(model="scripted", input="Why?", stream=True):
        if event.type == "response.output_text.delta":
            yield event.delta
        assert event.type != "response.failed", event.response.error and event.response.error.message


def message(url: str) -> Iterator[str]:
    client = anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0)
    with client.messages.stream(model="scripted", max_tokens=100, messages=QUESTION) as stream:
        yield from stream.text_stream


def ollama_chat(url: str) -> Iterator[str]:
    for part in ollama.Client(url, headers=HEADERS).chat("scripted", QUESTION, stream=True):
        yield part.message.content or ""


def whole(url: str) -> Iterator[str]:
    client = openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=0)
    yield client.chat.completions.create(model="scripted", messages=QUESTION).choices[0].message.content or ""


STREAMS: dict[Callable[[str], Iterator[str]], type[BaseException]] = {
    chat: openai.APIError,
    completion: openai.APIError,
    response: AssertionError,
    message: anthropic.APIError,
    ollama_chat: ollama.ResponseError,
}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_every_client_is_told_within_five_seconds(way: Way, number: signal.Signals) -> None:
    way.engine.restart()  # of the other one's replica, answers are still held
    way.engine.engine.requests.clear()
    way.engine.engine.play(accepted(), tag("</think>"), text("so far"), hold)
    begun = threading.Barrier(len(STREAMS) + 1, timeout=60)

    def read(stream: Iterator[str]) -> None:
        said = ""
        while said != "so far":
            said += next(stream)
        begun.wait()
        assert list(stream) == []

    with way.replica() as process, ThreadPoolExecutor(16) as pool:
        until(way.ready)
        reading = {kind: pool.submit(read, kind(way.url)) for kind in STREAMS}
        waiting = pool.submit(next, whole(way.url))
        until(lambda: len(way.engine.engine.requests) == len(STREAMS) + 1)
        begun.wait()
        process.send_signal(number)
        died = time.monotonic()
        ends = {kind: found(future) for kind, future in reading.items()}
        refused = found(waiting)
        assert time.monotonic() - died < 5
    for kind, expected in STREAMS.items():
        assert isinstance(ends[kind], expected) and "gone" in str(ends[kind]), kind
    assert isinstance(refused, openai.InternalServerError) and refused.status_code == 503
    assert refused.code == "unavailable" and int(refused.response.headers["retry-after"]) >= 1


def found(future: Future[Any]) -> BaseException | None:
    return future.exception(60)


def test_a_client_that_hangs_up_frees_the_engine(way: Way) -> None:
    """Also where nothing has been said yet."""
    way.engine.restart()
    way.engine.engine.play(accepted(), hold)
    with way.replica():
        until(way.ready)
        for stream in (False, True):
            way.engine.engine.cancelled.clear()
            way.engine.engine.requests.clear()
            body = json.dumps({"messages": QUESTION, "stream": stream})
            fields = [f"Authorization: Bearer {KEY}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
            head = "\r\n".join(("POST /v1/chat/completions HTTP/1.1", "Host: x", *fields, "", ""))
            host, _, port = way.relay.removeprefix("http://").partition(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall((head + body).encode())
                until(lambda: way.engine.engine.requests)
            until(lambda: way.engine.engine.cancelled)


def test_status_and_metrics_tell_of_all_replicas_to_those_who_may_know(way: Way) -> None:
    def states() -> list[tuple[str, str]]:
        told = httpx.get(way.url + "/v1/status", headers=HEADERS, timeout=30).json()
        return [(one["name"], one["state"]) for one in told.get("cluster", {}).get("replicas", ())]

    with way.replica(), way.replica("127.93.8.2"):
        way.engine.engine.waiting = 0
        until(lambda: states() == [("a1", "up"), ("a2", "up")])
        way.engine.engine.waiting = 1
        until(lambda: states() == [("a1", "full"), ("a2", "full")])
        told = httpx.get(way.url + "/v1/status", headers=HEADERS, timeout=30).json()
        for one in told["cluster"]["replicas"]:
            assert one["model"] == {"name": "scripted", "quant": "q4_k_m", "sha256": "0" * 64}
            assert one["running"] == 0 and one["waiting"] == 1, "as the scripted engine says"
        text = httpx.get(way.url + "/metrics", headers=HEADERS, timeout=30).text
        found = {(sample.name, sample.labels["replica"]) for family in text_string_to_metric_families(text) for sample in family.samples}
        assert {("cloister_requests_total", "a1"), ("cloister_requests_total", "a2"), ("cloister_replica_up", "a2")} <= found
        for path in ("/v1/status", "/metrics"):
            answer = httpx.get(way.url + path, timeout=30)
            assert answer.status_code == 401 and "replica" not in answer.text
        for path in ("/replica/a1/v1/models", "/stats", "/stats;csv"):
            assert httpx.get(way.url + path, headers=HEADERS, timeout=30).status_code == 404, "from outside there is no such way"
