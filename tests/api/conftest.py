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

# A template in Qwen's manner: it knows tools, and leaves it to the model to think unless that is switched off.
TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools:{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n"
    'Call them: <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\n{% endif %}'
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}<tool_call>"
    "{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)


def fresh(standing: Stand) -> Stand:
    """The same with an engine that remembers nothing of earlier tests."""
    standing.engine.requests.clear()
    standing.engine.cancelled.clear()
    standing.engine.answer("Hello", " there")
    standing.engine.observes = True
    return standing


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with stand(tmp_path_factory.mktemp("api")) as standing:
        yield standing


@pytest.fixture
def api(shared: Stand) -> Stand:
    """The API with a ready engine."""
    return fresh(shared)


@pytest.fixture(scope="module")
def shared_tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with stand(tmp_path_factory.mktemp("tools"), engine=False) as standing:
        standing.prepare(TOOL_TEMPLATE)
        standing.engine_up()
        yield standing


@pytest.fixture
def tooled(shared_tools: Stand) -> Stand:
    """The same with a model that calls tools."""
    return fresh(shared_tools)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for which evil.example is this machine."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield running
        running.close()
