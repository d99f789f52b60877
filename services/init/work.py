"""The directory of files on their way from one set of inputs to one model. Every file in it is complete or named .part.

Owns what makes a run resumable: a file that is there was made from these inputs and is not made again. Knows nothing of
how it is made.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from services.shared import files, manifest
from services.shared.manifest import File, Manifest


class Work:
    """Opens the directory, and empties it first when it belongs to other inputs or other versions of the tools."""

    def __init__(self, directory: Path, inputs: tuple[File, ...], tools: dict[str, str]) -> None:
        self.directory = directory
        mark = json.dumps({"inputs": [dataclasses.asdict(file) for file in inputs], "tools": tools}, sort_keys=True)
        marker = directory / "inputs.json"
        if not marker.exists() or marker.read_text(encoding="utf-8") != mark:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            files.write_text(marker, mark)

    def file(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file of this name; `make` writes it under another name first when it is not there."""
        final, part = self.directory / name, self.directory / f"{name}.part"
        if not final.exists():
            part.unlink(missing_ok=True)
            make(part)
            files.publish(part, final)
        return final

    def folder(self, name: str, make: Callable[[Path], None]) -> Path:
        """The same for a directory of files."""
        final, part = self.directory / name, self.directory / f"{name}.part"
        if not final.exists():
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(final)
        return final

    def manifest(self) -> Manifest | None:
        """The manifest, when an earlier run made everything and was stopped while it published."""
        try:
            return manifest.read(self.directory)
        except manifest.ManifestError:
            return None

    def remove(self) -> None:
        """All is done: leave nothing, and no empty directory above either."""
        shutil.rmtree(self.directory)
        if not any(self.directory.parent.iterdir()):
            self.directory.parent.rmdir()
