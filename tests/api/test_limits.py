"""Limits of keys: what is refused when, what the headers say, and that it is counted for one key and not for another."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import openai
import pytest

from services.api.errors import RateLimited
from services.api.meters import Meter, Meters, duration
from services.api.store import SharedMeter, Store
from services.shared.secret import Limits, Secrets, digest
from tests.api.counting import Counting, counting, needs_redis
from tests.api.scripted import Stand, Step, accepted, finished, hold, stand, tag, text, until

CHAT = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "q"}]}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Alone:
    """Limits as one process counts them."""

    def __init__(self) -> None:
        self.clock = Clock()

    @contextlib.asynccontextmanager
    async def meter(self, limits: Limits) -> AsyncIterator[Meter]:
        yield Meter(limits, self.clock)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds


class Together(Alone):
    """Limits as a store counts them, with a replica that asks it."""

    def __init__(self, there: Counting) -> None:
        super().__init__()
        self.there = there

    @contextlib.asynccontextmanager
    async def meter(self, limits: Limits) -> AsyncIterator[Meter]:
        store = Store(self.there.url)
        async with store.open():
            yield SharedMeter("anna", limits, store, self.clock)
        assert not store.away, "the store has counted"

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        self.there.pass_time(seconds)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counting]:
    with counting(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["alone", pytest.param("together", marks=needs_redis)])
def kind(request: pytest.FixtureRequest) -> Alone:
    if request.param == "alone":
        return Alone()
    server: Counting = request.getfixturevalue("there")
    server.client.flushall()
    return Together(server)


async def refused(meter: Meter, why: str) -> int:
    """Seconds after which it may be tried again."""
    with pytest.raises(RateLimited, match=why) as refusal:
        await meter.admit()
    wait = refusal.value.retry_after
    assert wait and refusal.value.headers() == {"Retry-After": str(wait)} and f"try again in {wait} s" in str(refusal.value)
    return wait


def test_requests_a_minute_come_back_one_by_one(kind: Alone) -> None:
    async def told() -> None:
        async with kind.meter(Limits(rpm=6)) as meter:
            for left in (5, 4, 3, 2, 1, 0):
                await meter.admit()
                assert meter.headers()["x-ratelimit-remaining-requests"] == str(left)
            assert await refused(meter, "6 requests a minute") in (9, 10)  # the store's clock goes on
            kind.pass_time(9)
            assert await refused(meter, "6 requests a minute") == 1
            kind.pass_time(1.2)
            await meter.admit()
            kind.pass_time(3600)
            await meter.look()
            assert meter.headers() == {
                "x-ratelimit-limit-requests": "6",
                "x-ratelimit-remaining-requests": "6",
                "x-ratelimit-reset-requests": "0ms",
            }

    asyncio.run(told())


def test_tokens_may_be_overdrawn_and_are_waited_for(kind: Alone) -> None:
    async def told() -> None:
        async with kind.meter(Limits(tpm=600)) as meter:
            lease = await meter.admit()
            meter.spend(900)
            assert meter.headers()["x-ratelimit-remaining-tokens"] == "0" and meter.headers()["x-ratelimit-reset-tokens"] == "1m30s"
            await meter.release(lease)
            assert await refused(meter, "600 tokens a minute") in (30, 31)
            kind.pass_time(28)
            await refused(meter, "600 tokens a minute")
            kind.pass_time(3)
            await meter.admit()

    asyncio.run(told())


def test_requests_at_once_and_what_is_refused_is_not_counted(kind: Alone) -> None:
    async def told() -> None:
        async with kind.meter(Limits(rpm=10, concurrent=2)) as meter:
            first, _ = await meter.admit(), await meter.admit()
            assert await refused(meter, "2 requests answered at once") == 1
            assert meter.headers()["x-ratelimit-remaining-requests"] == "8"
            await meter.release(first)
            await meter.release(first)
            await meter.admit()
            await refused(meter, "2 requests answered at once")

    asyncio.run(told())


def test_new_limits_begin_afresh_and_gone_ones_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    line = f"anna {digest('cl-a').hex()}"
    file.write_text(f"{line} rpm=1")
    secrets = Secrets(file)
    meters = Meters(secrets)
    first = meters.of("anna")
    assert first and meters.of("anna") is first and meters.of("ben") is None
    file.write_text(f"{line} rpm=20")
    secrets.refresh()
    second = meters.of("anna")
    assert second and second is not first and second.requests and second.requests.size == 20
    file.write_text(line)
    secrets.refresh()
    assert meters.of("anna") is None
    meters.spend("anna", 5)


@pytest.mark.parametrize(
    ("seconds", "written"), [(0, "0ms"), (0.0301, "31ms"), (1, "1s"), (6.54, "6.5s"), (59.99, "1m0s"), (90, "1m30s"), (3600, "60m0s")]
)
def test_durations_as_openai_writes_them(seconds: float, written: str) -> None:
    assert duration(seconds) == written


# --- over HTTP ---


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """An API with keys: `free` has no limits, the others one each."""
    home = tmp_path_factory.mktemp("limits")
    keys = {"free": "", "rpm": " rpm=2", "tpm": " tpm=10", "two": " concurrent=2", "slow": " tpm=120", "wide": " rpm=500 tpm=9000"}
    (home / "keys").write_text("".join(f"{name} {digest('cl-' + name).hex()}{limits}\n" for name, limits in keys.items()))
    with stand(home, API__KEYS=home / "keys") as standing:
        standing.engine.answer("Hello")
        yield standing


def ask(api: Stand, key: str, **fields: object) -> httpx.Response:
    return httpx.post(api.url + CHAT, json={**QUESTION, **fields}, headers={"X-API-Key": f"cl-{key}"}, timeout=60)


def test_the_third_of_two_requests_a_minute(guarded: Stand) -> None:
    assert [ask(guarded, "rpm", stream=stream).status_code for stream in (False, True)] == [200, 200]
    refused = ask(guarded, "rpm")
    assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 30
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded") and "2 requests a minute" in error["message"]
    assert refused.headers["x-ratelimit-limit-requests"] == "2" and refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert re.fullmatch(r"(\d+m)?[\d.]+m?s", refused.headers["x-ratelimit-reset-requests"])
    with pytest.raises(openai.RateLimitError):
        openai.OpenAI(base_url=guarded.url + "/v1", api_key="cl-rpm", max_retries=0).chat.completions.create(model="", messages=[])
    for _ in range(5):  # reading is free, and another key is another key
        models = httpx.get(guarded.url + "/v1/models", headers={"X-API-Key": "cl-rpm"})
        assert models.status_code == 200 and models.headers["x-ratelimit-limit-requests"] == "2"
    plain = ask(guarded, "free")
    assert plain.status_code == 200 and not [name for name in plain.headers if "ratelimit" in name]


def test_tokens_of_prompt_and_answer_are_counted(guarded: Stand) -> None:
    """The scripted answer has 7 and 5 tokens, two more than the key may use a minute."""
    assert ask(guarded, "tpm").status_code == 200
    refused = ask(guarded, "tpm")
    assert refused.status_code == 429 and "10 tokens a minute" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) >= 6
    first = int(ask(guarded, "slow").headers["x-ratelimit-remaining-tokens"])
    assert first == 120 - 12, "what a whole answer used is known when it is sent"
    ask(guarded, "slow", stream=True)
    assert int(ask(guarded, "slow").headers["x-ratelimit-remaining-tokens"]) <= 120 - 36 + 10  # 2 come back each second


def test_an_answer_that_is_broken_off_counts_as_far_as_it_came(guarded: Stand) -> None:
    before = int(ask(guarded, "wide").headers["x-ratelimit-remaining-tokens"])
    script: list[Step | list[Step]] = [accepted(1000), tag("</think>"), text("a"), lambda name: _delta(name, 500), hold]
    guarded.engine.play(*script)
    headers = {"X-API-Key": "cl-wide"}
    with httpx.stream("POST", guarded.url + CHAT, json={**QUESTION, "stream": True}, headers=headers, timeout=60) as response:
        next(line for line in response.iter_lines() if "so far" in line)
    until(lambda: guarded.engine.cancelled)
    guarded.engine.answer("Hello")
    after = int(ask(guarded, "wide").headers["x-ratelimit-remaining-tokens"])
    assert 1000 < before - after <= 1512


def _delta(name: str, tokens: int) -> object:
    from services.shared import wire

    return wire.Delta(name, "so far", False, tokens)


def test_requests_at_once(guarded: Stand) -> None:
    guarded.engine.play(accepted(), tag("</think>"), text("a"), hold)
    headers = {"X-API-Key": "cl-two"}
    body = {**QUESTION, "stream": True}
    with (
        httpx.stream("POST", guarded.url + CHAT, json=body, headers=headers, timeout=60) as one,
        httpx.stream("POST", guarded.url + CHAT, json=body, headers=headers, timeout=60) as two,
    ):
        assert (one.status_code, two.status_code) == (200, 200)
        refused = ask(guarded, "two")
        assert refused.status_code == 429 and "2 requests answered at once" in refused.json()["error"]["message"]
        assert refused.headers["retry-after"] == "1"
        guarded.engine.play(accepted(), tag("</think>"), text("a"), finished())
        assert ask(guarded, "free").status_code == 200
    until(lambda: ask(guarded, "two").status_code == 200)


def test_the_waiting_line_knows_the_keys_name(guarded: Stand) -> None:
    guarded.engine.answer("Hello")
    ask(guarded, "free", user="u")
    assert guarded.engine.requests[-1].user.startswith("free/")
