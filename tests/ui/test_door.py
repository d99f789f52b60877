"""The page's door: what is open, what is closed, what the browser is told; and the program's start and end."""

from __future__ import annotations

import gc
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
import uvicorn

from services.shared import settings
from services.shared.secret import digest
from services.ui import server
from services.ui.chat import Chat
from services.ui.client import Client
from services.ui.status import Watch
from tests.conftest import ROOT, environment, free_port
from tests.ui import fake as say
from tests.ui.conftest import serve_page
from tests.ui.fake import FakeApi

CLOSED = """
    /gradio_api/upload /gradio_api/file=/etc/hostname /file=/etc/hostname /gradio_api/proxy=http://127.0.0.1:1/ /gradio_api/info
    /gradio_api/openapi.json /monitoring /gradio_api/runs /gradio_api/deep_link /gradio_api/vibe-edit /docs /openapi.json /login
    /manifest.json /nothing /gradio_api/mcp/ /gradio_api/component_server /svelte/x
"""


@pytest.mark.parametrize("path", CLOSED.split())
def test_what_a_chat_does_not_need_is_closed(scripted_page: str, path: str) -> None:
    for method in ("GET", "POST"):
        assert httpx.request(method, scripted_page + path, trust_env=False).status_code == 404, path


def wire(url: str, request: str) -> bytes:
    """The answer to a request as it is: a client library would tidy it up."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "path", ["/static/../../../../etc/hostname", "/look/..%2f..%2fpage.py", "/assets/..%2f..%2froutes.py", "/look/../page.py"]
)
def test_no_way_up_from_the_assets(scripted_page: str, path: str) -> None:
    answer = wire(scripted_page, f"GET {path} HTTP/1.1\nHost: localhost\nConnection: close\n\n")
    assert answer.split()[1] in (b"403", b"404") and b"import" not in answer


def test_the_page_names_no_other_host(scripted_page: str) -> None:
    answer = httpx.get(scripted_page, trust_env=False)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    head = answer.text.partition("<body")[0]
    assert head.index("./look/page.css") < head.index("window.gradio_config")
    tags = re.findall(r"<(?:meta|link|script)[^>]*>", head)
    assert [tag for tag in tags if re.search("//|og:|twitter|manifest", tag)] == []


def test_a_request_that_is_too_long_is_refused(scripted_page: str) -> None:
    for length in (f"Content-Length: {1 << 30}", "Transfer-Encoding: chunked"):
        answer = wire(scripted_page, f"POST /gradio_api/queue/join HTTP/1.1\nHost: localhost\n{length}\nConnection: close\n\n")
        assert answer.split()[1] == b"413"


FILE = {"X-File-Name": "%E8%B5%84%E6%96%99%2Fa%60b.csv", "Content-Type": "application/octet-stream"}


def test_a_file_is_read_counted_and_answered(fake: FakeApi, scripted_page: str) -> None:
    answer = httpx.post(scripted_page + "/read", content="鸡,23\r\n".encode("gb18030"), headers=FILE, trust_env=False)
    told = "a b.csv:\n```\n鸡,23\n```"
    tokens = say.tokens([{"content": told}])
    assert answer.json() == {"name": "a b.csv", "text": "鸡,23\n", "tokens": tokens, "context": say.MODEL["context"]}
    assert answer.headers["cache-control"] == "no-store" and "content-security-policy" in answer.headers
    assert [body["messages"] for body in fake.counted] == [[{"role": "user", "content": told}]] and fake.asked == []


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_file_of_another_page_is_refused(fake: FakeApi, scripted_page: str, origin: str) -> None:
    refused = httpx.post(scripted_page + "/read", content=b"text", headers=FILE | {"Origin": origin}, trust_env=False)
    assert refused.status_code == 403 and fake.counted == []
    own = httpx.post(scripted_page + "/read", content=b"text", headers=FILE | {"Origin": scripted_page}, trust_env=False)
    assert own.status_code == 200
    form = httpx.post(scripted_page + "/read", files={"file": b"text"}, trust_env=False)  # no form can name it
    assert form.status_code == 400 and len(fake.counted) == 1


def test_a_file_that_is_too_large_is_refused_before_it_has_come(fake: FakeApi, scripted_page: str) -> None:
    """And what does not announce its length, or is more than any request may be."""
    head = "POST /read HTTP/1.1\nHost: localhost\nX-File-Name: a\n{}\nConnection: close\n\n"
    assert b'{"error":{"reason":"too_large","found":10.1,"most":10.0}}' in wire(scripted_page, head.format("Content-Length: 10000001"))
    for length in ("Content-Length: 100000000", "Transfer-Encoding: chunked"):
        assert wire(scripted_page, head.format(length)).split()[1] == b"413"
    assert httpx.get(scripted_page + "/read", trust_env=False).status_code in (404, 405)
    assert fake.counted == []


@pytest.mark.parametrize(("status", "reason"), [(503, "uncounted"), (401, "uncounted"), (400, "too_long"), (413, "too_long")])
def test_a_file_that_can_not_be_counted_says_why(fake: FakeApi, scripted_page: str, status: int, reason: str) -> None:
    fake.uncounted = status
    answer = httpx.post(scripted_page + "/read", content=b"text", headers=FILE, trust_env=False)
    assert answer.json()["error"]["reason"] == reason


def test_the_server_neither_keeps_nor_logs_a_file(fake: FakeApi, tmp_path: Path) -> None:
    process, url = serve_page(fake.url, tmp_path, LOG__LEVEL="debug")
    try:
        for content in ("SECRET text", b"SECRET\0"):
            httpx.post(url + "/read", content=content, headers={"X-File-Name": "SECRET.txt"}, trust_env=False)
    finally:
        process.terminate()
        assert process.wait(20) == 0
    log = (tmp_path / "ui.log").read_text()
    assert "file outcome=read bytes=11" in log and "file outcome=binary bytes=7" in log and "SECRET" not in log
    assert all("SECRET" not in file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.is_file())


def test_sigterm_ends_it_within_seconds_even_with_an_answer_under_way(fake: FakeApi, tmp_path: Path) -> None:
    fake.default = say.endless()
    process, url = serve_page(fake.url, tmp_path)
    try:
        session = {"session_hash": "abc", "fn_index": _event(url, "submit", "click"), "data": ["FORBIDDEN TEXT", [], "", None, [], "en"]}
        assert httpx.post(url + "/gradio_api/queue/join", json=session, trust_env=False).status_code == 200
        listening = threading.Thread(target=_listen, args=(url,), daemon=True)
        listening.start()
        deadline = time.monotonic() + 30
        while not fake.asked and time.monotonic() < deadline:
            time.sleep(0.05)
        assert fake.asked
    finally:
        process.terminate()
    began = time.monotonic()
    assert process.wait(20) == 0
    assert time.monotonic() - began < 8
    assert fake.cancelled.wait(20)
    log = (tmp_path / "ui.log").read_text()
    assert "FORBIDDEN" not in log and "word" not in log and "Traceback" not in log
    assert all(line.split()[2] == "ui" for line in log.splitlines()), log


def _listen(url: str) -> None:
    try:
        with httpx.stream("GET", url + "/gradio_api/queue/data?session_hash=abc", timeout=60, trust_env=False) as answer:
            for _ in answer.iter_lines():
                pass
    except httpx.HTTPError:
        pass  # the server went away: that is the test


def test_sixty_visitors_are_answered_at_once(fake: FakeApi, scripted_page: str) -> None:
    fake.default = [*say.thought("Hm."), say.wait("all"), *say.end()]
    question = {"fn_index": _event(scripted_page, "submit", "click"), "data": ["q", [], "", None, [], "en"]}
    for number in range(60):
        joined = httpx.post(scripted_page + "/gradio_api/queue/join", json=question | {"session_hash": f"s{number}"}, trust_env=False)
        assert joined.status_code == 200
    deadline = time.monotonic() + 60
    while len(fake.asked) < 60 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(fake.asked) == 60
    fake.open("all")


def test_a_port_that_is_taken_is_a_clear_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = environment(tmp_path, UI__PORT=port)
        done = subprocess.run(
            [sys.executable, "-m", "services.ui"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}" in done.stderr and "CLOISTER_UI__PORT" in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_setting_is_a_clear_sentence(tmp_path: Path) -> None:
    env = environment(tmp_path, UI__PROT=free_port())
    done = subprocess.run([sys.executable, "-m", "services.ui"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "CLOISTER_UI__PROT" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("password", ["", "secret"])
def test_the_server_keeps_no_text_once_an_answer_has_ended(fake: FakeApi, tmp_path: Path, password: str) -> None:
    marker = f"MARK{free_port()}"
    fake.default = [*say.thought(f"{marker} thought"), *say.answer(f"{marker} answer"), *say.end()]
    client = Client(fake.url)
    watch = Watch(client)
    (tmp_path / "passwords").write_text(f"anna {digest(password).hex()}\n" if password else "")
    config = settings.load(environment(tmp_path, UI__PASSWORD=tmp_path / "passwords"))
    app = server.create_app(config, chat := Chat(client, watch.current), client, watch)
    uvicorn_server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_config=None, ws="none"))
    serving = threading.Thread(target=uvicorn_server.run, daemon=True)
    serving.start()
    try:
        url = f"http://127.0.0.1:{uvicorn_server.config.port}"
        deadline = time.monotonic() + 30
        while not uvicorn_server.started and time.monotonic() < deadline:
            time.sleep(0.05)
        entered = httpx.post(url + "/login", data={"name": "anna", "password": password}, trust_env=False)
        assert entered.status_code == (303 if password else 404)
        inside = {"cookies": entered.cookies, "trust_env": False, "timeout": 60}
        session = {
            "session_hash": "abc",
            "fn_index": _event(url, "submit", "click", cookies=entered.cookies),
            "data": [f"{marker} question", [], "", None, [], "en"],
        }
        assert httpx.post(url + "/gradio_api/queue/join", json=session, **inside).status_code == 200
        told = httpx.get(url + "/gradio_api/queue/data?session_hash=abc", **inside).text
        assert f"{marker} answer" in told
        del told, session
        fake.reset()
        assert chat.running("abc") is None
        # Gradio's queue holds the one event that it started last, until the next: here somebody else's empty question.
        number = _event(url, "submit", "click", cookies=entered.cookies)
        session = {"session_hash": "xyz", "fn_index": number, "data": ["", [], "", None, [], "en"]}
        assert httpx.post(url + "/gradio_api/queue/join", json=session, **inside).status_code == 200
        assert "process_completed" in httpx.get(url + "/gradio_api/queue/data?session_hash=xyz", **inside).text
        deadline = time.monotonic() + 30
        while (kept := _holders(marker)) and time.monotonic() < deadline:
            time.sleep(0.2)  # the last connection is being closed
        assert kept == []
    finally:
        uvicorn_server.should_exit = True
        serving.join(20)


def _event(url: str, *triggers: str, cookies: httpx.Cookies | None = None) -> int:
    """Gradio's number for the event with these triggers."""
    config = httpx.get(url + "/config", cookies=cookies, trust_env=False).json()
    return next(
        int(event["id"])
        for event in config["dependencies"]
        if tuple(target[1] for target in event["targets"]) == triggers and event["queue"] is not False
    )


def _holders(marker: str) -> list[str]:
    """Containers in this process that hold a text with the marker, apart from running functions."""
    gc.collect()
    return [f"{type(thing).__name__} {str(thing)[:200]}" for thing in gc.get_objects() if _holds(thing, marker)]


def _holds(thing: object, marker: str) -> bool:
    values = list(thing.values()) if type(thing) is dict else thing if type(thing) in (list, tuple) else ()
    assert isinstance(values, list | tuple)
    # The collector does not track dictionaries of plain values: those are looked into from what holds them.
    return any(
        (marker in value and value != marker if isinstance(value, str) else marker.encode() in value)
        if isinstance(value, str | bytes)
        else not gc.is_tracked(value) and _holds(value, marker)
        for value in values
    )
