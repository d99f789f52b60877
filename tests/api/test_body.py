"""What a body may hold: too deep, too many, too long, too slow are refused by name before they cost anything. And readers that stall."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Scope

from services.api import bounds
from services.api.body import Body, check_json
from services.api.conversation import Conversation, Tool, Wanted
from services.api.conversation import Message as Turn
from services.api.engine import MAX_UNREAD
from services.api.errors import InvalidRequest
from services.shared import hardware, wire
from tests.api.scripted import Stand, accepted, finished, hold, prefill, queued, stand, tag, text, until

CHAT = "/v1/chat/completions"
DEEP = bounds.MAX_DEPTH


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


# --- on the bytes ---


@pytest.mark.parametrize(
    "body",
    [
        nested(DEEP), '{"a":' * DEEP + "1" + "}" * DEEP, json.dumps("[" * 5000), json.dumps('\\"[{' * 3000),
        "[" + ",".join(["[]"] * 5000) + "]", json.dumps(["\\", "[[", '"', "{{"] * 900), "", "nonsense", '"never closed [[[[' + "[" * 500,
    ],
)  # fmt: skip
def test_what_is_allowed(body: str) -> None:
    check_json(body.encode())


@pytest.mark.parametrize(
    "body", [nested(DEEP + 1), '{"a":' * (DEEP + 1), '["\\\\",' + nested(DEEP + 5) + "]", '{"[": ' * (DEEP + 1), "[" * 999_999]
)
def test_what_is_too_deep(body: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"at most {DEEP} levels|at most {bounds.MAX_CONTAINERS}"):
        check_json(body.encode())


def test_too_many_lists_and_objects() -> None:
    with pytest.raises(InvalidRequest, match=f"50002 lists and objects than allowed; at most {bounds.MAX_CONTAINERS}"):
        check_json(b"[" + b",".join([b"{}"] * (bounds.MAX_CONTAINERS + 1)) + b"]")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_other_encodings_can_not_hide_anything(encoding: str) -> None:
    with pytest.raises(InvalidRequest, match="UTF-8"):
        check_json(nested(2000).encode(encoding))


def test_a_string_that_is_too_long_is_named() -> None:
    body = {"messages": [{"content": "a"}, {"content": "鸡" * (bounds.MAX_STRING // 3 + 1)}]}
    with pytest.raises(InvalidRequest, match=r"^messages\.1\.content: a string") as refusal:
        check_json(json.dumps(body, ensure_ascii=False).encode())
    assert refusal.value.param == "messages.1.content"
    check_json(b'"' + b"x" * bounds.MAX_STRING + b'"')


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


VALUES = st.recursive(
    st.text('[]{}"\\a') | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"'), inner)
)


@given(VALUES, st.integers(DEEP - 4, DEEP + 1))
def test_depth_is_counted_as_the_parser_would(value: Any, around: int) -> None:
    whole = value
    for _ in range(around):
        whole = [whole]
    body = json.dumps(whole).encode()
    if depth_of(value) + around > DEEP:
        with pytest.raises(InvalidRequest):
            check_json(body)
    else:
        check_json(body)


def test_a_large_body_is_looked_through_quickly() -> None:
    bodies = [b"[" + b"[]," * 1_300_000 + b"1]", b'"' + b"\\\\" * 1_900_000 + b'"', b'["' + b"x" * 1_900_000 + b'"]', b'["' * 2_000_000]
    for body in bodies:
        began = time.process_time()
        with contextlib.suppress(InvalidRequest):
            check_json(body)
        assert time.process_time() - began < 1


# --- of conversations and wishes, in whatever dialect ---


def test_conversations_are_bounded() -> None:
    turn = Turn("user", "q")
    bounds.check_conversation(Conversation((turn,) * bounds.MAX_MESSAGES))
    with pytest.raises(InvalidRequest, match="messages: 2001 messages; at most 2000 are allowed"):
        bounds.check_conversation(Conversation((turn,) * (bounds.MAX_MESSAGES + 1)))
    with pytest.raises(InvalidRequest, match="tools: 129 tools"):
        bounds.check_conversation(Conversation((turn,), (Tool("t"),) * 129))
    with pytest.raises(InvalidRequest, match=r"tools: \d+ characters"):
        bounds.check_conversation(Conversation((turn,), (Tool("t", "d", {"enum": ["x" * 1000] * 140}),)))


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"stop": ("x",) * 17}, "stop"),
        ({"stop": ("x" * 1001,)}, "stop"),
        ({"grammar": "x" * (bounds.MAX_GRAMMAR + 1)}, "grammar"),
        ({"json_schema": "x" * (bounds.MAX_SCHEMA + 1)}, "json_schema"),
    ],
)
def test_wishes_are_bounded(wish: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match="at most") as refusal:
        bounds.check_wishes(Wanted(**wish))
    assert refusal.value.param == param and refusal.value.code == "limit_exceeded"


# --- over HTTP ---


def test_each_bound_is_an_error_of_the_client(api: Stand) -> None:
    question = {"role": "user", "content": "q"}
    bodies = {
        "messages": {"messages": [question] * 2001},
        "levels": {"messages": [question], "zebra": json.loads(nested(DEEP))},
        "stop": {"messages": [question], "stop": ["x" * 1001]},
        "messages.0.content": {"messages": [{"role": "user", "content": "x" * 2_000_001}]},
    }
    for word, body in bodies.items():
        refused = httpx.post(api.url + CHAT, json=body, timeout=60)
        assert refused.status_code == 400 and word in refused.json()["error"]["message"], word
    assert api.engine.requests == []
    assert httpx.post(api.url + CHAT, json={"messages": [question] * 2000}, timeout=60).status_code == 200


def test_a_body_that_does_not_arrive() -> None:
    sent: list[Message] = []

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(*_: Any) -> None:
        raise AssertionError("it was never there")

    scope: Scope = {"type": "http", "path": "/v1/chat/completions", "headers": [(b"content-length", b"5")]}
    asyncio.run(Body(app, limit=100, within=0.05)(scope, never, send))
    assert sent[0]["status"] == 408 and b"request_timeout" in sent[1]["body"]


@pytest.mark.parametrize("progress", [False, True])
def test_a_stream_is_never_silent_while_it_waits_or_reads(api: Stand, progress: bool) -> None:
    """The engine tells of its progress every few seconds: something of that reaches everybody."""
    api.engine.play(accepted(), [queued(2), queued(1)], [prefill(1, 3), prefill(2, 3)], tag("</think>"), text("a"), finished())
    body = {"messages": [{"role": "user", "content": "q"}], "stream": True, "stream_options": {"include_progress": progress}}
    lines = [line for line in httpx.post(api.url + CHAT, json=body, timeout=60).text.split("\n\n") if line]
    signs = [line for line in lines if ('"progress"' in line if progress else line.startswith(":"))]
    assert len(signs) == 4 and lines[0].startswith("data: ") and lines[-1] == "data: [DONE]"


QUESTION = {"model": "default", "messages": [{"role": "user", "content": "q"}]}
STREAMS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": QUESTION,
    "/v1/completions": {"prompt": "q"},
    "/v1/responses": {"input": "q"},
    "/v1/messages": {**QUESTION, "max_tokens": 5},
    "/api/chat": QUESTION,
    "/api/generate": {"model": "default", "prompt": "q"},
}


@pytest.mark.parametrize("path", STREAMS)
def test_no_proxy_holds_a_stream_back(api: Stand, path: str) -> None:
    api.engine.answer("Hello")
    with httpx.stream("POST", api.url + path, json={**STREAMS[path], "stream": True}, timeout=60) as response:
        told = response.headers
    assert (told["x-accel-buffering"], told["cache-control"]) == ("no", "no-cache")


# --- readers that stall ---


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """An API that waits one second for those who don't read."""
    with stand(tmp_path_factory.mktemp("impatient"), patience=1.0) as standing:
        yield standing


