"""Fixtures for init: a hub of our own, small checkpoints, and the real command run as a process in a home of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.shared import manifest
from services.shared.manifest import Manifest
from tests import checkpoints
from tests.conftest import ROOT, environment
from tests.hub import Hub

REPO = "someone/small-llama"


class Init:
    """`python -m services.init` with a volume and a run directory below `home`, asking `hub`."""

    def __init__(self, home: Path, endpoint: str) -> None:
        self.home, self.volume = home, home / "volume"
        self.variables = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf")}

    def start(self, *flags: str, **settings: object) -> subprocess.Popen[str]:
        """Start it; settings as `ENGINE__CELLS=256`, the hub's variables as `HF_TOKEN=...`."""
        ours = {name: value for name, value in settings.items() if "__" in name}
        theirs = {name: str(value) for name, value in settings.items() if "__" not in name}
        env = environment(self.home, **ours) | self.variables | theirs
        command = [sys.executable, "-m", "services.init", *flags]
        return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *flags: str, **settings: object) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        with self.start(*flags, **settings) as process:
            out, err = process.communicate(timeout=250)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ready(self, *flags: str, **settings: object) -> str:
        """Run it, and expect success; returns what it logged."""
        done = self.run(*flags, **settings)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def refused(self, *flags: str, code: int = 1, **settings: object) -> str:
        """Run it, and expect failure; returns the one error line's sentence."""
        done = self.run(*flags, **settings)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if " error " in line or line.startswith("init: ")]
        return line.split(" init   ")[-1]

    @property
    def progress(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "run" / "progress.json").read_text())
        return found

    @property
    def current(self) -> Manifest:
        return manifest.read(self.volume / "current")

    def written(self) -> list[str]:
        """Every file in the volume."""
        return sorted(str(path.relative_to(self.volume)) for path in self.volume.rglob("*") if path.is_file() or path.is_symlink())


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def init(tmp_path: Path, hub: Hub) -> Init:
    return Init(tmp_path / "home", hub.endpoint)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama checkpoint of 7 MB in two shards."""
    (recipe,) = [recipe for recipe in checkpoints.RECIPES if recipe.name == "SmolLM2-135M-Instruct"]
    generation = {"temperature": 0.7, "top_k": 20, "repetition_penalty": 1.1, "max_length": 2048}
    return checkpoints.write(dataclasses.replace(recipe, shards=2, generation=generation), tmp_path_factory.mktemp("small"))


@pytest.fixture
def repo(hub: Hub, small: Path) -> str:
    """The small checkpoint on the hub."""
    hub.add(REPO, small)
    return REPO


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
