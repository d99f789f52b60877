"""The gateway: streams as they come, limits, headers, TLS by its own authority, a sub-path, and another proxy in front."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, sync_playwright

from tests.stack.conftest import ROOT, Stack, ask, get
from tests.stack.waiting import wait

# Takes one WebSocket after the other and sends back every frame of four letters without its mask. It doesn't end by itself: Docker
# refuses to remove by force a container that ends while it is being killed.
ECHO = """
import base64, hashlib, re, socket
door = socket.create_server(("0.0.0.0", 7860))
while True:
    link, _ = door.accept()
    key = re.search(rb"Sec-WebSocket-Key: *(\\S+)", link.recv(65536), re.I)[1]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    head = [b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Accept: " + accept]
    link.sendall(b"\\r\\n".join([*head, b"", b""]))
    while frame := link.recv(10):
        link.sendall(b"\\x81\\x04" + bytes(a ^ b for a, b in zip(frame[6:], frame[2:6])))
"""


@contextlib.contextmanager
def changed(stack: Stack, **settings: str) -> Iterator[Stack]:
    """The same stack with other settings for a while."""
    other = Stack({**stack.env, **settings}, stack.page_url, stack.api_url)
    other.compose("up", "--detach", "--no-build", "--no-deps", "door", "gateway", "ui", "api")
    try:
        yield other
    finally:
        stack.compose("up", "--detach", "--no-build", "--no-deps", "door", "gateway", "ui", "api")
        stack.ready()
        wait(lambda: get(f"{stack.page_url}/livez")[0] == 200, 60)


def test_tokens_are_not_held_back(stack: Stack) -> None:
    body = {"messages": [{"role": "user", "content": "1+1=?"}], "stream": True, "max_tokens": 200, "ignore_eos": True}
    request = urllib.request.Request(
        f"{stack.page_url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    times = []
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            if line.startswith(b"data:"):
                times.append(time.monotonic())
    assert len({round(at, 2) for at in times}) > 10, "the answer came in one piece"


def test_security_headers_and_limits(stack: Stack) -> None:
    with urllib.request.urlopen(stack.page_url, timeout=30) as response:
        headers = response.headers
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "same-origin"
    assert "Server" not in headers or "Caddy" not in headers["Server"]
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    for url in (stack.page_url, stack.api_url):
        link = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        link.putrequest("POST", "/v1/chat/completions")
        link.putheader("Content-Length", "21000000")
        link.endheaders()  # refused by what it announces, before any of it is sent
        response = link.getresponse()
        assert response.status == 413 and json.loads(response.read())["error"]["code"] == "request_too_large"
        link.close()


def test_the_page_asks_nobody_but_its_own_origin(stack: Stack) -> None:
    """In Chromium, with its network log as evidence; the question is answered on the page."""
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
        arguments += ["--disable-component-update", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        page: Page = browser.new_page()
        page.on("request", note)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None)
        page.goto(stack.page_url)
        box = page.locator("#question textarea")
        box.wait_for(timeout=60_000)
        box.fill("鸡兔同笼，共有 35 个头，94 条腿，请问鸡和兔各有多少只？")
        box.press("Enter")
        page.get_by_text("23").last.wait_for(timeout=120_000)
        browser.close()
    foreign = [url for url in asked if not url.startswith((stack.page_url, "data:", "blob:"))]
    assert len(asked) > 10 and foreign == [] and complaints == []


def test_a_websocket_passes(stack: Stack) -> None:
    """Nothing of ours speaks it today, so something that does stands in the page's place."""
    name = f"{stack.env['CLOISTER_PROJECT']}-echo"
    network = ["--network", f"{stack.env['CLOISTER_PROJECT']}_inside", "--network-alias", "ui"]
    stack.compose("stop", "ui")
    try:
        stack.run("docker", "run", "--detach", "--no-healthcheck", "--name", name, *network, stack.image("ui"), "python3", "-c", ECHO)
        host, _, port = stack.page_url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), 30) as link:
            link.settimeout(30)
            upgrade = [
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: Y2xvaXN0ZXIgY2xvaXN0ZQ==",
            ]
            link.sendall("\r\n".join(["GET /any HTTP/1.1", f"Host: {host}:{port}", *upgrade, "", ""]).encode())
            head = b""
            while not head.endswith(b"\r\n\r\n") and (more := link.recv(1)):
                head += more
            assert head.startswith(b"HTTP/1.1 101 "), head
            for word in (b"ping", b"pong"):  # a text frame there, masked with zeros, and the same frame back
                link.sendall(b"\x81\x84\0\0\0\0" + word)
                assert link.recv(64) == b"\x81\x04" + word
    finally:
        stack.run("docker", "rm", "--force", name)
        stack.compose("start", "ui")
        wait(lambda: get(f"{stack.page_url}/livez")[0] == 200, 60)


