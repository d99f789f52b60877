"""The relay as a process before an upstream that does what a test says, byte by byte."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.relay.app import MOST, Relay
from tests.api.scripted import until
from tests.relay.processes import relay

EVENT = b'data: {"choices": []}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\nX-Request-Id: r1\r\n\r\n"
LINES = STREAM.replace(b"text/event-stream; charset=utf-8", b"application/x-ndjson")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-Request-Id: r1\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Upstream:
    """Gives each connection to `serve`, after the head of the request, which is kept."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.head = b""
        self.serve: Callable[[socket.socket], None] = lambda connection: None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(60)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(1)
            self.head = head
            self.serve(connection)
            connection.shutdown(socket.SHUT_WR)  # closed with something unread, what was sent would be lost
            while connection.recv(1 << 16):
                pass

    def says(self, *pieces: bytes) -> None:
        """From now on it says this and breaks off."""
        self.serve = lambda connection: [connection.sendall(piece) for piece in pieces] and None

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Upstream, Path]]:
    upstream, home = Upstream(), tmp_path_factory.mktemp("relay")
    with relay(home, f"http://127.0.0.1:{upstream.port}") as (url, _):
        yield url, upstream, home
    upstream.close()


@pytest.fixture
def upstream(shared: tuple[str, Upstream, Path]) -> Upstream:
    return shared[1]


@pytest.fixture
def url(shared: tuple[str, Upstream, Path]) -> str:
    return shared[0]


