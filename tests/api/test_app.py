"""What holds for every route: bodies that are too long or no JSON, unknown paths, errors in one shape, and logs without anybody's text."""

from __future__ import annotations

import json
import logging
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.scripted import Stand, accepted, die, failed, finished, stand, tag, text, until
from tests.conftest import ROOT, environment, free_port

CHAT = "/v1/chat/completions"
LIMIT = 100_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """An API that takes bodies of 100 kB."""
    with stand(tmp_path_factory.mktemp("small"), API__MAX_BODY=LIMIT) as standing:
        standing.engine.answer("ok")
        yield standing


def body_of(size: int) -> bytes:
    """A valid request of exactly so many bytes."""
    frame = b'{"messages":[{"role":"user","content":"%s"}]}'
    return frame % (b"x" * (size - len(frame) + 2))


def shape(response: httpx.Response) -> dict[str, Any]:
    """The error in OpenAI's shape."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return dict(error)


def post(api: Stand, content: Any, path: str = CHAT, **headers: str) -> httpx.Response:
    return httpx.post(api.url + path, content=content, headers={"content-type": "application/json", **headers}, timeout=30)


@pytest.mark.parametrize("chunked", [False, True])
def test_the_longest_body_and_one_more(small: Stand, chunked: bool) -> None:
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413), (20 * LIMIT, 413)):
        body = body_of(size)
        assert len(body) == size
        response = post(small, (body[at : at + 7000] for at in range(0, size, 7000)) if chunked else body)
        assert response.status_code == status, size
        if status == 413:
            error = shape(response)
            assert error["code"] == "request_too_large" and str(LIMIT) in error["message"] and "max_body" in error["message"]


def test_a_body_that_is_announced_too_long_is_not_waited_for(small: Stand) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_an_endless_body_is_refused_while_it_comes(small: Stand) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(LIMIT // 1000 + 1):
            connection.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "0x10", "9" * 5000, ""])
def test_odd_lengths(small: Stand, length: str) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{{}}".encode())
        assert connection.recv(1000).split()[1] in (b"400", b"413")
    assert post(small, body_of(200)).status_code == 200


def test_a_body_that_breaks_off_is_nobodys_request(small: Stand) -> None:
    before = len(small.engine.requests)
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n{{".encode())
    assert post(small, body_of(200)).status_code == 200
    assert len(small.engine.requests) == before + 1


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"5", b'"text"', b"null", b"{'messages': []}", b"\xff\xfe{}", b"\x00", b"{} {}",
        b"[" * 50_000, b'{"a":' * 20_000, b'{"messages": ' + b"9" * 5000 + b"}", '{"messages": "鸡"'.encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_no_request(small: Stand, content: bytes) -> None:
    error = shape(response := post(small, content))
    assert response.status_code == 400 and error["type"] == "invalid_request_error"


def test_the_content_type_does_not_matter_much(small: Stand) -> None:
    for kind in ("application/json; charset=utf-8", "application/vnd.api+json"):
        assert post(small, body_of(200), **{"content-type": kind}).status_code == 200
    assert post(small, b"a=1", **{"content-type": "application/x-www-form-urlencoded"}).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/audio",
        "/api",
        "/v1/messagesX",
        "/nothing",
        "/v1/chat/completions/",
        "/%00",
        "/%ff",
        "/鸡",
        "//",
        "/docs/",
        "/docs/nothing",
        "/redoc",
    ],
)
def test_unknown_paths(small: Stand, path: str) -> None:
    response = httpx.get(small.url + path)
    assert response.status_code == 404 and shape(response)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", CHAT, "POST"), ("PUT", CHAT, "POST"), ("POST", "/v1/models", "GET"), ("DELETE", "/livez", "GET")],
)
def test_wrong_methods(small: Stand, method: str, path: str, allowed: str) -> None:
    response = httpx.request(method, small.url + path)
    assert response.status_code == 405 and response.headers["allow"] == allowed
    assert method in shape(response)["message"]


def test_odd_model_names_in_the_path(small: Stand) -> None:
    for name in ("a/b/c", "%00", "%ff", "%F0%9F%90%94", "..%2f..%2fetc", "x" * 5000):
        response = httpx.get(f"{small.url}/v1/models/{name}")
        assert response.status_code == 404 and shape(response)["code"] == "model_not_found"


def test_not_http_at_all(small: Stand) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert connection.recv(100).split()[1:2] in ([b"400"], [])
    assert httpx.get(small.url + "/livez").status_code == 200


# --- logs ---

SECRET = "zebra-crossing 鸡兔"


def lines_of(responses: list[httpx.Response], caplog: pytest.LogCaptureFixture) -> list[str]:
    """Their lines, which come a moment after them: the last of an earlier test may come in this one."""
    ids = tuple(f" id={response.headers['x-request-id']}" for response in responses)
    return [line for record in caplog.records if record.name == "api" for line in [record.getMessage()] if any(one in line for one in ids)]


def test_no_text_of_anybody_is_logged(api: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes right or wrong with it."""
    caplog.set_level(logging.DEBUG)
    for noisy in ("httpx", "httpcore", "asyncio", "openai"):  # the test's own client
        logging.getLogger(noisy).setLevel(logging.WARNING)
    spoken = [{"role": "user", "content": SECRET}]
    bodies: list[dict[str, Any]] = [
        {"messages": spoken},
        {"messages": spoken, "stream": True},
        {"messages": spoken, "stop": SECRET, "model": SECRET},
        {"messages": spoken, "tools": [SECRET]},
        {"messages": spoken, "temperature": SECRET},
        {"messages": [{"role": SECRET, "content": SECRET}]},
        {"messages": spoken, SECRET: SECRET},
        {"messages": [{"role": "user", "content": SECRET + "\ud83d"}]},
        {"messages": SECRET},
    ]
    api.engine.play(accepted(), text(SECRET), tag("</think>"), text(SECRET), finished())
    answers = [post(api, json.dumps(body)) for body in bodies]
    for step in (failed("internal", "broken"), failed("context_length_exceeded", "too long"), die):
        api.engine.play(accepted(), text(SECRET), step)
        for stream in (False, True):
            answers.append(post(api, json.dumps({"messages": spoken, "stream": stream})))
            until(lambda: api.app.state.appliance.state() == "ready")
    httpx.get(f"{api.url}/v1/models/{SECRET.split()[0]}")
    answers.append(post(api, SECRET.encode()))
    until(lambda: len(lines_of(answers, caplog)) == len(bodies) + 7)
    without_paths = caplog.text.replace("/v1/models/zebra-crossing", "")
    assert not [word for word in ("zebra", "鸡", "\\u9e21", "%E9%B8%A1") if word in without_paths]


