"""SIGTERM to the API: what is under way is finished, a balancer is told, and whoever can't be waited for hears of it in his dialect."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.apart import Apart, apart
from tests.api.reader import ASKED, CHAT, Reader
from tests.api.scripted import accepted, finished, hold, tag, text, until

DIALECTS: dict[str, dict[str, Any]] = {
    CHAT: ASKED,
    "/v1/completions": {"model": "scripted", "prompt": "q", "stream": True},
    "/v1/responses": {"model": "scripted", "input": "q", "stream": True},
    "/v1/messages": {**ASKED, "max_tokens": 100},
    "/api/chat": ASKED,
}


def slow(api: Apart, seconds: float) -> None:
    """From now on an answer takes so long."""
    api.engine.play(accepted(), tag("</think>"), text("first"), seconds, text("last"), finished())


def test_with_a_drain_all_that_comes_is_answered_and_a_balancer_is_told(tmp_path: Path) -> None:
    with apart(tmp_path, API__DRAIN=2, API__GRACE=60) as api:
        assert (api.says("/readyz/room"), api.says("/readyz")) == (200, 200)
        slow(api, 3)
        early = Reader(api.url)
        until(lambda: "first" in early.said)
        began = api.told(signal.SIGTERM)
        assert (api.says("/readyz/room"), api.says("/readyz"), api.says("/livez")) == (404, 404, 200)
        slow(api, 0.1)
        late = Reader(api.url)
        assert late.whole() and early.whole() and "last" in early.said
        assert api.process.wait(60) == -signal.SIGTERM
        assert time.monotonic() - began >= 2
        assert api.says("/livez") == 0


def test_a_drain_lasts_even_when_nobody_asks(tmp_path: Path) -> None:
    with apart(tmp_path, API__DRAIN=1, API__GRACE=60) as api:
        began = api.told(signal.SIGTERM)
        while api.says("/livez"):
            time.sleep(0.05)
        assert time.monotonic() - began >= 1


def test_without_a_drain_it_takes_nothing_new_and_is_gone_once_it_is_idle(tmp_path: Path) -> None:
    with apart(tmp_path, API__GRACE=60) as api:
        slow(api, 2)
        early = Reader(api.url)
        until(lambda: "first" in early.said)
        api.told(signal.SIGTERM)
        until(lambda: api.says("/livez") == 0)
        assert early.is_alive() and early.whole()
        api.process.wait(10)


AT_ONCE = {"late": (1, [signal.SIGTERM]), "twice": (600, [signal.SIGTERM, signal.SIGTERM]), "interrupted": (600, [signal.SIGINT])}


@pytest.mark.parametrize(("grace", "signals"), AT_ONCE.values(), ids=AT_ONCE)
def test_who_can_not_be_waited_for_is_told_so(tmp_path: Path, grace: int, signals: list[int]) -> None:
    with apart(tmp_path, API__GRACE=grace) as api:
        api.engine.play(accepted(), tag("</think>"), text("first"), hold)
        streams = {path: Reader(api.url, path, body) for path, body in DIALECTS.items()}
        until(lambda: all("first" in reader.said for reader in streams.values()))
        whole = Reader(api.url, CHAT, {**ASKED, "stream": False})
        until(lambda: api.engine.open == len(DIALECTS) + 1)
        api.told(*signals)
        api.process.wait(30)
        for path, reader in streams.items():
            reader.join(60)
            assert not reader.broken and END[path](reader.said), (path, reader.said)
        whole.join(60)
        assert whole.status == 503 and json.loads(whole.said)["error"]["code"] == "unavailable"


def last(said: str) -> dict[str, Any]:
    """The last event's data."""
    return dict(json.loads(said.strip().rpartition("data: ")[2]))


def openai(said: str) -> bool:
    error = last(said)["error"]
    return bool(error["code"] == "unavailable" and "ask again" in error["message"])


END: dict[str, Callable[[str], bool]] = {
    CHAT: openai,
    "/v1/completions": openai,
    "/v1/responses": lambda said: "ask again" in json.dumps(last(said)) and last(said)["type"] in ("error", "response.failed"),
    "/v1/messages": lambda said: last(said)["type"] == "error" and last(said)["error"]["type"] == "overloaded_error",
    "/api/chat": lambda said: "ask again" in json.loads(said.strip().splitlines()[-1])["error"],
}