def reader(api: Stand) -> socket.socket:
    """Asks for a stream; its own buffer for what it doesn't read is small."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", api.port))
    body = json.dumps({"messages": [{"role": "user", "content": "q"}], "stream": True}).encode()
    connection.sendall(
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body))
    )
    connection.sendall(body)
    return connection


def flood(size: int, count: int, last: Any) -> Iterator[Any]:
    yield accepted()
    yield tag("</think>")
    for number in range(count):
        yield lambda name, number=number: wire.Delta(name, "x" * size, False, number + 1)
    yield last


def test_a_reader_that_stalls_is_cut_off_and_the_engine_stops(impatient: Stand) -> None:
    """What it has not read is less than would end the answer for its size; it is the time that does."""
    impatient.engine.cancelled.clear()
    impatient.engine.script = flood(1_000, 3_000, hold)  # type: ignore[assignment]
    with reader(impatient) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        until(lambda: impatient.engine.cancelled)
        until(lambda: impatient.engine.open == 0)
        received = b""
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(1 << 20):
                received = received[-1000:] + more
        assert b"slow_client" not in received and not received.endswith(b"0\r\n\r\n")
    impatient.engine.answer("Hello")
    assert httpx.post(impatient.url + CHAT, json={"messages": [{"role": "user", "content": "q"}]}, timeout=60).status_code == 200


@pytest.mark.parametrize(("size", "count"), [(4, 20 * MAX_UNREAD), (64_000, 30_000)])
def test_a_reader_that_is_too_slow_gets_what_there_was_and_the_reason(api: Stand, size: int, count: int) -> None:
    """The engine would write up to 2 GB; what the API holds of it stays within bounds."""
    api.engine.cancelled.clear()
    api.engine.script = flood(size, count, finished())  # type: ignore[assignment]
    before = hardware.resident()
    with reader(api) as connection:
        until(lambda: api.engine.cancelled)
        assert hardware.resident() - before < 64 << 20
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received = received[-1000:] + connection.recv(1 << 20)
    assert b'"code":"slow_client"' in received and b"[DONE]" not in received


@pytest.mark.parametrize("rest", [b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", b"\r\n"])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_connection_without_a_request_is_closed(impatient: Stand, before: int, rest: bytes) -> None:
    """Also one on which there were some before."""
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=30) as connection:
        for _ in range(before):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = connection.recv(1000)
            while not answer.endswith(b"}"):
                answer += connection.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200 ")
        connection.sendall(rest)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat", "/v1/completions"])
def test_every_dialect_is_bounded(api: Stand, path: str) -> None:
    """By what all of them have: stop strings or messages."""
    turns = [{"role": ("user", "assistant")[number % 2], "content": "q"} for number in range(bounds.MAX_MESSAGES + 1)]
    body = {"messages": turns, "input": turns, "prompt": "q", "stop": ["x" * 1001], "max_tokens": 5, "model": "default"}
    wanted = {"/v1/responses": ("input",), "/v1/completions": ("prompt", "stop"), "/v1/messages": ("messages", "max_tokens", "model")}
    fields = wanted.get(path, ("messages", "model"))
    done = httpx.post(f"{api.url}{path}", json={name: body[name] for name in fields}, timeout=60)
    assert done.status_code == 400 and "at most" in done.text, done.text
