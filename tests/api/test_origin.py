"""By which names the API is called, and whose pages may call it."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from services.shared.secret import digest
from tests.api.scripted import Stand, stand

QUESTION = '{"messages": [{"role": "user", "content": "q"}]}'


def status(api: Stand, path: str = "/v1/models", **headers: str) -> int:
    return httpx.get(api.url + path, headers=headers).status_code


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:1", "LocalHost", "[::1]:8000", "192.168.1.20:8000", "api:8000", "gateway", "door:8000"]
)
def test_names_that_are_known_without_asking(api: Stand, host: str) -> None:
    assert status(api, Host=host) == 200 and status(api, "/readyz", Host=host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "1.2.3", "[::1", "@"]
)
def test_a_name_that_is_not_known_is_refused_and_says_what_to_do(api: Stand, host: str) -> None:
    refused = httpx.get(api.url + "/v1/models", headers={"Host": host})
    assert refused.status_code == 403 and "x-request-id" in refused.headers
    error = refused.json()["error"]
    assert error["code"] == "host_not_allowed" and "[api] hosts" in error["message"] and "CLOISTER_API__HOSTS" in error["message"]


def test_a_request_without_a_name_is_refused(api: Stand) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.0\r\n\r\n")
        assert b" 403 " in connection.recv(1000)


def test_names_and_origins_of_the_settings(tmp_path: Path) -> None:
    settings = {"API__HOSTS": "ai.example, cloister.home.arpa", "API__ORIGINS": "https://chat.example"}
    with stand(tmp_path, **settings) as api:
        assert [status(api, Host=host) for host in ("AI.example:443", "cloister.home.arpa", "evil.example")] == [200, 200, 403]
        mine = {"Host": "ai.example", "Origin": "https://ai.example"}  # a proxy gives the page TLS
        assert status(api, **mine) == 200 and status(api, Origin="https://ai.example") == 200
        asked = {
            "Origin": "https://chat.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        preflight = httpx.options(api.url + "/v1/chat/completions", headers=asked)
        assert preflight.status_code == 200 and preflight.headers["access-control-allow-origin"] == "https://chat.example"
        assert (
            preflight.headers["access-control-allow-headers"] == "authorization"
            and "POST" in preflight.headers["access-control-allow-methods"]
        )
        answer = httpx.get(api.url + "/v1/models", headers={"Origin": "https://chat.example"})
        assert answer.headers["access-control-allow-origin"] == "https://chat.example"
        assert "x-ratelimit-remaining-tokens" in answer.headers["access-control-expose-headers"].lower()
        wrong = httpx.options(api.url + "/v1/models", headers={**asked, "Origin": "https://evil.example"})
        assert wrong.status_code == 403 and "access-control-allow-origin" not in wrong.headers


def test_with_keys_any_name_will_do_but_not_any_page(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"anna {digest('cl-a').hex()}\n")
    with stand(tmp_path, API__KEYS=tmp_path / "keys") as api:
        assert status(api, Host="house.lan:8000") == 401
        assert status(api, **{"Host": "house.lan:8000", "X-API-Key": "cl-a"}) == 200
        assert status(api, **{"Host": "house.lan", "X-API-Key": "cl-a", "Origin": "https://evil.example"}) == 403
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        assert httpx.options(api.url + "/v1/models", headers=asked).status_code == 403


def test_all_origins(tmp_path: Path) -> None:
    with stand(tmp_path, API__ORIGINS="*") as api:
        answer = httpx.get(api.url + "/v1/models", headers={"Origin": "https://anything.example"})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null", "http://localhost", "file://", "http://["])
def test_pages_of_others_are_refused(api: Stand, origin: str) -> None:
    refused = httpx.post(api.url + "/v1/chat/completions", content=QUESTION, headers={"Origin": origin, "Content-Type": "text/plain"})
    assert refused.status_code == 403 and refused.json()["error"]["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in refused.headers and api.engine.requests == []


def test_its_own_page_is_not_another_one(api: Stand) -> None:
    assert status(api, Origin=api.url) == 200


def test_a_browser_that_is_sent_here_by_a_name_of_somebody_else(api: Stand, browser: Browser) -> None:
    """DNS rebinding: evil.example points to 127.0.0.1, so its page is of the same origin as what it asks."""
    page = browser.new_page()
    response = page.goto(f"http://evil.example:{api.port}/v1/status")
    assert response and response.status == 403
    asked = page.evaluate("body => fetch('/v1/chat/completions', {method: 'POST', body}).then(r => r.status)", QUESTION)
    assert asked == 403 and api.engine.requests == []
    page.close()
