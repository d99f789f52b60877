"""A scripted API, the page in front of it, and a browser: for states that a real model shows rarely or too fast to see."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import ROOT, environment, free_port
from tests.ui.fake import FakeApi

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 60_000  # milliseconds: the machine may be busy
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def _fake() -> Iterator[FakeApi]:
    api = FakeApi()
    yield api
    api.close()


@pytest.fixture
def fake(_fake: FakeApi) -> FakeApi:
    """The scripted API, ready and without scripts."""
    _fake.reset()
    return _fake


def serve_page(api_url: str, home: Path, port: int = 0, **settings: object) -> tuple[subprocess.Popen[str], str]:
    """The real program, in front of that API; its log is home/ui.log."""
    port = port or free_port()
    env = environment(home, UI__PORT=port, UI__API=api_url, **settings)
    log = (home / "ui.log").open("a")
    process = subprocess.Popen([sys.executable, "-m", "services.ui"], cwd=ROOT, env=env, stdout=log, stderr=log, text=True)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(url + "/livez", trust_env=False).status_code == 200:
                return process, url
        except httpx.HTTPError:
            assert process.poll() is None, (home / "ui.log").read_text()
        time.sleep(0.1)
    raise AssertionError("the page did not start: " + (home / "ui.log").read_text())


@pytest.fixture(scope="session")
def scripted_page(_fake: FakeApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page in front of the scripted API."""
    process, url = serve_page(_fake.url, tmp_path_factory.mktemp("ui"))
    yield url
    process.terminate()
    process.wait(20)


@dataclass
class Visitor:
    """Somebody in front of a page, and every address that their browser asked for."""

    page: Page
    url: str
    requested: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    may_complain: bool = False  # where a test takes the server away

    def open(self) -> None:
        """Load the page. Chromium drops all connections whenever an interface of the machine comes or goes, such as a
        container's, which is nothing that the page did: then once more."""
        deadline = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < deadline:
            self.page.goto(self.url + "/")
            self.complaints.clear()
            while not self.network_changed() and time.monotonic() < deadline:
                if self.page.locator("#hello h1").is_visible():
                    return
                self.page.wait_for_timeout(50)
        raise AssertionError(f"the page does not come: {self.complaints}")

    def network_changed(self) -> bool:
        return any("ERR_NETWORK_CHANGED" in text for text in self.complaints)

    def reload(self) -> None:
        """As a person does it, whatever the page is at: what it was fetching is torn, and Gradio says so."""
        self.may_complain = True
        self.page.reload()

    def ask(self, question: str) -> None:
        """Type and send a question, and see it in the conversation."""
        before = self.page.locator("#chat .user-row").count()
        self.page.fill("#question textarea", question)
        self.page.press("#question textarea", "Enter")
        self.page.locator("#chat .user-row").nth(before).wait_for()

    def answered(self) -> None:
        """Wait until nothing is under way, and what is shown is what the browser keeps."""
        self.page.wait_for_function(
            """() => !cloister.talk.underWay && JSON.stringify(cloister.talk.path().map(turn => turn.question)) ===
                JSON.stringify([...document.querySelectorAll('#chat .typed')].map(shown => shown.textContent))""",
            timeout=3 * PATIENCE,
        )
        self.page.wait_for_selector("#send", state="visible", timeout=3 * PATIENCE)

    def sideways(self) -> int:
        """Pixels by which the page, or what scrolls in it, is wider than it should be."""
        return int(
            self.page.evaluate(
                """() => Math.max(0, ...[document.documentElement, ...document.querySelectorAll('#welcome, .bubble-wrap')]
                .map(box => box.scrollWidth - box.clientWidth))"""
            )
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the whole session: while Playwright runs, no test can have an event loop of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Visitors:
    """Opens pages, each in a browser profile of its own."""

    browser: Browser
    known: list[Visitor] = field(default_factory=list)

    def __call__(
        self,
        url: str,
        *,
        language: str = "en-US",
        width: int = 1280,
        height: int = 800,
        dark: bool = False,
        touch: bool = False,
        **more: Any,
    ) -> Visitor:
        context = self.browser.new_context(
            locale=language,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            has_touch=touch,
            is_mobile=touch,
            permissions=["clipboard-read", "clipboard-write"],
            **more,
        )
        context.set_default_timeout(PATIENCE)
        visitor = Visitor(context.new_page(), url)
        visitor.page.on("request", lambda request: visitor.requested.append(request.url))
        visitor.page.on("console", lambda m: visitor.complaints.append(m.text) if m.type == "error" else None)
        visitor.page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        self.known.append(visitor)
        visitor.open()
        return visitor


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visitors]:
    """Opens pages; afterwards, none of them may have asked for anything beyond its own origin, nor complained."""
    visitors = Visitors(browser)
    yield visitors
    for visitor in visitors.known:
        visitor.page.context.close()
        strangers = [url for url in visitor.requested if not url.startswith((visitor.url + "/", "data:", "blob:"))]
        assert strangers == []
        assert visitor.complaints == [] or visitor.may_complain or visitor.network_changed()
