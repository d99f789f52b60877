"""Who may read secrets and who may change models: files that are open to more than those who need them, or closed to those who do."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene
from services.shared.settings import ROOT

HASHES = ("api_keys", "page_password")
PLAIN = ("page_key", "hf_token")
SECRET_LINE = re.compile(r"^(HF_TOKEN|\w*_PROXY)=.", re.MULTILINE)


def examine(scene: Scene) -> list[Finding]:
    notes = Notes("permissions")
    for directory in _secrets(scene):
        _closed(scene, directory, notes)
    _dotenv(notes, ROOT / ".env")
    if scene.mode != "docker":
        _volume(scene, notes)
    if not notes.all:
        notes.ok("secrets are closed to others, and models can be changed by their owner only")
    return notes.all


def _secrets(scene: Scene) -> set[Path]:
    """The directories of secrets."""
    config = scene.settings
    named = [file.parent for file in (config.api.keys, config.ui.password, config.ui.key) if file]
    return {path for path in (ROOT / scene.environ.get("CLOISTER_SECRETS", "var/secrets"), *named) if path.is_dir()}


def _closed(scene: Scene, directory: Path, notes: Notes) -> None:
    mode = directory.stat().st_mode
    for name in (*HASHES, *PLAIN):
        file = directory / name
        if not file.exists() or not file.stat().st_size:
            continue
        own = file.stat().st_mode
        if own & (stat.S_IWOTH | stat.S_IWGRP):
            notes.bad(f"others may change {file}: they could let themselves in", f"chmod go-w {file}")
        if name in PLAIN and own & stat.S_IROTH and mode & stat.S_IXOTH:
            notes.bad(f"others may read the secret in {file}", f"chmod 700 {directory}")
        if scene.mode == "docker" and not own & stat.S_IROTH:
            notes.bad(f"the containers' user can't read {file}", f"chmod 644 {file}; the directory's 700 keeps others out")
    if mode & (stat.S_IWOTH | stat.S_IWGRP):
        notes.bad(f"others may put files into {directory}", f"chmod 700 {directory}")


def _dotenv(notes: Notes, file: Path) -> None:
    """.env may hold a token of the hub, or a proxy's password."""
    try:
        if file.stat().st_mode & stat.S_IROTH and SECRET_LINE.search(file.read_text(encoding="utf-8", errors="replace")):
            notes.warn("others may read .env, in which a token or a proxy stands", "chmod 600 .env")
    except OSError:
        pass


def _volume(scene: Scene, notes: Notes) -> None:
    """The model's files, as this user sees them."""
    paths = scene.settings.paths
    for place in (paths.volume, paths.run, paths.logs):
        if place.is_dir() and not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            notes.bad(f"this user may not write in {place}", f'chown -R "$(id -u)" {place}, or start Cloister as its owner')
    for file in _files(paths.volume):
        if not os.access(file, os.R_OK):
            notes.bad(f"this user may not read {file}", f'chown -R "$(id -u)" {paths.volume}')
        elif file.stat().st_mode & stat.S_IWOTH:
            notes.bad(f"everybody may change {file}", f"chmod -R o-w {paths.volume}")


def _files(volume: Path) -> Iterator[Path]:
    """What the engine and the API read."""
    for pattern in ("models", "models/*/*", "models/*/*/model.gguf", "models/*/*/manifest.json"):
        yield from sorted(volume.glob(pattern))
