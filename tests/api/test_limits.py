"""Limits of keys: what is refused when, what the headers say, and that it is counted for one key and not for another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from services.api.errors import RateLimited
from services.api.limits import Meter, Meters, duration
from services.shared.secret import Limits, Secrets, digest
from tests.api.scripted import Stand, Step, accepted, finished, hold, stand, tag, text, until

CHAT = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "q"}]}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_requests_a_minute_come_back_one_by_one() -> None:
    clock = Clock()
    meter = Meter(Limits(rpm=6), clock)
    for left in (5, 4, 3, 2, 1, 0):
        meter.admit()
        assert meter.headers()["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(RateLimited, match=r"6 requests a minute: try again in 10 s") as refusal:
        meter.admit()
    assert refusal.value.headers() == {"Retry-After": "10"}
    clock.now += 9.9
    with pytest.raises(RateLimited) as refusal:
        meter.admit()
    assert refusal.value.retry_after == 1
    clock.now += 0.2
    meter.admit()
    clock.now += 3600
    assert meter.headers() == {
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "6",
        "x-ratelimit-reset-requests": "0ms",
    }


def test_tokens_may_be_overdrawn_and_are_waited_for() -> None:
    clock = Clock()
    meter = Meter(Limits(tpm=600), clock)
    meter.admit()
    assert meter.tokens
    meter.tokens.take(900)
    assert meter.headers()["x-ratelimit-remaining-tokens"] == "0" and meter.headers()["x-ratelimit-reset-tokens"] == "1m30s"
    with pytest.raises(RateLimited, match="600 tokens a minute") as refusal:
        meter.admit()
    assert refusal.value.retry_after == 31
    clock.now += 31
    meter.admit()


def test_what_is_refused_is_not_counted() -> None:
    meter = Meter(Limits(rpm=10, concurrent=1), Clock())
    meter.running = 1
    with pytest.raises(RateLimited, match="1 requests answered at once"):
        meter.admit()
    assert meter.headers()["x-ratelimit-remaining-requests"] == "10"


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
