"""The doctor as a person runs it, and single topics on a scene that a test arranges."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from scripts.diagnosis.finding import Finding
from scripts.diagnosis.scene import Scene
from services.shared import manifest, settings
from tests.conftest import ROOT, environment, free_port


@dataclasses.dataclass(frozen=True)
class Visit:
    """What scripts/doctor said and how it ended."""

    code: int
    findings: list[Finding]
    said: str

    def found(self, level: str, topic: str, *words: str) -> Finding:
        """The one finding of that level with all these words; its remedy is never empty where something is to be done."""
        return one(self.findings, level, topic, *words)


def one(findings: Iterable[Finding], level: str, topic: str, *words: str) -> Finding:
    """As Visit.found."""
    findings = list(findings)
    told = [item for item in findings if (item.level, item.topic) == (level, topic) and all(word in item.line() for word in words)]
    assert len(told) == 1, "\n".join(item.line() for item in findings)
    assert bool(told[0].todo) == (level in ("warn", "BAD")), told
    return told[0]


def visit(
    home: Path,
    *options: str,
    env: dict[str, str] | None = None,
    before: tuple[str, ...] = (),
    doctor: Path = ROOT / "scripts/doctor",
    **config: object,
) -> Visit:
    """scripts/doctor --json on ports that nobody has, unless `config` names others."""
    ports = {"UI__PORT": free_port(), "API__PORT": free_port()} | config
    command = [*before, str(doctor), "--json", *options]
    done = subprocess.run(command, env=env or environment(home, **ports), capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode in (0, 1), done.stderr
    findings = [Finding(**item) for item in json.loads(done.stdout)]
    assert done.returncode == any(item.level == "BAD" for item in findings), done.stdout
    return Visit(done.returncode, findings, done.stderr)


def scene(home: Path, *, root: Path = Path("/"), environ: dict[str, str] | None = None, **config: object) -> Scene:
    """A scene of these settings in which nothing runs."""
    env = environment(home, **config) | (environ or {})
    return Scene(settings.load(env), env, root=root)


@pytest.fixture
def volume(demo_volume: Path, tmp_path: Path) -> Path:
    """A volume of the test's own with the demo model in it; its home is the directory above."""
    return Path(shutil.copytree(demo_volume, tmp_path / "volume", symlinks=True))


def rewrite(volume: Path, **fields: Any) -> None:
    """Change the manifest of the model in use."""
    card = manifest.read(volume / "current")
    dataclasses.replace(card, **fields).write((volume / "current").resolve())


def files(root: Path, given: dict[str, str]) -> Path:
    """A file tree with /proc and /sys, for readers that are handed its root."""
    usual = {"proc/self/cgroup": "0::/\n", "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n"}
    for name, text in {**usual, **given}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root