def events(text: str) -> list[Any]:
    """The data of server-sent events."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]


# --- streams that break off ---


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_openai_is_told_in_an_event_without_done(url: str, upstream: Upstream, path: str) -> None:
    upstream.says(STREAM, chunk(EVENT), chunk(EVENT))
    text = httpx.post(url + path, json={}).text
    assert text.startswith((EVENT * 2).decode()) and "[DONE]" not in text
    error = events(text)[-1]["error"]
    assert error["code"] == "engine_failed" and error["type"] == "server_error" and error["param"] is None and "again" in error["message"]


def test_half_an_event_never_goes_out(url: str, upstream: Upstream) -> None:
    upstream.says(STREAM, chunk(EVENT + EVENT[:9]))
    text = httpx.post(url + "/v1/chat/completions", json={}).text
    assert text.count("choices") == 1 and len(events(text)) == 2


def test_an_event_that_comes_in_parts_goes_out_whole_and_at_once(url: str, upstream: Upstream) -> None:
    goes_on = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(STREAM + chunk(EVENT[:5]))
        time.sleep(0.05)
        connection.sendall(chunk(EVENT[5:]))
        assert goes_on.wait(30)
        connection.sendall(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    upstream.serve = serve
    with httpx.stream("POST", url + "/v1/chat/completions", json={}, timeout=30) as answer:
        arriving = answer.iter_bytes()
        assert next(arriving) == EVENT, "before the next one is there"
        goes_on.set()
        assert b"".join(arriving) == b"data: [DONE]\n\n", "nothing is added to what is whole"
        assert answer.headers["x-request-id"] == "r1" and answer.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_anthropic_is_told_by_its_error_event(url: str, upstream: Upstream) -> None:
    upstream.says(STREAM, chunk(b'event: ping\ndata: {"type":"ping"}\n\n'))
    text = httpx.post(url + "/v1/messages", json={}).text
    assert "\nevent: error\n" in text and events(text)[-1]["type"] == "error" and events(text)[-1]["error"]["type"] == "api_error"


def test_ollama_is_told_by_a_line(url: str, upstream: Upstream) -> None:
    upstream.says(LINES, chunk(b'{"done":false}\n{"do'))
    for path in ("/api/chat", "/api/generate"):
        lines = httpx.post(url + path, json={}).text.splitlines()
        assert json.loads(lines[0]) == {"done": False} and len(lines) == 2
        assert "gone" in json.loads(lines[1])["error"]


def test_responses_are_told_by_the_next_number_with_what_there_is(url: str, upstream: Upstream) -> None:
    def event(number: int, kind: str, **told: Any) -> bytes:
        return chunk(b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps({"type": kind, "sequence_number": number, **told}).encode()))

    begun = {"id": "resp_1", "status": "in_progress", "output": [], "error": None}
    upstream.says(
        STREAM,
        event(0, "response.created", response=begun),
        chunk(b": still working\n\n"),
        event(1, "response.output_item.done", output_index=0, item={"id": "rs_1"}),
        event(2, "response.output_text.delta", delta="hm"),
    )
    last = events(httpx.post(url + "/v1/responses", json={}).text)[-1]
    assert last["type"] == "response.failed" and last["sequence_number"] == 3
    assert last["response"]["id"] == "resp_1" and last["response"]["status"] == "failed"
    assert last["response"]["output"] == [{"id": "rs_1"}] and last["response"]["error"]["code"] == "server_error"
    upstream.says(STREAM)
    last = events(httpx.post(url + "/v1/responses", json={}).text)[-1]
    assert last["type"] == "error" and last["sequence_number"] == 0 and last["code"] == "engine_failed"


# --- answers that come whole, or not at all ---

DOWN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<h1>"


@pytest.mark.parametrize("said", [b"", HEAD % 99 + b'{"id": ', DOWN.replace(b"503", b"502")], ids=["nothing", "half", "502"])
def test_without_an_answer_it_is_503_in_the_dialects_form(url: str, upstream: Upstream, said: bytes) -> None:
    upstream.says(said)
    forms = {"/v1/chat/completions": ("error", "code"), "/v1/messages": ("error", "type"), "/api/chat": ("error",)}
    for path, (name, *inner) in forms.items():
        answer = httpx.post(url + path, json={})
        assert (
            answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1 and answer.headers["content-type"] == "application/json"
        )
        told = answer.json()[name]
        assert not inner or told[inner[0]] in ("unavailable", "overloaded_error")


def test_the_apis_own_503_is_passed_on(url: str, upstream: Upstream) -> None:
    upstream.says(HEAD.replace(b"200 OK", b"503 no") % 2 + b"{}")
    answer = httpx.get(url + "/readyz")
    assert answer.status_code == 503 and answer.text == "{}"


def test_a_long_answer_that_breaks_off_does_not_look_whole(url: str, upstream: Upstream) -> None:
    upstream.says(HEAD % (2 * MOST), b"x" * (MOST + 1))
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(url + "/v1/chat/completions", json={}, timeout=30)
    upstream.says(HEAD % (2 * MOST), b"x" * (2 * MOST))
    assert len(httpx.post(url + "/v1/chat/completions", json={}, timeout=30).content) == 2 * MOST


def test_a_balancer_that_is_being_restarted_is_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with relay(tmp_path, f"http://127.0.0.1:{port}") as (url, _):

        def restarted() -> None:
            time.sleep(1)
            with socket.create_server(("127.0.0.1", port)) as listener:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(HEAD % 2 + b"{}")

        thread = threading.Thread(target=restarted)
        thread.start()
        assert httpx.get(url + "/v1/models", timeout=30).status_code == 200
        thread.join()


def test_what_reached_no_replica_is_asked_again_with_its_whole_body(url: str, upstream: Upstream) -> None:
    """The balancer's own 503: the replica that it had chosen died in that moment."""
    bodies: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        body = b""
        while not body.endswith(b"\r\n0\r\n\r\n" if b"transfer-encoding" in upstream.head.lower() else b"}"):
            body += connection.recv(1 << 16)
        bodies.append(body)
        connection.sendall(DOWN if len(bodies) < 3 else HEAD % 2 + b"{}")

    upstream.serve = serve
    asked = {"messages": [{"role": "user", "content": "x" * 300_000}]}
    assert httpx.post(url + "/v1/chat/completions", json=asked, timeout=30).status_code == 200
    assert len(bodies) == 3 and len(set(bodies)) == 1 and json.loads(bodies[0]) == asked


@pytest.mark.parametrize("alive", [False, True], ids=["no balancer", "no replica"])
def test_it_is_not_waited_for_for_ever(upstream: Upstream, alive: bool) -> None:
    upstream.says(DOWN)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = upstream.port if alive else listener.getsockname()[1]

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Relay(f"http://127.0.0.1:{port}", patience=0.5))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.post("/v1/messages", json={})

    answer = asyncio.run(ask())
    assert answer.status_code == 503 and answer.json()["error"]["type"] == "overloaded_error" and answer.headers["retry-after"]


