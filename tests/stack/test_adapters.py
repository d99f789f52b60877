"""A LoRA adapter in var/adapters: api finds it in the mount, and it is a model of its own name."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.scripted import stand, until
from tests.engine.process import engine as engine_process
from tests.engine.test_native import write_adapter
from tests.stack.conftest import ROOT, Stack, ask, get

NAME = "cloister-test-poet"
SHORT = {"temperature": 0, "max_tokens": 16}


@pytest.fixture
def adapter(demo_volume: Path) -> Iterator[Path]:
    """An adapter of the model that the stack serves, where compose.yaml mounts it from."""
    file = ROOT / "var/adapters" / f"{NAME}.gguf"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_adapter(demo_volume / "current/model.gguf", file, scale=4.0)
    yield file
    file.unlink()


def natively(home: Path, volume: Path, adapter: Path) -> dict[str, object]:
    """What engine and API answer with the adapter on this machine, without Docker."""
    settings = {"ENGINE__ADAPTERS": adapter, "ENGINE__CONTEXT": 1024, "ENGINE__CELLS": 1024}
    with engine_process(home, volume, **settings) as process, stand(home, engine=False) as api:
        process.connect().close()
        until(lambda: api.app.state.appliance.state() == "ready")
        return ask(api.url, model=NAME, **SHORT)


def test_an_adapter_in_the_mount_answers_by_its_name(stack: Stack, adapter: Path, demo_volume: Path, tmp_path: Path) -> None:
    chosen = Stack({**stack.env, "CLOISTER_ENGINE__ADAPTERS": f"var/adapters/{adapter.name}"}, stack.page_url, stack.api_url)
    with contextlib.ExitStack() as afterwards:
        afterwards.callback(stack.ready)
        afterwards.callback(stack.compose, "up", "--detach", "--no-build", "--no-deps", "api")
        chosen.compose("up", "--detach", "--no-build", "--no-deps", "api")
        chosen.ready()
        (mount,) = (found for found in chosen.inspect("api")["Mounts"] if found["Destination"] == "/opt/cloister/var/adapters")
        assert mount["Source"] == str(adapter.parent) and not mount["RW"]
        listed = [model["id"] for model in json.loads(get(f"{stack.api_url}/v1/models")[1])["data"]]
        assert len(listed) == 2 and listed[1] == NAME
        base, own = ask(stack.api_url, model=listed[0], **SHORT), ask(stack.api_url, model=NAME, **SHORT)
        assert own["reasoning_content"] != base["reasoning_content"]
        assert ask(stack.api_url, **SHORT) == base  # whoever names no adapter gets none
    assert own == natively(tmp_path, demo_volume, adapter)
    assert get(f"{stack.api_url}/v1/models/{NAME}")[0] == 404