def test_a_client_that_dawdles_over_its_header_is_cut_off(stack: Stack) -> None:
    host, _, port = stack.page_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 30) as link:
        link.settimeout(30)
        link.sendall(b"GET / HTTP/1.1\r\nHost:")
        began = time.monotonic()
        while link.recv(1024):
            pass
        assert 5 < time.monotonic() - began < 20


def test_tls_by_the_gateways_own_authority(stack: Stack, tmp_path: Path) -> None:
    with changed(stack, CLOISTER_TLS="localhost,127.0.0.1") as secure:
        root = "/opt/cloister/var/gateway/caddy/pki/authorities/local/root.crt"
        wait(lambda: secure.compose("exec", "-T", "gateway", "test", "-s", root, check=False).returncode == 0, 60)
        (tmp_path / "root.crt").write_text(secure.compose("exec", "-T", "gateway", "cat", root).stdout)
        trust = ssl.create_default_context(cafile=str(tmp_path / "root.crt"))
        for host in ("localhost", "127.0.0.1"):
            url = stack.page_url.replace("http://127.0.0.1", f"https://{host}")

            def answers(url: str = url) -> bool:
                try:
                    with urllib.request.urlopen(f"{url}/livez", timeout=10, context=trust) as response:
                        return bool(response.status == 200)
                except OSError:
                    return False

            wait(answers, 60, lambda: secure.compose("logs", "--tail", "20", "gateway").stdout)


def test_under_a_sub_path_and_behind_another_proxy(stack: Stack) -> None:
    with changed(stack, CLOISTER_SUBPATH="/cloister", CLOISTER_PROXIED="true") as below:
        below.ready()
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.example"}
        wait(lambda: get(f"{stack.page_url}/cloister/livez")[0] == 200, 60)
        status, config = get(f"{stack.page_url}/cloister/config", headers=headers)
        assert status == 200 and json.loads(config)["root"] == "https://ai.example/cloister"
        assert get(f"{stack.page_url}/cloister/v1/models")[0] == 200
        assert get(f"{stack.api_url}/cloister/v1/models")[0] == 200


def test_names_that_the_stack_is_called_by(stack: Stack) -> None:
    """Host goes through the gateway as it came, so that a page of somebody else can't lead a browser in by a name of its own."""
    for url in (stack.page_url, stack.api_url):
        assert get(f"{url}/v1/models", headers={"Host": "evil.example"})[0] == 403
        assert get(f"{url}/v1/models", headers={"Host": "localhost:1"})[0] == 200
        assert get(f"{url}/v1/models", headers={"Origin": "https://evil.example"})[0] == 403
    assert get(f"{stack.api_url}/metrics")[0] == 200 and get(f"{stack.api_url}/docs")[0] == 200
    for host, status in (("evil.example", 403), ("localhost:1", 200)):
        assert get(f"{stack.page_url}/config", headers={"Host": host})[0] == status
    assert b"CLOISTER_API__HOSTS" in get(stack.page_url, headers={"Host": "evil.example"})[1]
    with changed(stack, CLOISTER_API__HOSTS="ai.example") as named:
        named.ready()
        wait(lambda: get(f"{stack.page_url}/config", headers={"Host": "ai.example"})[0] == 200, 60)
        assert get(f"{stack.page_url}/config", headers={"Host": "evil.example"})[0] == 403
        assert get(f"{stack.api_url}/v1/models", headers={"Host": "ai.example"})[0] == 200
        assert get(f"{stack.api_url}/v1/models", headers={"Host": "evil.example"})[0] == 403