# --- what passes, and when it stops ---


def test_heads_pass_as_they_are_but_for_the_connections_own(url: str, upstream: Upstream) -> None:
    upstream.says(HEAD.replace(b"X-Request", b"Keep-Alive: 9\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Request") % 2 + b"{}")
    given = {"Host": "ai.example", "Authorization": "Bearer k", "X-Forwarded-For": "10.0.0.9", "X-Forwarded-Proto": "https"}
    hop = {"Connection": "keep-alive, X-Hop", "X-Hop": "1", "Expect": "100-continue"}
    answer = httpx.post(url + "/v1/a%2Fb/%E4%BD%A0?x=%20&y", headers=[*given.items(), *hop.items()], content=b"body")
    lines = upstream.head.decode("latin-1").lower().splitlines()
    assert lines[0] == "post /v1/a%2fb/%e4%bd%a0?x=%20&y http/1.1"
    assert {f"{name}: {value}".lower().encode().decode("latin-1") for name, value in given.items()} <= set(lines)
    assert not [line for line in lines if line.startswith(("x-hop", "expect", "transfer-encoding"))] and "content-length: 4" in lines
    assert answer.headers.get_list("set-cookie") == ["a=b", "c=d"] and "keep-alive" not in answer.headers and "server" not in answer.headers


def test_a_body_goes_up_while_it_comes(url: str, upstream: Upstream) -> None:
    arrived = threading.Event()

    def serve(connection: socket.socket) -> None:
        got = b""
        while b"first" not in got:
            got += connection.recv(1 << 16)
        arrived.set()
        while not got.endswith(b"0\r\n\r\n"):
            got += connection.recv(1 << 16)
        connection.sendall(HEAD % 2 + b"{}")

    def body() -> Iterator[bytes]:
        yield b"first"
        assert arrived.wait(30)
        yield b"second"

    upstream.serve = serve
    assert httpx.post(url + "/v1/chat/completions", content=body(), timeout=30).status_code == 200


@pytest.mark.parametrize("begun", [b"", STREAM + chunk(EVENT)], ids=["waiting", "streaming"])
def test_a_client_that_hangs_up_ends_it_above_at_once(url: str, upstream: Upstream, begun: bytes) -> None:
    asked, ended = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(begun)
        asked.set()
        while connection.recv(1 << 16):
            pass
        ended.set()

    upstream.serve = serve
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        assert asked.wait(30) and not ended.wait(0.3)
    assert ended.wait(10)


def test_its_log_has_no_text(url: str, upstream: Upstream, shared: tuple[str, Upstream, Path]) -> None:
    upstream.says(STREAM, chunk(b"data: zebra\n\n"))
    assert "zebra" in httpx.post(url + "/v1/chat/completions", json={"secret": "zebra"}, headers={"Authorization": "Bearer zebra"}).text
    log = (shared[2] / "relay.log").read_text()
    assert "stream cut path=/v1/chat/completions reason=RemoteProtocolError" in log and "id=r1" in log
    assert "zebra" not in log and "Traceback" not in log


def test_at_its_end_streams_under_way_finish(tmp_path: Path) -> None:
    upstream, ends = Upstream(), threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(STREAM + chunk(EVENT))
        assert ends.wait(60)
        connection.sendall(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    upstream.serve = serve
    with relay(tmp_path, f"http://127.0.0.1:{upstream.port}") as (url, process):
        with httpx.stream("POST", url + "/v1/chat/completions", json={}, timeout=60) as answer:
            arriving = answer.iter_bytes()
            assert next(arriving) == EVENT
            process.send_signal(signal.SIGTERM)
            until(lambda: refused(url))
            assert process.poll() is None
            ends.set()
            assert b"".join(arriving) == b"data: [DONE]\n\n"
        assert process.wait(30) in (0, -signal.SIGTERM)
    upstream.close()


def refused(url: str) -> bool:
    try:
        httpx.get(url + "/relay/livez")
    except httpx.ConnectError:
        return True
    except httpx.TransportError:  # it came in and was closed: the next one is refused
        return False
    return False
