"""By which names the page opens, and that no other page may use it: with the real program, and a browser that is led astray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import sync_playwright

from services.shared.secret import digest
from tests.ui.conftest import CHROMIUM, FLAGS, serve_page
from tests.ui.fake import FakeApi


def ask(url: str, path: str = "/config", **headers: str) -> httpx.Response:
    return httpx.get(url + path, headers=headers, trust_env=False)


@pytest.mark.parametrize("host", ["localhost:1", "LocalHost", "[::1]:7860", "192.168.1.20:7860", "ui:7860", "gateway", "door:7860"])
def test_names_that_are_known_without_asking(scripted_page: str, host: str) -> None:
    assert ask(scripted_page, Host=host).status_code == 200


@pytest.mark.parametrize("path", ["/", "/config", "/livez", "/look/page.css", "/nothing"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:7860", "[::1"])
def test_a_name_that_is_not_known_is_refused_and_says_what_to_do(scripted_page: str, path: str, host: str) -> None:
    refused = ask(scripted_page, path, Host=host)
    assert refused.status_code == 403 and refused.headers["content-type"].startswith("text/plain")
    assert "[api] hosts" in refused.text and "CLOISTER_API__HOSTS" in refused.text and refused.text.count("\n") == 1
    assert host.partition(":7860")[0] in refused.text or host == "[::1"


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null", "http://localhost"])
def test_pages_of_others_are_refused(scripted_page: str, origin: str) -> None:
    """Also where a browser asks nobody first: a form, or a text."""
    body = '{"session_hash": "a", "fn_index": 0, "data": []}'
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    refused = httpx.post(scripted_page + "/gradio_api/queue/join", content=body, headers=headers, trust_env=False)
    assert refused.status_code == 403 and "CLOISTER_API__HOSTS" in refused.text


def test_its_own_page_behind_whatever_proxy(scripted_page: str) -> None:
    assert ask(scripted_page, Origin=scripted_page).status_code == 200
    assert ask(scripted_page, Origin="https://127.0.0.1:8443", Host="127.0.0.1:8443").status_code == 200  # TLS
    forwarded = {"Origin": "https://ai.example", "X-Forwarded-Host": "ai.example"}
    assert ask(scripted_page, **forwarded).status_code == 200  # a proxy that changes Host, and the gateway believes it


@pytest.fixture(scope="module")
def named_page(_fake: FakeApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process, url = serve_page(
        _fake.url, tmp_path_factory.mktemp("named"), API__HOSTS=",cloister.home.arpa,ai.example", UI__PATH="/cloister"
    )
    yield url
    process.terminate()
    process.wait(20)


def test_names_of_the_settings_below_a_path(named_page: str) -> None:
    for host in ("AI.example", "cloister.home.arpa:7860"):
        assert ask(named_page, Host=host).status_code == 200
        assert ask(named_page, Host=host, Origin=f"https://{host.lower()}").status_code == 200
    assert ask(named_page, Origin="https://ai.example").status_code == 200
    assert ask(named_page, Host="evil.example").status_code == 403


def test_with_a_password_any_name_will_do_but_not_any_page(_fake: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"page {digest('secret').hex()}\n")
    process, url = serve_page(_fake.url, tmp_path, UI__PASSWORD=tmp_path / "password")
    try:
        assert ask(url, Host="house.lan").status_code == 401  # it is asked for
        assert ask(url, Host="house.lan", Origin="https://evil.example").status_code == 403
        form = {"name": "anyone", "password": "secret"}
        entered = httpx.post(url + "/login", data=form, headers={"Host": "house.lan", "Origin": "http://house.lan"}, trust_env=False)
        assert entered.status_code == 303
    finally:
        process.terminate()
        process.wait(20)


def test_a_browser_that_is_sent_here_by_a_name_of_somebody_else(scripted_page: str) -> None:
    """DNS rebinding: evil.example points to 127.0.0.1, so its page is of the same origin as what it asks."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--host-resolver-rules=MAP evil.example 127.0.0.1"])
        page = browser.new_page()
        response = page.goto(scripted_page.replace("127.0.0.1", "evil.example"))
        assert response and response.status == 403 and "CLOISTER_API__HOSTS=evil.example" in page.inner_text("body")
        asked = page.evaluate("fetch('/gradio_api/queue/join', {method: 'POST', body: '{}'}).then(r => r.status)")
        assert asked == 403
        browser.close()
