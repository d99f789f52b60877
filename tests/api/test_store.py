"""Limits of keys over two replicas together: two real processes of the API, an engine each, and a real Redis that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.api.app import create_app
from services.api.store import Store
from services.shared import settings
from services.shared.secret import Limits, digest
from services.shared.settings import SettingsError
from tests.api.counting import Counting, counting, needs_redis
from tests.api.scripted import PATIENCE, ScriptedEngine, Stand, accepted, finished, hold, tag, text, until
from tests.conftest import ROOT, environment

pytestmark = needs_redis
CHAT = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "a secret question"}]}
KEYS = {"rpm": "rpm=4", "tpm": "tpm=10", "two": "concurrent=2", "killed": "concurrent=2", "away": "rpm=4", "slow": "rpm=2"}
KEYS |= {"wide": "rpm=900 tpm=90000 concurrent=9"}


class Replica:
    """A process of the API, and its engine in this one."""

    def __init__(self, home: Path, there: Counting, keys: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = {"API__KEYS": keys, "API__STORE": there.url}
        self._files = Stand(home, **self._settings)  # not started: it only lays the model out
        self.url, self.log = self._files.url, home / "log.txt"
        self.engine = ScriptedEngine(self._files.config.paths.socket, self._files.model)
        self.engine.answer("Hello")
        asyncio.run_coroutine_threadsafe(self.engine.start(), loop).result(PATIENCE)
        self.start()

    def start(self) -> None:
        env = environment(self._files.home, API__PORT=self._files.port, **self._settings)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "services.api"], cwd=ROOT, env=env, stderr=log)

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.url + "/readyz", timeout=60).status_code == 200
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def ask(self, key: str) -> httpx.Response:
        return httpx.post(self.url + CHAT, json=QUESTION, headers={"X-API-Key": f"cl-{key}"}, timeout=60)

    def look(self, key: str) -> httpx.Headers:
        return httpx.get(self.url + "/v1/models", headers={"X-API-Key": f"cl-{key}"}, timeout=60).headers

    def stream(self, key: str) -> Any:
        headers = {"X-API-Key": f"cl-{key}"}
        return httpx.stream("POST", self.url + CHAT, json={**QUESTION, "stream": True}, headers=headers, timeout=60)

    def hold(self) -> None:
        """Answers begin, and don't end."""
        self.engine.play(accepted(), tag("</think>"), text("a"), hold)

    def said(self, what: str) -> int:
        return self.log.read_text().count(what)


class Pair:
    def __init__(self, there: Counting, one: Replica, two: Replica) -> None:
        self.there, self.one, self.two = there, one, two

    def both(self) -> tuple[Replica, Replica]:
        return self.one, self.two


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("pair")
    (home / "keys").write_text("".join(f"{name} {digest('cl-' + name).hex()} {limits}\n" for name, limits in KEYS.items()))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with counting(home) as there:
        found = Pair(there, *(Replica(home / name, there, home / "keys", loop) for name in ("one", "two")))
        try:
            yield found
        finally:
            for replica in found.both():
                replica.kill()
                asyncio.run_coroutine_threadsafe(replica.engine.stop(), loop).result(PATIENCE)
                until(lambda replica=replica: not replica.engine.open)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(PATIENCE)
            loop.close()


@pytest.fixture
def pair(started: Pair) -> Pair:
    for replica in started.both():
        if replica.process.poll() is not None:
            replica.start()
        replica.engine.answer("Hello")
        until(replica.ready)
    return started


def test_requests_a_minute_hold_over_both(pair: Pair) -> None:
    left = [replica.ask("rpm").headers["x-ratelimit-remaining-requests"] for replica in (pair.one, pair.two, pair.one, pair.two)]
    assert left == ["3", "2", "1", "0"]
    for replica in pair.both():
        refused = replica.ask("rpm")
        assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 15


def test_tokens_a_minute_hold_over_both(pair: Pair) -> None:
    """The scripted answer has 12 tokens, more than the key may use a minute."""
    assert pair.one.ask("tpm").status_code == 200
    refused = pair.two.ask("tpm")
    assert refused.status_code == 429 and "10 tokens a minute" in refused.json()["error"]["message"]
    assert pair.two.look("tpm")["x-ratelimit-remaining-tokens"] == "0", "reading knows of the other one too"


def test_requests_at_once_hold_over_both(pair: Pair) -> None:
    for replica in pair.both():
        replica.hold()
    with pair.one.stream("two") as one:
        with pair.two.stream("two") as two:
            assert (one.status_code, two.status_code) == (200, 200)
            for replica in pair.both():
                refused = replica.ask("two")
                assert refused.status_code == 429 and "2 requests answered at once" in refused.json()["error"]["message"]
            (name,) = [name for name in pair.there.client.scan_iter("*:running") if pair.there.client.zcard(name) == 2]
            ends = dict(pair.there.client.zrange(name, 0, -1, withscores=True))
            until(lambda: all(end > ends[lease] for lease, end in pair.there.client.zrange(name, 0, -1, withscores=True)))  # renewed
        for replica in pair.both():
            replica.engine.play(accepted(), tag("</think>"), text("a"), finished())
        until(lambda: pair.one.ask("two").status_code == 200)
        assert pair.two.ask("two").status_code == 200, "the whole answer of the other one is over before its last byte"


