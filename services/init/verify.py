"""Checks that every file is what its origin says it is, by the hub's sha256 (LFS) or git blob id (small files).

Owns the ledger: which file, by size and time of change, has which hash, so that a resumed run does not read gigabytes
again. Knows nothing of where the files come from.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from services.init.errors import CorruptFile
from services.init.reporter import Reporter
from services.shared import files
from services.shared.manifest import File

OnBytes = Callable[[int], None]


@dataclass(frozen=True)
class Expected:
    """A file of a source and what is known of it beforehand: its size in bytes, its SHA-256 or its git blob id, in hex."""

    path: str
    size: int
    sha256: str | None = None
    blob: str | None = None


@dataclass(frozen=True)
class _Entry:
    size: int
    mtime_ns: int
    sha256: str


class Ledger:
    """The hashes of the files below `root`, remembered in `path`.

    An entry holds as long as the file has the size and the time of change it had when it was read.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = root
        try:
            self._entries = {name: _Entry(**entry) for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._entries = {}

    def known(self, name: str) -> bool:
        """Whether the file is there and was read since it last changed."""
        try:
            stat = (self._root / name).stat()
        except OSError:
            return False
        entry = self._entries.get(name)
        return entry is not None and (entry.size, entry.mtime_ns) == (stat.st_size, stat.st_mtime_ns)

    def file(self, name: str, on_bytes: OnBytes | None = None, *, again: bool = False) -> File:
        """The file with its SHA-256, read only when it is not known, or `again`."""
        if again or not self.known(name):
            stat = (self._root / name).stat()
            self._entries[name] = _Entry(stat.st_size, stat.st_mtime_ns, files.sha256(self._root / name, on_bytes))
            self._save()
        elif on_bytes:
            on_bytes(self._entries[name].size)
        entry = self._entries[name]
        return File(name, entry.size, entry.sha256)

    def matches(self, expected: Expected, on_bytes: OnBytes | None = None, *, again: bool = False) -> bool:
        """Whether the file is what is expected of it."""
        found = self.file(expected.path, on_bytes, again=again)
        if expected.sha256 is not None:
            return found.sha256 == expected.sha256
        return found.size == expected.size and expected.blob in (None, blob_id(self._root / expected.path))

    def forget(self, name: str) -> None:
        """Remove the file; it is wrong."""
        (self._root / name).unlink()
        self._entries.pop(name, None)
        self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        entries = {name: asdict(entry) for name, entry in self._entries.items()}
        files.write_text(self._path, json.dumps(entries, indent=1), durable=False)


def verify(
    expected: Iterable[Expected], ledger: Ledger, fetch_again: Callable[[list[Expected]], None], report: Reporter, log: logging.Logger
) -> tuple[File, ...]:
    """Step verify: read every file that is not known yet. Wrong ones are fetched again, once.

    Returns the files with their hashes.

    Raises:
        CorruptFile: a file is wrong the second time too; it is removed, so that the next run fetches it anew.
    """
    wanted = list(expected)
    with report.step("verify", sum(file.size for file in wanted)) as step:
        wrong = [file for file in wanted if not ledger.matches(file, step.advance)]
        if wrong:
            for file in wrong:
                log.warning(f"{_difference(file, ledger)}; fetching it again")
                ledger.forget(file.path)
            fetch_again(wrong)
            still = [file for file in wrong if not ledger.matches(file)]
            if still:
                sentences = "; ".join(_difference(file, ledger) for file in still)
                for file in still:
                    ledger.forget(file.path)
                raise CorruptFile(
                    f"{sentences}; it came wrong twice, so look for what changes it on the way: a mirror, a proxy, the memory, the disk"
                )
        return tuple(ledger.file(file.path) for file in wanted)


def _difference(expected: Expected, ledger: Ledger) -> str:
    found = ledger.file(expected.path)
    if expected.sha256 is not None:
        return f"{expected.path} is damaged: its SHA-256 is {found.sha256}, the hub says {expected.sha256}"
    return f"{expected.path} is damaged: it is not the git blob {expected.blob} that the hub lists"


def blob_id(path: Path) -> str:
    """The git blob id of a file: the SHA-1 of `blob <size>`, a zero byte and the content. For small files: read at once."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
