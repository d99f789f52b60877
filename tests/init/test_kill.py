"""Killed with -9 at random moments over the whole pipeline, init ends with the very bytes of an undisturbed run."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from services.init.demo.expand import expand
from services.shared import manifest
from tests.hub import Hub
from tests.init.conftest import Init, sha256

pytestmark = pytest.mark.alone  # what a killed download had written depends on who else writes

REPO = "cloister/demo"
KILLS = 10
RATE = 15e6  # bytes a second: the download is about half of the run
SLACK = 1 << 20  # bytes that are sent and not yet written when the process dies


def check_what_is_visible(init: Init) -> None:
    """Nothing half-written has a name that counts: a manifest tells the truth, and `current` points at a model or is not there."""
    for found in init.volume.glob("models/*/*/manifest.json"):
        model = manifest.read(found.parent).model
        assert sha256(found.parent / model.path) == model.sha256
    assert not (init.volume / "current").is_symlink() or (init.volume / "current/manifest.json").exists()


@pytest.mark.timeout(1200)
def test_ten_kills_end_in_the_same_model(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    expand(folder)
    hub.add(REPO, folder)
    hub.rate = RATE
    undisturbed = Init(tmp_path / "undisturbed", hub.endpoint)
    began = time.monotonic()
    undisturbed.ready("--model", REPO, "--quant", "q8_0")
    seconds = time.monotonic() - began
    wanted = undisturbed.current.model.sha256
    weights = (folder / "model.safetensors").stat().st_size
    shutil.rmtree(undisturbed.home)

    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)
    print(f"seed {seed}, an undisturbed run takes {seconds:.1f} s")
    init = Init(tmp_path / "killed", hub.endpoint)
    steps: Counter[str] = Counter()
    kills = kills_here = 0
    hub.requests.clear()
    while True:
        with init.start("--model", REPO, "--quant", "q8_0") as process:
            try:
                # Up to a run's length, less what earlier runs have done of it: later steps get their share of the kills.
                process.wait(dice.uniform(0.2, seconds * 0.7) if kills < KILLS else 250)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills, kills_here = kills + 1, kills_here + 1
                steps[((init.home / "run/progress.json").exists() and init.progress["step"]) or "start"] += 1
            _, log = process.communicate(timeout=30)
        check_what_is_visible(init)
        if process.returncode == -signal.SIGKILL:
            continue
        assert process.returncode == 0, log
        assert init.current.model.sha256 == wanted == sha256(init.volume / "current/model.gguf")
        assert not list(init.volume.glob("work/*"))
        sent = hub.sent("model.safetensors")
        print(f"{kills_here} kills, {sent / weights:.3f} of the weights sent")
        assert weights <= sent <= weights + kills_here * SLACK, "downloads go on where they were"
        if kills == KILLS:
            break
        shutil.rmtree(init.home)
        hub.requests.clear()
        kills_here = 0
    print(f"killed in {dict(steps)}")
    assert sum(steps.values()) == KILLS