def test_a_screening_list_reaches_the_api(stack: Stack, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    patterns = tmp_path / "screen.toml"
    patterns.write_text('[[pattern]]\nname = "project-x"\nregex = "nightingale"\naction = "refuse"\n')
    with changed(stack, CLOISTER_API__SCREEN=str(patterns)) as screened:
        screened.ready()
        body = {"messages": [{"role": "user", "content": "What is Nightingale?"}]}
        wait(lambda: get(f"{stack.api_url}/v1/chat/completions", body=body)[0] == 400, 60)
        status, answer = get(f"{stack.api_url}/v1/chat/completions", body=body)
        assert status == 400 and json.loads(answer)["error"]["code"] == "screened" and b"project-x" in answer


def enter(page_url: str, name: str, password: str) -> tuple[int, int]:
    """What the login says to these, and then the page: 401 or 429 where they are not let in."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    form = urllib.parse.urlencode({"name": name, "password": password}).encode()

    def status(path: str, body: bytes | None = None) -> int:
        try:
            with browser.open(f"{page_url}{path}", body, timeout=30) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    return status("/login", form), status("/config")


def test_open_to_others_only_with_keys(stack: Stack, tmp_path: Path) -> None:
    refused = Stack({**stack.env, "CLOISTER_BIND": "0.0.0.0"}, stack.page_url, stack.api_url)
    done = refused.run(ROOT / "scripts/up", "--docker", "--detach", check=False)
    assert done.returncode == 1 and "scripts/keys" in done.stderr
    with changed(stack, CLOISTER_BIND="0.0.0.0") as bare:
        for service in ("door", "api", "ui"):
            wait(lambda service=service: "scripts/keys" in bare.compose("logs", service).stdout, 60)
        assert get(f"{stack.page_url}/livez")[0] == 0
    secrets = tmp_path / "secrets"
    made = Stack({**stack.env, "CLOISTER_SECRETS": str(secrets)}, "", "").run(ROOT / "scripts/keys").stdout.splitlines()
    key, password = made[1].strip(), made[3].strip()
    assert key not in (secrets / "api_keys").read_text() and password not in (secrets / "page_password").read_text()
    with changed(stack, CLOISTER_BIND="0.0.0.0", CLOISTER_SECRETS=str(secrets)) as guarded:
        guarded.ready()
        wait(lambda: get(f"{stack.page_url}/livez")[0] == 200, 60)
        status, answer = get(f"{stack.api_url}/v1/models")
        assert status == 401 and json.loads(answer)["error"]["code"] == "invalid_api_key"
        assert get(f"{stack.api_url}/v1/models", headers={"Authorization": "Bearer cl-wrong"})[0] == 401
        assert get(f"{stack.api_url}/v1/models", headers={"Authorization": f"Bearer {key}"})[0] == 200
        assert get(f"{stack.page_url}/config")[0] == 401  # the page itself is there to log in
        dumps = guarded.compose("logs").stdout + guarded.compose("config").stdout
        dumps += "".join(json.dumps(guarded.inspect(service)) for service in ("api", "ui", "gateway", "door"))
        assert key not in dumps and password not in dumps and (secrets / "page_key").read_text() not in dumps
        assert enter(stack.page_url, "anyone", "wrong") == (401, 401)
        assert enter(stack.page_url, "anyone", password) == (200, 200)
        scripts = Stack({**stack.env, "CLOISTER_SECRETS": str(secrets)}, "", "")
        anna = scripts.run(ROOT / "scripts/keys", "password", "add", "anna").stdout.splitlines()[1].strip()
        wait(lambda: enter(stack.page_url, "anna", anna) == (200, 200), 30)  # the container sees the changed file
        assert enter(stack.page_url, "ben", anna)[1] == 401
        scripts.run(ROOT / "scripts/keys", "password", "remove", "anna")
        assert enter(stack.page_url, "anna", anna)[1] == 401
        everything = guarded.compose("logs").stdout + json.dumps([guarded.inspect(s) for s in ("api", "ui", "gateway", "door")])
        assert key not in everything and password not in everything and anna not in everything
    assert "23" in ask(stack.api_url)["content"]


@pytest.mark.parametrize(
    "setting, complaint",
    [
        ("GATEWAY_TLS_NAMES=a b{", "CLOISTER_TLS"),
        ("GATEWAY_TLS_NAMES=a.lan,10.0.0.1,10.0.0.2", "one address beside any number of host names; found 10.0.0.1, 10.0.0.2"),
        ("GATEWAY_SUBPATH=cloister", "CLOISTER_SUBPATH"),
        ("GATEWAY_PROXIED=1", "PROXIED"),
    ],
)
def test_wrong_settings_stop_the_gateway(stack: Stack, setting: str, complaint: str) -> None:
    done = stack.run("docker", "run", "--rm", "--network", "none", "--env", setting, stack.image("gateway"), check=False)
    assert done.returncode == 1 and complaint in done.stderr
