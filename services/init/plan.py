"""What a run has to work with: the files of the source, their sizes, and where they are or will be. Writes nothing.

Owns the difference between the kinds of sources; from here on there are only files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.init import demo, selection
from services.init.errors import SourceError
from services.init.sources import Source
from services.init.verify import Expected
from services.init.volume import Volume


@dataclass(frozen=True)
class Plan:
    """The files of a source, below `root`. `commit` is the hub's; a hash is known beforehand only for the hub's files."""

    source: Source
    root: Path
    files: tuple[Expected, ...]
    commit: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def ready_gguf(self) -> Path | None:
        """The one file, when the source is a GGUF and not a checkpoint."""
        return self.root / self.files[0].path if self.files[0].path.endswith(".gguf") else None


def plan(source: Source, volume: Volume) -> Plan:
    """What there is to prepare the source from; asks the hub for a hub source that is not downloaded yet.

    Raises:
        SourceError: there is no such thing, or no checkpoint in it.
        Unreachable: the hub does not answer.
    """
    if source.kind == "hub":
        from services.init import fetch

        return fetch.plan(source, volume)
    if source.location is None:
        return Plan(source, demo.HERE, tuple(_found(demo.HERE, name) for name in demo.DATA))
    if source.kind == "gguf":
        return Plan(source, source.location.parent, (_found(source.location.parent, source.location.name),))
    return Plan(source, source.location, tuple(_found(source.location, name) for name in _checkpoint(source.location)))


def _checkpoint(folder: Path) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise SourceError(f"the folder {folder} can't be read: {error.strerror}") from None
    return selection.checkpoint(names, str(folder), "/")


def _found(root: Path, name: str) -> Expected:
    try:
        return Expected(name, (root / name).stat().st_size)
    except OSError as error:
        raise SourceError(f"{root / name} can't be read: {error.strerror}") from None