def test_without_the_store_each_counts_for_itself_and_nothing_fails(pair: Pair) -> None:
    before = [replica.said("is away") for replica in pair.both()]
    assert pair.one.ask("away").headers["x-ratelimit-remaining-requests"] == "3"
    pair.there.kill()
    alone = [replica.ask("away") for _ in range(2) for replica in pair.both()]
    assert [answer.status_code for answer in alone] == [200] * 4
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in alone] == ["2", "3", "1", "2"]
    assert [replica.said("is away") for replica in pair.both()] == [count + 1 for count in before], "said once"
    pair.there.start()
    for replica in pair.both():
        until(lambda replica=replica: replica.said("is back") == replica.said("is away"))
    left = [replica.ask("away").headers["x-ratelimit-remaining-requests"] for replica in pair.both()]
    assert left == ["3", "2"], "it knew of nothing, and counts for both again"


def test_a_store_that_hangs_is_waited_for_once(pair: Pair) -> None:
    pair.one.ask("slow")
    pair.there.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert [pair.one.ask(key).status_code for key in ("slow", *["wide"] * 7)] == [200] * 8
        assert time.monotonic() - began < 12, "not four seconds each"
        assert pair.one.ask("slow").status_code == 429, "it had known of the first one"
    finally:
        pair.there.signal(signal.SIGCONT)
    until(lambda: pair.one.said("is back") == pair.one.said("is away"))


def test_the_store_has_no_names_and_no_texts(pair: Pair) -> None:
    pair.one.ask("wide")
    client = pair.there.client
    names = list(client.scan_iter("*"))
    assert names and all(re.fullmatch(r"cloister:([0-9a-f]{32}|trial):(levels|running)", name) for name in names)
    for name in names:
        assert client.pttl(name) > 0, "everything goes away by itself"
        fields = client.hgetall(name) if name.endswith("levels") else dict(client.zrange(name, 0, -1, withscores=True))
        assert all(re.fullmatch(r"requests|tokens|at|trial|[0-9a-f]{16}", field) for field in fields)
        assert all(re.fullmatch(r"-?[\d.]+", str(value)) for value in fields.values())


def test_what_a_killed_replica_answered_is_free_again_within_seconds(pair: Pair) -> None:
    pair.one.hold()
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            assert stack.enter_context(pair.one.stream("killed")).status_code == 200
        assert pair.two.ask("killed").status_code == 429
        pair.one.kill()
        began = time.monotonic()
        until(lambda: pair.two.ask("killed").status_code == 200)
        assert time.monotonic() - began < 10


def test_connections_to_a_node_that_fell_silent_are_not_tried_one_after_the_other(started: Pair) -> None:
    """The store's node is gone and it runs on another one: nothing answers on what was open, whoever connects anew is answered."""
    silent, opened = asyncio.Event(), 0

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, old: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if not (old and silent.is_set()):
                    writer.write(data)
        writer.close()

    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        onward = await asyncio.open_connection("127.0.0.1", started.there.port)
        old = not silent.is_set()
        await asyncio.gather(passed(reader, onward[1], old), passed(onward[0], writer, old))

    async def told() -> None:
        proxy = await asyncio.start_server(taken, "127.0.0.1", 0)
        store = Store(f"redis://127.0.0.1:{proxy.sockets[0].getsockname()[1]}?socket_timeout=4")
        meter = store.meter("wide", Limits(rpm=9000, concurrent=900))
        async with proxy, store.open():
            await asyncio.gather(*(meter.admit() for _ in range(20)))
            assert not store.away and opened > 2
            silent.set()
            await meter.admit()
            assert store.away
            async with asyncio.timeout(PATIENCE):
                while store.away:
                    await asyncio.sleep(0.01)
            await asyncio.gather(*(meter.admit() for _ in range(20)))
            assert not store.away

    asyncio.run(told())


def test_one_machine_has_no_use_for_it(tmp_path: Path) -> None:
    look = "import os, sys; from services.shared import settings; from services.api.app import create_app; "
    look += "create_app(settings.load(os.environ)); sys.exit('redis' in sys.modules)"
    subprocess.run([sys.executable, "-c", look], cwd=ROOT, env=environment(tmp_path), check=True, timeout=60)


def test_an_address_that_is_none_stops_the_start(tmp_path: Path) -> None:
    config = settings.load(environment(tmp_path, API__STORE="http://:word@store"))
    with pytest.raises(SettingsError, match=r"^\[api\] store must be an address such as redis://store:6379$"):
        create_app(config)
