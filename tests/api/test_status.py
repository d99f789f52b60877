"""/livez, /readyz and /v1/status in every state: preparing, failed, loading, ready, and with an engine that is gone or stuck."""

from __future__ import annotations

import dataclasses
import datetime
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.shared import VERSION, hardware, isolation, progress, wire
from tests.api.scripted import Stand, accepted, hold, stand, tag, text, until


@pytest.fixture
def early(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The API before there is an engine."""
    with stand(tmp_path_factory.mktemp("early"), engine=False) as standing:
        yield standing


def status(api: Stand) -> dict[str, Any]:
    response = httpx.get(f"{api.url}/v1/status", timeout=30)
    assert response.status_code == 200
    return dict(response.json())


def not_ready(api: Stand) -> str:
    """The reason that /readyz and a chat give."""
    assert httpx.get(f"{api.url}/livez").json() == {"status": "alive"}
    ready = httpx.get(f"{api.url}/readyz")
    asked = httpx.post(f"{api.url}/v1/chat/completions", json={"messages": [{"role": "user", "content": "q"}]})
    for response in (ready, asked, httpx.get(f"{api.url}/v1/models")):
        assert response.status_code == 503 and int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["code"] == "unavailable"
    assert ready.json() == asked.json()
    return str(ready.json()["error"]["message"])


def running(**more: Any) -> progress.Progress:
    fields = {"state": "running", "model": "some-model", "quant": "q4_k_m", "step": "convert", "done": 50, "total": 200, "unit": "tensors"}
    return progress.Progress(**{**fields, **more})


def room(api: Stand) -> int:
    return httpx.get(f"{api.url}/readyz/room").status_code


def test_a_balancer_is_told_whether_there_is_room(tmp_path: Path) -> None:
    with stand(tmp_path, engine=False) as api:
        assert room(api) == 503
        api.engine_up()
        assert room(api) == 404, "somebody waits already"
        api.engine.waiting = 0
        assert room(api) == 200
        api.engine.observes = False
        began = time.monotonic()
        assert room(api) == 404, "it is too busy to say"
        assert time.monotonic() - began < 5


def test_before_anything_has_happened(early: Stand) -> None:
    seen = status(early)
    assert seen.pop("since") <= datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    assert seen.pop("machine")["memory"] > 0 and seen.pop("isolation")["checked"] is None
    assert seen == {"state": "loading", "notice": None, "error": None, "progress": None, "model": None, "engine": None, "version": VERSION}
    assert "being loaded" in not_ready(early)


def test_while_a_model_is_being_prepared(early: Stand) -> None:
    running(rate=2.5, seconds_left=60.0).write(early.config.paths.progress)
    seen = status(early)
    assert seen["state"] == "preparing" and seen["model"] is None
    assert seen["progress"]["step"] == "convert" and (seen["progress"]["done"], seen["progress"]["total"]) == (50, 200)
    assert (seen["progress"]["rate"], seen["progress"]["seconds_left"], seen["progress"]["unit"]) == (2.5, 60.0, "tensors")
    assert seen["progress"]["steps"] == ["fetch", "verify", "convert", "quantize", "check", "publish"]
    assert "being prepared (step convert, 25 %)" in not_ready(early)
    running(step="fetch", total=0).write(early.config.paths.progress)
    assert "(step fetch)" in not_ready(early)


def test_when_it_could_not_be_prepared(early: Stand) -> None:
    running(state="failed", error="The disk is full.").write(early.config.paths.progress)
    seen = status(early)
    assert seen["state"] == "failed" and seen["error"] == "The disk is full."
    assert not_ready(early).endswith("could not be prepared: The disk is full.")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "running"}', '{"surprise": 1}', "\ud83d"])
def test_a_broken_progress_file_is_none(early: Stand, content: str) -> None:
    early.config.paths.progress.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert (status(early)["state"], status(early)["progress"]) == ("loading", None)


def test_prepared_but_not_loaded_yet(early: Stand) -> None:
    running(state="ready", step=None, notice="The demo model stands in.").write(early.config.paths.progress)
    seen = status(early)
    assert (seen["state"], seen["error"], seen["notice"]) == ("loading", None, "The demo model stands in.")


def test_a_notice_is_of_the_model_that_answers(early: Stand) -> None:
    """Not of one that init has made since, and which a replica of a swarm does not open before all have it."""
    early.engine_up()
    for model, notice in (("scripted", "It stands in."), ("demo", None)):
        running(state="ready", step=None, model=model, notice="It stands in.").write(early.config.paths.progress)
        assert (status(early)["state"], status(early)["notice"]) == ("ready", notice)


def test_ready(api: Stand) -> None:
    seen = status(api)
    assert seen["state"] == "ready" and seen["error"] is None and seen["version"] == VERSION
    assert seen["model"] == {
        "name": "scripted",
        "title": "Scripted Model",
        "quant": "q4_k_m",
        "architecture": "qwen2",
        "parameters": 9,
        "context": 4096,
        "context_trained": 8192,
        "sha256": "0" * 64,
        "size": 5,
        "source": {"kind": "hub", "repo": "some/scripted", "revision": "main", "commit": "c0ffee"},
        "files": [{"path": "model.safetensors", "size": 7, "sha256": "1" * 64}],
        "tools": {"cloister": "0.1.0"},
        "generation": {"temperature": 0.6, "top_p": 0.95},
        "defaults": {"temperature": 0.6, "top_p": 0.95, "top_k": 50, "min_p": 0.0, "repeat_penalty": 1.0, "max_tokens": 4096},
        "adapters": ["poet"],
        "created": "2026-11-24T07:00:00Z",
    }
    assert seen["engine"] == {
        "since": "2026-11-24T07:00:00+00:00",
        "restarts": 0,
        "threads": 2,
        "threads_reason": "limited by a test",
        "threads_wanted": 0,
        "threads_now": 0,
        "variant": "haswell",
        "running": 0,
        "waiting": 1,
        "waiting_seconds": 0.0,
        "sequences": 4,
        "cells_used": 123,
        "cells": 16384,
        "tokens_per_second": 12.5,
        "prompt_tokens": 1000,
        "generated_tokens": 2000,
        "memory": 99_000_000,
        "stored": 0,
        "preempted": 0,
        "evicted": 4,
        "throttled_seconds": 1.5,
        "step_seconds": 0.0,
        "decode_seconds": 0.0,
    }
    assert httpx.get(f"{api.url}/readyz").json() == {"status": "ready"}
    assert httpx.get(f"{api.url}/livez").json() == {"status": "alive"}


def test_the_machine_is_told_as_this_process_sees_it(api: Stand) -> None:
    seen = status(api)["machine"]
    assert 0 < seen.pop("memory_available") <= seen["memory"]
    assert seen == vars(hardware.machine())


def test_an_engine_that_started_anew_is_counted_and_a_connection_that_broke_is_not(api: Stand) -> None:
    before = status(api)["engine"]
    api.restart()
    assert status(api)["engine"]["restarts"] == before["restarts"]
    api.engine.hello = dataclasses.replace(api.engine.hello, started=api.engine.hello.started + 60)
    api.restart()
    after = status(api)["engine"]
    assert (after["restarts"], after["since"]) == (before["restarts"] + 1, "2026-11-24T07:01:00+00:00")


def test_the_check_of_the_walls_is_told_once_there_was_one(api: Stand) -> None:
    seen = status(api)["isolation"]
    assert seen == {"contained": isolation.contained(), "routes": list(isolation.routes()), "checked": None}
    file = api.config.paths.run / isolation.NAME
    checked = {"at": "2026-11-24T08:00:00Z", "containers": [{"name": "api", "tried": 25, "closed": 24}]}
    for content, told in ((json.dumps(checked), checked), ('{"at": "now"}', None)):
        file.write_text(content)
        assert status(api)["isolation"]["checked"] == told
    file.unlink()


def test_a_model_is_prepared_while_another_one_answers(api: Stand) -> None:
    running().write(api.config.paths.progress)
    try:
        seen = status(api)
        assert seen["state"] == "ready" and seen["progress"]["step"] == "convert"
    finally:
        api.config.paths.progress.unlink()


def test_the_engine_is_gone_and_comes_back_with_another_model(api: Stand) -> None:
    try:
        api.engine_down()
        seen = status(api)
        assert (seen["state"], seen["model"], seen["engine"]) == ("loading", None, None)
        assert "being loaded" in not_ready(api)
        api.prepare(name="another", title="Another Model")
        api.engine_up()
        assert status(api)["model"]["name"] == "another"
        assert httpx.get(f"{api.url}/v1/models").json()["data"][0]["id"] == "another"
    finally:
        api.prepare()
        api.restart()


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda api: (api.model / "manifest.json").unlink(), "the model is not prepared"),
        (lambda api: (api.model / "manifest.json").write_text("{"), "prepare the model again"),
        (lambda api: (api.model / "manifest.json").write_text('{"format": 99}'), "prepare the model again"),
        (lambda api: (api.model / "manifest.json").write_bytes(b"\xff\xfe"), "can't decode byte"),
        (lambda api: (api.model / "manifest.json").write_text("[]"), "prepare the model again"),
        (lambda api: api.prepare(template="{% if %}"), "chat template is not valid"),
    ],
    ids=["no manifest", "broken manifest", "another format", "not text", "a list", "invalid template"],
)
def test_a_model_that_can_not_be_served(api: Stand, break_it: Any, reason: str) -> None:
    """The engine has it loaded, but the API can't use it: failed, with the reason, until there is a better one."""
    try:
        break_it(api)
        api.engine_down()
        api.do(api.engine.start())
        until(lambda: status(api)["state"] == "failed")
        seen = status(api)
        assert reason in seen["error"] and seen["model"] is None
        assert reason in not_ready(api)
    finally:
        api.prepare()
        api.restart()
    assert status(api)["state"] == "ready"


def test_an_engine_that_does_not_answer_is_no_reason_to_say_nothing(api: Stand) -> None:
    api.engine.observes = False
    began = time.monotonic()
    seen = status(api)
    assert time.monotonic() - began < 15
    assert seen["state"] == "ready" and seen["engine"] is None and seen["model"]["name"] == "scripted"


def test_an_engine_that_dies_while_it_is_asked(api: Stand) -> None:
    api.engine.observes = False

    def kill() -> None:
        until(lambda: api.app.state.appliance.engine._answers)
        api.loop.call_soon_threadsafe(api.engine.break_off)

    thread = threading.Thread(target=kill)
    thread.start()
    assert status(api)["engine"] is None
    thread.join()
    until(lambda: api.app.state.appliance.state() == "ready")


def test_load_is_told_while_others_are_answered(api: Stand) -> None:
    api.engine.play(accepted(), tag("</think>"), text("x"), hold)
    body = {"messages": [{"role": "user", "content": "q"}], "stream": True}
    with httpx.stream("POST", f"{api.url}/v1/chat/completions", json=body, timeout=30):
        until(lambda: status(api)["engine"]["running"] == 1)
    until(lambda: status(api)["engine"]["running"] == 0)


@pytest.mark.parametrize(
    "greeting", [b"\xc1\xc1", b"\x92\xa5Hello\x81\xa1x\x01", wire.encode(wire.Sampling()), wire.encode(wire.Cancel("r1"))]
)
def test_an_engine_of_another_version_is_tried_again(api: Stand, greeting: bytes) -> None:
    """It greets with something that is no message of this version."""
    api.engine_down()
    api.engine.greeting = greeting
    try:
        api.do(api.engine.start())
        time.sleep(0.6)
        assert "being loaded" in not_ready(api)
        api.do(api.engine.stop())
    finally:
        api.engine.greeting = None
        api.restart()
    assert status(api)["state"] == "ready"
