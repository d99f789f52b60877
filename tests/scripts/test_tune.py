"""scripts/bench --tune as a person runs it, on the demo model; and what it proposes from figures that are known."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scripts.benchmark import tune, tune_chart, tune_report
from scripts.benchmark.probe import Figures
from scripts.benchmark.proposal import choose
from scripts.benchmark.tune import Combination, Load, Phase, Row, TuneError, Tuning, thread_counts
from services.shared import hardware, manifest, settings
from services.shared.files import link
from tests.conftest import ROOT, environment

SVG = "{http://www.w3.org/2000/svg}"
SMALL = {"ENGINE__CONTEXT": 512, "ENGINE__CELLS": 512}


@pytest.fixture
def home(demo_volume: Path, tmp_path: Path) -> Path:
    """A folder with a volume in which the demo model is prepared as two quants, which are really one file."""
    source = (demo_volume / "current").resolve()
    found = manifest.read(source)
    for quant in (found.quant, "q8_0"):
        directory = tmp_path / "volume/models/demo" / quant
        directory.mkdir(parents=True)
        os.link(source / "model.gguf", directory / "model.gguf")
        dataclasses.replace(found, quant=quant).write(directory)
    link(tmp_path / "volume/models/demo" / found.quant, tmp_path / "volume/current")
    return tmp_path


def bench(home: Path, *arguments: str, limit: str = "", **more: object) -> subprocess.CompletedProcess[str]:
    """Run scripts/bench in a folder that is not the checkout; `limit` is a command of the shell before it."""
    command = ["bash", "-c", f'{limit}\nexec "$0" "$@"', str(ROOT / "scripts/bench"), *arguments]
    return subprocess.run(command, cwd=home, env=environment(home, **more), capture_output=True, text=True, timeout=240, check=False)


def test_each_setting_is_measured_drawn_and_judged(home: Path) -> None:
    done = bench(home, "--tune", "--quick", "--tokens", "3", "--json", "out.json", "--svg", "out.svg", **SMALL)
    assert done.returncode == 0, done.stderr
    found = json.loads((home / "out.json").read_text())
    now = {"threads": hardware.threads().count, "batch": 512, "quant": "q4_k_m"}
    assert (found["present"], found["rounds"], found["error"]) == (now, 2, None)
    assert set(found["quants"]["prepared"]) == {"q4_k_m", "q8_0"} and "q6_k" in found["quants"]["unprepared"]
    threads = thread_counts(now["threads"], now["threads"], now["threads"], quick=True)
    wanted = {"threads": threads, "batch": [64, 512], "quant": ["q4_k_m", "q8_0"]}
    measured = {phase["setting"]: sorted(row[phase["setting"]] for row in phase["rows"]) for phase in found["phases"]}
    assert measured == {setting: values for setting, values in wanted.items() if len(values) > 1}
    at = dict(now)
    for phase in found["phases"]:
        for row in phase["rows"]:
            assert {name: row[name] for name in at if name != phase["setting"]} == {k: v for k, v in at.items() if k != phase["setting"]}
            assert (row["prompt"], row["tokens"], row["failure"]) == (128, 3, None)
            assert set(row["figures"]) == {"prefill", "decode", "together", "answer", "memory"}
            assert all(len(figure["rounds"]) == 2 and min(figure["rounds"]) > 0 for figure in row["figures"].values())
        at[phase["setting"]] = phase["chosen"]
    changed = {tune.NAMES[p["setting"]]: str(p["chosen"]) for p in found["phases"] if p["chosen"] != p["present"]}
    assert found["proposal"] == changed
    lines = done.stdout.splitlines()
    for phase in found["phases"]:
        for value in measured[phase["setting"]]:
            (row,) = (line for line in lines[: lines.index("")] if line.startswith(f"{phase['setting']} {value} "))
            assert ("set now" in row) == (value == phase["present"]), row
    assert set(changed.items()) == {tuple(line.split("=")) for line in lines if line.startswith("CLOISTER_")}
    assert (tune_report.RIGHT in done.stdout) == (not changed)
    assert ("warning: this machine is busy" in done.stderr) == (found["machine"]["busy"] is not None)
    check_chart((home / "out.svg").read_text(), "Batch: reading a prompt", "Quant: writing, 4 sequences together", "q8_0")


def check_chart(text: str, *texts: str) -> None:
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg" and "prefers-color-scheme: dark" in text
    written = [e.text or "" for e in root.iter(f"{SVG}text")]
    for part in texts:
        assert any(part in one for one in written), part
    ends = [float(e.attrib["x"]) + 7.5 * len(e.text or "") for e in root.iter(f"{SVG}text") if "text-anchor" not in e.attrib]
    assert max(ends) <= float(root.attrib["width"])


def test_without_a_prepared_model_nothing_is_measured(tmp_path: Path) -> None:
    done = bench(tmp_path, "--tune")
    assert done.returncode == 2 and not done.stdout
    assert f"no model is prepared in {tmp_path / 'volume'}: start Cloister once with scripts/up" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tune", "--users", "2", "--against=http://127.0.0.1:9"], "--against, --users has no meaning with it"),
        (["--quick"], "--quick goes together with --tune"),
        (["--tune", "--json", "nowhere/out.json"], "there is no folder nowhere"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = bench(tmp_path, *arguments)
    assert done.returncode == 2 and sentence in done.stderr, done.stderr


def test_a_wrong_setting_is_told(tmp_path: Path) -> None:
    done = bench(tmp_path, "--tune", ENGINE__BATCH=7)
    assert done.returncode == 2 and "CLOISTER_ENGINE__BATCH must be from 32 to 2048" in done.stderr


def test_a_process_that_dies_is_reported_and_takes_nothing_else_along(home: Path) -> None:
    """The children hit a limit of CPU time, of which the parent needs little, and so end by a signal."""
    size = {"ENGINE__CONTEXT": 4096, "ENGINE__CELLS": 8192, "ENGINE__THREADS": 1}
    done = bench(home, "--tune", "--quick", "--tokens", "2000", "--json", "out.json", limit="ulimit -S -t 3", **size)
    assert done.returncode == 2 and "Cloister demo can't be measured: native code crashed with SIGXCPU" in done.stderr, done.stderr
    found = json.loads((home / "out.json").read_text())
    assert all("SIGXCPU" in row["failure"] and not row["figures"] for row in found["phases"][0]["rows"])
    assert found["proposal"] == {} and "SIGXCPU" in found["error"]


def test_a_run_that_is_ended_keeps_what_it_has_measured(home: Path) -> None:
    command = [str(ROOT / "scripts/bench"), "--tune", "--quick", "--rounds", "1000", "--tokens", "3", "--json", "out.json"]
    with subprocess.Popen(
        command, cwd=home, env=environment(home, **SMALL), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stderr is not None
        assert any("round 1 of 1000" in line for line in running.stderr)
        running.terminate()
        table, last = running.communicate(timeout=60)
    found = json.loads((home / "out.json").read_text())
    assert running.returncode == 2 and last.endswith("bench: stopped\n") and found["error"] == "stopped"
    assert "nothing is proposed, as the run has not come to its end" in table and found["proposal"] == {}
    assert found["phases"][0]["rows"][0]["figures"]["decode"]["median"] > 0


def prepared(home: Path, **engine: Any) -> Tuning:
    """A tuning of the volume that has measured nothing."""
    config = settings.load({k: v for k, v in environment(home).items() if k.startswith("CLOISTER_")})
    config = dataclasses.replace(config, engine=dataclasses.replace(config.engine, **engine))
    return tune.prepare(config, Load(512, 48, 3, quick=False), "2026-01-01T00:00:00+00:00")


def test_memory_is_asked_for_before_anything_is_loaded(home: Path) -> None:
    tuning, said = prepared(home, cells=1 << 40), list[str]()
    with pytest.raises(TuneError, match=r"can't be measured: not enough memory: it takes .*KV cache of 1099511627776 cells"):
        tune.run(tuning, said.append)
    assert said and all("not enough memory" in line for line in said)


def test_the_whole_grid(home: Path) -> None:
    tuning = prepared(home, batch=1024)
    assert tune.grid(tuning)["batch"] == [64, 128, 256, 512, 1024]
    assert sorted(map(str, tune.grid(tuning)["quant"])) == ["q4_k_m", "q8_0"]
    assert thread_counts(2, 2, 2) == [1, 2] and thread_counts(4, 8, 4) == [1, 2, 3, 4, 8]
    assert thread_counts(28, 56, 40) == [*range(1, 9), 12, 16, 24, 28, 40, 56]
    assert thread_counts(8, 16, 3, quick=True) == [3, 4, 8] and thread_counts(1, 1, 1, quick=True) == [1]


def test_a_busy_machine_is_told(home: Path) -> None:
    cpus = len(os.sched_getaffinity(0))
    assert "load" in str(dataclasses.replace(prepared(home), load=0.3 * cpus).busy)
    assert dataclasses.replace(prepared(home), load=0.2 * cpus).busy is None


@pytest.mark.parametrize(
    ("measured", "present", "chosen"),
    [
        ({1: [10, 10.1, 10.2], 2: [14, 14.1, 14.3]}, 1, 2),  # a clear gain
        ({1: [10, 10.1, 10.2], 2: [14, 14.1, 14.3]}, 2, 2),  # what is set is the best
        ({1: [10, 10.1, 10.2], 2: [10.3, 10.35, 10.4]}, 1, 1),  # a gain of 2.5 %
        ({1: [10, 10.1, 10.2], 2: [10.5, 10.6, 10.7]}, 1, 2),  # of 5 %, and the rounds hardly vary
        ({1: [9, 10, 12], 2: [11, 12, 12.1]}, 1, 1),  # the present one's rounds vary by more than the gain
        ({1: [10, 10, 10], 2: [9, 12, 13]}, 1, 1),  # the other's do
        ({1: [10, 10, 10], 2: [15, 15.1, 15.2], 3: [15, 15.3, 15.4], 4: [17, 17, 17.1]}, 1, 4),  # the best of several
        ({1: [10, 10, 10], 2: [15, 15.1, 15.2], 3: [15, 15.3, 15.4]}, 1, 2),  # among equals the first
        ({1: [10], 2: [20]}, 1, 1),  # one round tells nothing of how figures vary
        ({2: [10, 10, 10], 3: [12, 12, 12]}, 1, 3),  # the present one can't be measured
    ],
)
def test_only_a_clear_gain_changes_a_setting(measured: dict[int, list[float]], present: int, chosen: int) -> None:
    assert choose(measured, present) == chosen


def rounds(prefill: float, decode: float, together: float) -> list[Figures]:
    return [Figures(prefill * f, decode * f, together * f, 1200.0, 512, 48) for f in (0.99, 1.0, 1.01)]


def test_the_proposal_is_lines_of_env_with_their_gains(home: Path) -> None:
    tuning = dataclasses.replace(prepared(home), present=Combination(1, 256, "q4_k_m"), load=0.0)
    both = [Row(Combination(1, 256, "q4_k_m"), rounds(30, 6, 12)), Row(Combination(2, 256, "q4_k_m"), rounds(60, 9, 18))]
    batches = [Row(Combination(2, 256, "q4_k_m"), rounds(60, 9, 18)), Row(Combination(2, 512, "q4_k_m"), failure="it crashed")]
    tuning.phases += [Phase("threads", 1, both, 2), Phase("batch", 256, batches, 256)]
    table = tune_report.table(tuning).splitlines()
    assert table[1].split() == ["threads", "1", "30.0", "6.00", "12.0", "12.6", "2%", "1200", "set", "now"]
    assert table[2].split()[-2:] == ["1200", "proposed"] and table[4].split() == ["batch", "512", *["–"] * 6, "failed"]
    assert "batch 512 failed: it crashed" in table
    at = table.index("CLOISTER_ENGINE__THREADS=2")
    assert table[at + 1 :] == ["threads 2 instead of 1: prefill +100%, decode +50%, 4 sequences +50%, answer +58%."]
    check_chart(tune_chart.svg(tuning), "Threads: writing, one sequence", "60.0 · proposed", "30.0 · set now")
    tuning.phases[0].chosen = 1
    assert tune_report.proposal(tuning) == [f"{tune_report.RIGHT}: nothing else is faster by more than the rounds vary and 3 %"]
    tuning.error = "stopped"
    assert tune_report.proposal(tuning) == ["nothing is proposed, as the run has not come to its end"]
