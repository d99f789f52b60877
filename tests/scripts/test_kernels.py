"""scripts/bench --kernels as a person runs it, on the demo model."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest

from scripts.benchmark.kernels import COUNTS
from tests.conftest import ROOT, environment

SMALL = {"ENGINE__CONTEXT": 512, "ENGINE__CELLS": 512, "ENGINE__THREADS": 1}


def bench(home: Path, folder: Path, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "scripts/bench", "--kernels", *arguments]
    env = environment(home, **settings)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_each_part_of_a_step_is_timed(demo_volume: Path, tmp_path: Path) -> None:
    done = bench(demo_volume.parent, tmp_path, "--rounds", "2", "--json", "out.json", **SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    forward = [f"forward.{count}" for count in COUNTS]
    assert list(found["figures"]) == ["decode.small", "decode.huge", *forward, "row", "guess"]
    assert (found["model"]["name"], found["threads"], found["batch"], found["error"]) == ("demo", 1, 512, None)
    for name, figure in found["figures"].items():
        assert figure["unit"] == "ms" and len(figure["rounds"]) == 2 and math.isfinite(figure["median"])
        if name not in ("row", "guess"):  # differences, of which noise may be the greater part in a model that is this small
            assert min(figure["rounds"]) > 0, name
    least = {name: min(figure["rounds"]) for name, figure in found["figures"].items()}  # what others do on the machine only adds to it
    assert max(least["forward.1"], least["forward.8"]) < least["forward.256"]
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.split("\n\n")[0].splitlines()[1:]}
    assert set(rows) == set(found["figures"]) and all(len(values) == 3 for values in rows.values())


def test_a_pass_that_has_no_room_is_left_out(demo_volume: Path, tmp_path: Path) -> None:
    done = bench(demo_volume.parent, tmp_path, "--rounds", "1", **{**SMALL, "ENGINE__BATCH": 32})
    assert done.returncode == 0 and "forward.32 " in done.stdout and "forward.64 " not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--users", "2", "--quick"], "--quick, --users has no meaning with --kernels"), ([], "no model is prepared in")],
)
def test_wrong_arguments_and_no_model_are_told(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = bench(tmp_path, tmp_path, *arguments)
    assert done.returncode == 2 and sentence in done.stderr, done.stderr
