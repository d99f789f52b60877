"""What is wrong with what runs, made to be so: programs, the API's state, what people ran into, speed, walls. And a whole appliance."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scripts.diagnosis import cpu, memory, ports, programs, speed, usage, walls
from scripts.diagnosis.scene import Scene
from services.shared.secret import digest
from services.ui.told import Told
from tests.api.scripted import Stand, accepted, finished, stand, tag, text
from tests.api.scripted import failed as engine_failed
from tests.conftest import Cloister, free_port
from tests.doctor.conftest import Visit, one, rewrite, scene, visit
from tests.ui import fake
from tests.ui.conftest import serve_page
from tests.ui.fake import FakeApi

CHAT = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "鸡兔同笼"}]}
RUNNING = dict.fromkeys(("engine", "api", "ui"), "RUNNING")


@pytest.fixture
def api() -> Iterator[FakeApi]:
    api = FakeApi()
    yield api
    api.close()


def native(home: Path, url: str, **config: object) -> Scene:
    """A scene in which supervisor's programs run, and the API is at that address."""
    there = scene(home, UI__API=url, **config)
    there.mode, there.programs = "native", dict(RUNNING)
    return there


def docker(home: Path, **facts: object) -> Scene:
    """A scene in which the stack runs, as seen from inside of its containers."""
    there = scene(home)
    states = {**dict.fromkeys(("api", "ui", "gateway", "door"), "running healthy"), "init": "exited 0"}
    there.mode, there.programs, there.seen = "docker", states, {"facts": Told(facts), "api": Told({"status": fake.rich()})}
    return there


def visit_running(cloister: Cloister, *options: str) -> Visit:
    return visit(cloister.home, *options, env=cloister.env)


def test_a_whole_appliance(cloister: Cloister) -> None:
    seen = visit_running(cloister)
    assert seen.code == 0, seen.findings
    seen.found("ok", "running", "engine, api, ui run under supervisor")
    seen.found("ok", "running", "a model is loaded and answers")
    for section in ("ui", "api"):
        seen.found("ok", "ports", f"[{section}] answers on port")
    seen.found("ok", "memory", "the engine holds")
    seen.found("ok", "model", "every byte")
    seen.found("ok", "text", "Chinese, emoji and code come back")
    assert [item for item in seen.findings if item.topic == "speed" and "the engine writes" in item.found], seen.findings
    assert not [item for item in seen.findings if item.level == "skip"], seen.findings


def test_what_people_ran_into_on_a_whole_appliance(cloister: Cloister) -> None:
    def ask(**fields: object) -> httpx.Response:
        return httpx.post(cloister.api_url + CHAT, json={**QUESTION, **fields}, timeout=120, trust_env=False)

    assert ask(messages=[{"role": "user", "content": "鸡兔同笼 " * 3000}]).json()["error"]["code"] == "context_length_exceeded"
    for _ in range(20):
        assert ask(max_tokens=3).json()["choices"][0]["finish_reason"] == "length"
    refused = httpx.get(cloister.api_url + "/v1/models", headers={"Host": "chat.example"}, trust_env=False)
    assert refused.json()["error"]["code"] == "host_not_allowed"
    seen = visit_running(cloister, "--quick")
    assert seen.code == 0
    assert "CLOISTER_ENGINE__CONTEXT" in seen.found("warn", "usage", "did not fit into 4096 tokens", "context_length_exceeded").todo
    assert "max_tokens" in seen.found("warn", "usage", "ended in mid-sentence").todo
    assert "CLOISTER_API__HOSTS" in seen.found("warn", "usage", "403 host_not_allowed").todo


def test_answers_that_went_round_in_circles_and_limits(tmp_path: Path) -> None:
    keys = tmp_path / "api_keys"
    keys.write_text(f"page {digest('cl-page').hex()} rpm=3\n")
    (tmp_path / "page_key").write_text("cl-page")
    with stand(tmp_path, API__KEYS=keys) as api:
        there = native(tmp_path, api.url, UI__KEY=tmp_path / "page_key")
        one(usage.examine(there), "ok", "usage", "0 answers")
        _ask(api, accepted(), tag("</think>"), text("鸡兔"), finished("loop"))
        _ask(api, engine_failed("overloaded", retry_after=1))
        _ask(api, accepted(), tag("</think>"), text("鸡兔"), finished())
        assert _ask(api, accepted(), finished()) == 429
        assert httpx.get(api.url + "/v1/models", trust_env=False).status_code == 401
        there.seen.clear()
        found = usage.examine(there)
    assert "repeat_penalty" in one(found, "warn", "usage", "1 of 2 answers repeated themselves").todo
    assert "QUEUE" in one(found, "warn", "usage", "1 requests found the line full").todo
    assert "scripts/keys" in one(found, "warn", "usage", "1 requests were beyond their key's limits (429)").todo
    one(found, "warn", "usage", "1 requests had no known API key")


