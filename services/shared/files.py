"""Atomic files: write beside, fsync, rename. Nothing partial is ever visible under the final name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

CHUNK = 4 << 20


def publish(part: Path, final: Path) -> None:
    """Make `part` durable and visible as `final` in one step."""
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, final)
    sync_directory(final.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a small file atomically; with `durable`, also against a power cut."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    if durable:
        publish(part, path)
    else:
        os.replace(part, path)


def link(target: Path, name: Path) -> None:
    """Point the symbolic link `name` at `target` (relative, so that the volume can be mounted anywhere), atomically."""
    part = name.with_name(f".{name.name}.part")
    part.unlink(missing_ok=True)
    part.symlink_to(os.path.relpath(target, name.parent))
    os.replace(part, name)
    sync_directory(name.parent)


def sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of a file in hex; `on_bytes` is told of every chunk's size in bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            if on_bytes:
                on_bytes(len(chunk))
    return digest.hexdigest()
