"""The API in front of a scripted engine, one for each test file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.api.scripted import Stand, stand

CHROMIUM = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP evil.example 127.0.0.1"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with stand(tmp_path_factory.mktemp("api")) as standing:
        yield standing


@pytest.fixture
def api(shared: Stand) -> Stand:
    """The API with a ready engine that remembers nothing of earlier tests."""
    shared.engine.requests.clear()
    shared.engine.cancelled.clear()
    shared.engine.answer("Hello", " there")
    shared.engine.observes = True
    return shared


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for which evil.example is this machine."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield running
        running.close()