def _ask(api: Stand, *steps: object) -> int:
    api.engine.play(*steps)  # type: ignore[arg-type]
    return httpx.post(api.url + CHAT, json=QUESTION, headers={"Authorization": "Bearer cl-page"}, timeout=60, trust_env=False).status_code


def test_logins_that_were_refused(api: FakeApi, tmp_path: Path) -> None:
    passwords = tmp_path / "page_password"
    passwords.write_text(f"page {digest('right').hex()}\n")
    process, url = serve_page(api.url, tmp_path, UI__PASSWORD=passwords)
    try:
        origin = {"Origin": url}
        said = [httpx.post(url + "/login", data={"name": "ann", "password": "wrong"}, headers=origin, trust_env=False) for _ in range(8)]
        codes = [answer.status_code for answer in said]
        assert codes[-1] == 429 and codes.count(401) >= 6, codes
    finally:
        process.terminate()
        process.wait(20)
    there = native(tmp_path, api.url, PATHS__LOGS=tmp_path)
    assert (
        "scripts/keys password"
        in one(usage.examine(there), "warn", "usage", f"{codes.count(401)} logins were refused", "says to wait").todo
    )
    there.now += 2 * 24 * 3600
    one(usage.examine(there), "ok", "usage")


def test_an_api_that_is_loading(api: FakeApi, tmp_path: Path) -> None:
    api.status = fake.LOADING
    one(programs.examine(native(tmp_path, api.url)), "warn", "running", "503 with Retry-After")
    api.status = fake.preparing("fetch", 1, 2)
    one(programs.examine(native(tmp_path, api.url)), "warn", "running", "being prepared")


def test_an_api_without_a_model(api: FakeApi, tmp_path: Path) -> None:
    api.status = fake.failed("the disk said no")
    one(programs.examine(native(tmp_path, api.url)), "BAD", "running", "the disk said no")


def test_no_api_and_a_key_that_is_not_accepted(tmp_path: Path) -> None:
    one(programs.examine(native(tmp_path, f"http://127.0.0.1:{free_port()}")), "BAD", "running", "the API does not answer")
    keys = tmp_path / "api_keys"
    keys.write_text(f"page {digest('cl-page').hex()}\n")
    with stand(tmp_path, API__KEYS=keys) as api:
        one(programs.examine(native(tmp_path, api.url)), "BAD", "running", "does not accept the page's own key")


def test_programs_that_do_not_run(api: FakeApi, tmp_path: Path) -> None:
    there = native(tmp_path, api.url)
    there.programs |= {"engine": "FATAL", "ui": "STARTING"}
    (tmp_path / "log").mkdir()
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    (tmp_path / "log/engine.log").write_text(f"{when} error   engine can't load it\n{when} info    engine bye\n")
    found = programs.examine(there)
    assert "scripts/logs engine" in one(found, "BAD", "running", "engine does not run (FATAL)", "can't load it").todo
    one(found, "warn", "running", "ui is coming up")
    inside = docker(tmp_path)
    one(programs.examine(inside), "ok", "running", "api, ui, gateway, door run in containers")
    inside.programs |= {"api": "running unhealthy", "door": "exited 1"}
    found = programs.examine(inside)
    one(found, "BAD", "running", "api does not run (running unhealthy)")
    one(found, "BAD", "running", "door does not run (exited 1)")


def test_an_engine_that_crashes_and_one_that_is_held_up(api: FakeApi, tmp_path: Path) -> None:
    api.status = fake.rich(restarts=3, threads_now=2, throttled_seconds=30.0)
    there = native(tmp_path, api.url)
    one(programs.examine(there), "warn", "running", "come back 3 times")
    found = cpu.examine(there)
    one(found, "warn", "cpu", "2 of 4 threads compute now, because other programs")
    one(found, "warn", "cpu", "a CPU quota has held threads up for 30 s")


def test_little_memory_left(tmp_path: Path) -> None:
    there = docker(tmp_path, memory_available=100_000_000, machine={"memory": 6_000_000_000})
    assert "CLOISTER_API_MEMORY" in one(memory.examine(there), "warn", "memory", "100.0 MB are available").todo


def test_another_program_where_the_page_should_be(api: FakeApi, tmp_path: Path) -> None:
    there = native(tmp_path, api.url, UI__PORT=free_port(), API__PORT=api.port)
    found = ports.examine(there)
    one(found, "BAD", "ports", "[ui] is not to be reached", "nobody listens there")
    one(found, "ok", "ports", "[api] answers")