def test_each_request_is_one_line(api: Stand, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "api")
    responses = [httpx.get(api.url + "/livez"), post(api, body_of(200)), httpx.get(api.url + "/a%0ab%1b[31m")]
    until(lambda: any("status=404" in line for line in lines_of(responses, caplog)))
    lines = lines_of(responses, caplog)
    assert len(lines) == 2
    assert lines[0].startswith(f"request method=POST path={CHAT} status=200 seconds=")
    assert re.search(r" id=req-[0-9a-f]{32} engine=r\d+$", lines[0])
    assert lines[1].startswith("request method=GET path=/a%0Ab%1B%5B31m status=404 ")


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 64])
def test_a_request_may_bring_its_id(api: Stand, given: str) -> None:
    for path, status in (("/livez", 200), ("/nothing", 404), ("/v1/messages/nothing", 404)):
        response = httpx.get(api.url + path, headers={"X-Request-Id": given})
        assert response.status_code == status and response.headers["x-request-id"] == given
    assert response.headers["request-id"] == given, "Anthropic's clients look for it there"


@pytest.mark.parametrize("given", ["", "x" * 65, "two words", "a=b", "zeb\tra", "é"])
def test_what_is_no_id_is_replaced(api: Stand, given: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "api")
    responses = [httpx.get(api.url + "/v1/models", headers={"X-Request-Id": given.encode()}) for _ in range(2)]
    made = [response.headers["x-request-id"] for response in responses]
    assert all(re.fullmatch(r"req-[0-9a-f]{32}", one) for one in made) and made[0] != made[1]
    until(lambda: len(lines_of(responses, caplog)) == 2)
    assert not given or given not in caplog.text.replace("\n", "")


def test_an_unexpected_error_is_told_without_its_message(api: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """Its message may hold anybody's text; where it happened is enough."""
    home = api.app.state.appliance

    def broken() -> None:
        raise KeyError(SECRET)

    home.model, model = broken, home.model
    try:
        response = post(api, body_of(200))
    finally:
        home.model = model
    error = shape(response)
    assert response.status_code == 500 and error["code"] == "internal" and "zebra" not in response.text
    assert "unexpected error type=KeyError at=" in caplog.text and "test_app.py" in caplog.text
    assert "zebra" not in caplog.text
    assert post(api, body_of(200)).status_code == 200


# --- as a program ---


def test_a_taken_port_ends_it_with_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = environment(tmp_path, API__PORT=taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "services.api"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1 and "address already in use" in done.stderr


def test_a_wrong_setting_ends_it_with_2(tmp_path: Path) -> None:
    env = environment(tmp_path, API__PORT=0)
    done = subprocess.run(
        [sys.executable, "-m", "services.api"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2 and "CLOISTER_API__PORT" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_end_is_the_end_of_the_template_process_too(api: Stand, number: signal.Signals) -> None:
    port = free_port()
    env = environment(api.home, API__PORT=port)
    process = subprocess.Popen([sys.executable, "-m", "services.api"], cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is None and ready(port))
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert "services.api.renderer" in Path(f"/proc/{child}/cmdline").read_text()
        process.send_signal(number)
        assert process.wait(30) in (0, -number)
        until(lambda: not running(child))
    finally:
        process.kill()
        process.wait()


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def running(pid: str) -> bool:
    """Is there such a process, and not only what is left of it?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
