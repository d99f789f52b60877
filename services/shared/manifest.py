"""manifest.json: what a prepared model is, where it came from and how to talk to it.

Written by init as the last step, atomically: no manifest, no model. Read by engine and api. Knows nothing of how a model is made.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.shared import files

FORMAT = 1
NAME = "manifest.json"
MODEL = "model.gguf"  # beside it


class ManifestError(ValueError):
    """A manifest is missing or can't be read."""


@dataclass(frozen=True)
class File:
    """One file of the source or of the result: path relative to its root, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """Where the weights came from. `repo`, `revision` and `commit` only for `hub`; `location` for a folder or file."""

    kind: str  # hub, folder, gguf or demo
    repo: str | None = None
    revision: str | None = None
    commit: str | None = None
    location: str | None = None
    files: tuple[File, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A prepared model. `generation` holds the authors' sampling defaults (temperature, top_p, top_k, min_p, ...)."""

    name: str
    title: str
    quant: str
    model: File
    source: Source
    architecture: str
    parameters: int
    context_length: int
    chat_template: str | None
    bos_token: str | None
    eos_token: str | None
    generation: dict[str, float]
    tools: dict[str, str]
    created: str
    format: int = field(default=FORMAT)

    def write(self, directory: Path) -> None:
        """Publish the manifest in a model's directory."""
        files.write_text(directory / NAME, json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=2) + "\n")


def read(directory: Path) -> Manifest:
    """Read the manifest of a model's directory.

    Raises:
        ManifestError: there is none, it is not JSON, or another format.
    """
    path = directory / NAME
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file; the model is not prepared") from None


def parse(text: str, where: str) -> Manifest:
    """Understand a manifest; `where` is how an error calls its place.

    Raises:
        ManifestError: it is not JSON, or another format.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        if data.get("format") != FORMAT:
            raise ManifestError(f"{where}: format {data.get('format')!r} is not {FORMAT}; prepare the model again")
        source = data.pop("source")
        source["files"] = tuple(File(**item) for item in source["files"])
        return Manifest(**{**data, "model": File(**data["model"]), "source": Source(**source)})
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{where}: not a manifest ({type(error).__name__}: {error}); prepare the model again") from None
