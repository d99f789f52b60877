"""Which prepared model the engine opens, where it is told."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.engine import prepared
from services.shared import manifest, settings
from services.shared.progress import Progress
from services.shared.settings import Settings, SettingsError
from tests.conftest import environment
from tests.engine.process import engine, wait_for

Config = Callable[[str], Settings]


@pytest.fixture
def made(demo_volume: Path, home: Path) -> Path:
    """A volume with the demo model in use, and room for another one."""
    directory = home / "volume/models/demo/q8_0"
    directory.mkdir(parents=True)
    for file in (demo_volume / "current").iterdir():
        shutil.copy(file, directory)
    (home / "volume/current").symlink_to("models/demo/q8_0")
    return directory


def another(made: Path, sha256: str = "ab" * 32) -> Path:
    """The same model as another one, with a manifest that says so."""
    told = json.loads((made / manifest.NAME).read_text())
    told["name"], told["model"]["sha256"] = "other", sha256
    directory = made.parents[1] / "other/q8_0"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / manifest.MODEL).hardlink_to(made / manifest.MODEL)
    (directory / manifest.NAME).write_text(json.dumps(told))
    return directory


@pytest.fixture
def config(home: Path) -> Config:
    return lambda model: settings.load(environment(home, ENGINE__MODEL=model))


def test_the_one_in_use_where_nothing_is_said(made: Path, config: Config) -> None:
    another(made)
    assert prepared.wait(config("")) == made


def test_the_named_one_whatever_is_in_use(made: Path, config: Config) -> None:
    assert prepared.wait(config("other q8_0 " + "ab" * 6), patience=0.0) == made, "it is not there"
    there = another(made)
    assert prepared.wait(config("other q8_0 " + "ab" * 6)) == there


def test_another_revision_in_its_place_is_not_it(made: Path, config: Config, caplog: pytest.LogCaptureFixture) -> None:
    another(made, "cd" * 32)
    with caplog.at_level(logging.WARNING):
        assert prepared.wait(config("other q8_0 " + "ab" * 6), patience=0.6) == made
    assert 'wanted="other q8_0 abababababab" instead=demo/q8_0' in caplog.text


def test_one_that_is_being_brought_is_waited_for(made: Path, home: Path) -> None:
    """With the real engine: as on a node that was away while the others changed."""
    progress = home / "run/progress.json"
    progress.parent.mkdir()
    Progress("running", "other", "q8_0", "fetch", updated=time.time() + 3600).write(progress)
    with engine(home, home / "volume", ENGINE__MODEL="other q8_0 " + "ab" * 6) as process:
        wait_for(lambda: "the model other q8_0 abababababab is not here yet" in process.text())
        assert not process.socket.exists()
        there = another(made)
        assert Path(process.connect().hello.model) == there == (home / "run/model").resolve()
        assert process.text().count("not here yet") == 1


def test_a_sign_of_work_is_worth_more_than_patience(made: Path, home: Path, config: Config) -> None:
    progress = home / "run/progress.json"
    progress.parent.mkdir()
    Progress("running", "other", "q8_0", "fetch", updated=time.time() + 3600).write(progress)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(prepared.wait, config("other q8_0 " + "ab" * 6), patience=0.6)
        with pytest.raises(TimeoutError):
            waiting.result(2.5)
        there = another(made)
        assert waiting.result(10) == there


def test_who_brings_it_and_is_gone_is_not_waited_for(made: Path, home: Path, config: Config) -> None:
    progress = home / "run/progress.json"
    progress.parent.mkdir()
    Progress("running", "other", "q8_0", "fetch", updated=time.time() - 60).write(progress)
    assert prepared.wait(config("other q8_0 " + "ab" * 6), patience=0.6) == made


@pytest.mark.parametrize("name", ["other", "other q8_0", "../x q8_0 " + "ab" * 6, "other q8_0 ABABABABABAB"])
def test_what_is_no_model_is_refused(config: Config, home: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="a model's name, its quant and 12 digits"):
        prepared.wait(config(name))
    with engine(home, home / "volume", ENGINE__MODEL=name) as process:
        assert process.process.wait(60) == 2
        assert "[engine] model must be" in process.text()