@pytest.mark.parametrize(("pause", "level"), [(0.2, "warn"), (0.005, "ok")])
def test_an_engine_far_below_what_the_memory_allows(api: FakeApi, volume: Path, tmp_path: Path, pause: float, level: str) -> None:
    """The memory's speed is as it may be; how fast the pieces come is real."""
    api.status = fake.rich(running=0)
    api.default = [step for _ in range(40) for step in (fake.delta(content="兔"), fake.pause(pause))]
    there = native(tmp_path, api.url, MODEL__NAME="demo")
    size = there.facts.number("manifest", "size") or 0
    there.seen["bandwidth"] = Told({"rate": 100 * size, "threads": 2, "cache": 1_000_000})
    found = speed.examine(there)
    one(found, "ok", "speed", "allows at most 100.0 tokens/s")
    one(found, level, "speed", "the engine writes", "% of that bound")


def test_a_memory_that_is_too_slow(tmp_path: Path) -> None:
    there = scene(tmp_path)
    there.seen = {"facts": Told({"manifest": {"size": 5e9}}), "bandwidth": Told({"rate": 1e10, "threads": 2, "cache": 1_000_000})}
    assert "q4_0" in one(speed.examine(there), "warn", "speed", "at most 2.0 tokens/s").todo


def test_an_answer_that_is_garbled_and_one_that_does_not_come(api: FakeApi, tmp_path: Path) -> None:
    api.status = fake.rich(running=0)
    api.default = [*fake.answer(*["\ufffd"] * 40), *fake.end()]
    there = native(tmp_path, api.url)
    there.seen["bandwidth"] = Told({"missing": "numpy"})
    one(speed.examine(there), "BAD", "speed", "broken characters")
    api.default = [fake.error("engine_failed", "the engine crashed")]
    del there.seen["answer"]
    one(speed.examine(there), "BAD", "speed", "did not answer", "the engine crashed")
    api.default = [fake.refuse(503, "unavailable", "in a moment")]
    del there.seen["answer"]
    one(speed.examine(there), "skip", "speed", "no time for a question: in a moment")
    api.status = fake.rich(running=2)
    one(speed.examine(native(tmp_path, api.url)), "skip", "speed", "requests are being answered")


def test_another_model_than_the_prepared_one(api: FakeApi, volume: Path, tmp_path: Path) -> None:
    from scripts.diagnosis import volume as model

    api.status = fake.rich()
    there = native(tmp_path, api.url, MODEL__NAME="demo")
    there.quick = True
    one(model.examine(there), "warn", "model", "another model than the prepared one")


@pytest.mark.parametrize(
    ("closed", "days", "level", "words"),
    [
        ({"api": 25, "ui": 25}, 1, "ok", "50 ways out of api, ui were closed 1 days ago"),
        ({"api": 25, "ui": 25}, 40, "warn", "closed 40 days ago"),
        ({"api": 24, "ui": 25}, 1, "BAD", "1 of 25 ways out of api were open"),
        ({"api": 25, "ui": -1}, 1, "warn", "the walls of ui could not be tried"),
        ({}, 1, "warn", "nobody has tried"),
    ],
)
def test_walls(tmp_path: Path, closed: dict[str, int], days: int, level: str, words: str) -> None:
    checked = fake.checked(**closed) if closed else None
    there = docker(tmp_path, routes=[], checked=checked)
    there.now = datetime.datetime.fromisoformat("2026-11-24T08:00:00+00:00").timestamp() + days * 86400 + 60
    one(walls.examine(there), level, "isolation", words)


def test_a_way_out_of_the_engines_container(tmp_path: Path) -> None:
    one(walls.examine(docker(tmp_path, routes=["ipv4"])), "BAD", "isolation", "knows a way out (ipv4)")


def test_a_model_with_an_unknown_variant(tmp_path: Path) -> None:
    """Old code on a new CPU, and code for another CPU."""
    there = docker(tmp_path, machine={"cpus": 2}, threads=2)
    there.seen["api"] = Told({"status": fake.rich(variant="none")})
    level = "BAD" if "avx2" in cpu.processor()[1] else "warn"
    one(cpu.examine(there), level, "cpu", "variant none")
    other = scene(tmp_path)
    other.seen = {"facts": Told({"manifest": {"name": "x"}}), "tokenizer": Told({"crash": "SIGILL"})}
    one(cpu.examine(other), "BAD", "cpu", "compiled for another CPU")


def test_rewrite_is_seen(volume: Path, tmp_path: Path) -> None:
    rewrite(volume, title="Another Title")
    assert scene(tmp_path).facts.text("manifest", "title") == "Another Title"
