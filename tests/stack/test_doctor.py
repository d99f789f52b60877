"""The doctor beside the running stack: it sees into the containers, and finds nothing wrong."""

from __future__ import annotations

import json
from pathlib import Path

from tests.stack.conftest import ROOT, Stack
from tests.stack.waiting import wait


def doctor(stack: Stack, *options: str) -> dict[tuple[str, str], str]:
    """What it found, by topic and level."""
    done = stack.run(ROOT / "scripts/doctor", "--json", *options, check=False)
    found: dict[tuple[str, str], str] = {}
    for item in json.loads(done.stdout):
        place = (item["topic"], item["level"])
        found[place] = f"{found.get(place, '')}{item['found']} -> {item['todo']}\n"
    assert done.returncode == any(level == "BAD" for _, level in found), done.stderr
    return found


def test_a_whole_stack(stack: Stack, tmp_path: Path) -> None:
    stack.ready()
    wait(lambda: stack.compose("ps", "--format", "{{.Health}}").stdout.split() == ["healthy"] * 4, 120)
    found = doctor(stack, "--report", str(tmp_path / "report"))
    assert not [text for (_, level), text in found.items() if level == "BAD"], found
    assert "api, ui, gateway, door run in containers" in found["running", "ok"] and "loaded and answers" in found["running", "ok"]
    assert "[ui] answers" in found["ports", "ok"] and "[api] answers" in found["ports", "ok"]
    assert "llama.cpp computes with its variant" in found["cpu", "ok"]
    assert "every byte of" in found["model", "ok"] and "Chinese, emoji and code come back" in found["text", "ok"]
    speed = found.get(("speed", "ok"), "") + found.get(("speed", "warn"), "")
    assert "threads read" in speed and "the engine writes" in speed
    report = (tmp_path / "report").read_text()
    assert "runs: docker; " in report and "someone/demo" not in report


def test_a_container_that_does_not_run(stack: Stack) -> None:
    stack.compose("stop", "--timeout", "5", "ui")
    try:
        found = doctor(stack, "--quick")
        assert "ui does not run (exited" in found["running", "BAD"] and "scripts/logs ui" in found["running", "BAD"]
    finally:
        stack.compose("start", "ui")
        wait(lambda: stack.compose("ps", "--format", "{{.Health}}", "ui").stdout.strip() == "healthy", 120)
