"""What `[model] name` means: a catalog name, a hub repository, a file of one, a folder, a .gguf file, or the demo.

Owns the reading of the name and the model's name in the volume. Asks neither the hub nor the disk what is inside.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from services.init.catalog import Entry
from services.init.errors import SettingsProblem

DEMO = "demo"
SPLIT = re.compile(r".*-\d{5}-of-(?!00001)\d{5}\.gguf")
REPO = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<file>.+))?", re.ASCII)


@dataclass(frozen=True)
class Source:
    """Where a model comes from. `name` is its directory in the volume and its id for clients.

    `repo` and `revision` only for `hub`, with `file` when one .gguf of it is meant; `location`, absolute, for `folder` and `gguf`.
    `generation` is the catalog's, else empty.
    """

    kind: Literal["hub", "folder", "gguf", "demo"]
    name: str
    title: str
    repo: str | None = None
    revision: str | None = None
    file: str | None = None
    location: Path | None = None
    generation: Mapping[str, float] = field(default_factory=dict)


def demo() -> Source:
    """The model that comes with Cloister."""
    return Source("demo", DEMO, "Cloister demo")


def resolve(name: str, revision: str, catalog: Mapping[str, Entry]) -> Source:
    """What `name` means. A relative path counts from the working directory; an existing folder goes before a repository.

    Raises:
        SettingsProblem: it means nothing; the message names what is close and what would do.
    """
    if name == DEMO:
        return demo()
    if entry := catalog.get(name):
        return Source("hub", name, entry.title, entry.repo, revision, generation=entry.generation)
    path = Path(name).expanduser()
    if name.startswith(("/", "./", "../", "~")) or name in (".", "..") or path.exists():
        return _local(path.resolve(), name)
    if match := REPO.fullmatch(name):
        return _hub(match["repo"], match["file"], revision)
    if name.endswith(".gguf"):
        raise SettingsProblem(f"[model] name: {path.absolute()}: no such file")
    close = difflib.get_close_matches(name.lower(), [*catalog, DEMO], n=2, cutoff=0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise SettingsProblem(
        f"[model] name: unknown model {name!r}; {meant}Known are {', '.join(catalog)} and {DEMO}; "
        "or name a hub repository (owner/repo), one GGUF of it (owner/repo:file.gguf), "
        "a folder with a Hugging Face checkpoint, or a .gguf file"
    )


def _hub(repo: str, file: str | None, revision: str) -> Source:
    name = repo.replace("/", "--")
    if file is None:
        return Source("hub", name, repo, repo, revision)
    _require_whole(file)
    if not file.endswith(".gguf") or file.startswith("/") or ".." in file.split("/"):
        raise SettingsProblem(f"[model] name: after the colon of {repo}:{file} stands the path of a .gguf file in the repository")
    return Source("hub", f"{name}--{_plain(Path(file).stem)}", f"{repo}:{file}", repo, revision, file)


def _local(location: Path, written: str) -> Source:
    """A folder or a file; the hash keeps two of the same name at different places apart."""
    mark = hashlib.sha256(str(location).encode()).hexdigest()[:8]
    if location.suffix == ".gguf":
        _require_whole(location.name)
        return Source("gguf", f"{_plain(location.stem)}-{mark}", location.stem, location=location)
    if location.is_file():
        raise SettingsProblem(f"[model] name: {written}: a file must be a .gguf; for a Hugging Face checkpoint name its folder")
    return Source("folder", f"{_plain(location.name)}-{mark}", location.name, location=location)


def _require_whole(file: str) -> None:
    if SPLIT.fullmatch(file):
        raise SettingsProblem(
            f"[model] name: {file} is one part of a split GGUF; name one in a single file, or join it with llama-gguf-split --merge"
        )


def _plain(text: str) -> str:
    """A name that is safe as a directory and in a URL."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "model"
