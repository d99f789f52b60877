"""/docs: a page that works in a browser, asks nobody but this API, and is open where the rest needs a key."""

from __future__ import annotations

from pathlib import Path

import httpx
from playwright.sync_api import Browser

from services.shared.secret import digest
from tests.api.scripted import Stand, stand


def test_the_documentation_asks_nobody_else(api: Stand, browser: Browser) -> None:
    page = browser.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(api.url + "/docs")
    page.locator("#operations-tag-default, .opblock").first.wait_for(timeout=60_000)
    assert page.get_by_text("/v1/chat/completions").count() >= 1
    page.locator(".opblock", has_text="/v1/models").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.locator(".responses-table.live-responses-table").wait_for(timeout=60_000)
    assert "scripted" in page.locator(".live-responses-table").inner_text()
    assert len(asked) >= 5 and [url for url in asked if not url.startswith((api.url, "data:"))] == []
    assert complaints == []
    page.close()


def test_the_documentation_is_open_and_its_policy_strict(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"anna {digest('cl-a').hex()}\n")
    with stand(tmp_path, engine=False, API__KEYS=tmp_path / "keys") as api:
        page = httpx.get(api.url + "/docs")
        policy = page.headers["content-security-policy"]
        assert page.status_code == 200 and "default-src 'none'" in policy and "script-src 'self';" in policy and "http" not in policy
        document = httpx.get(api.url + "/docs/openapi.json").json()
        assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
        assert httpx.get(api.url + "/openapi.json").status_code == 401
        for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png", "start.js"):
            assert httpx.get(f"{api.url}/docs/{name}").status_code == 200
        for name in ("..%2fapp.py", "%2e%2e", "redoc.standalone.js"):
            assert httpx.get(f"{api.url}/docs/{name}").status_code == 404
