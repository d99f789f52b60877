"""The model volume's layout, and the rule that one init works in it at a time.

    models/<name>/<quant>/   model.gguf and manifest.json: a prepared model
    sources/<name>/          what was downloaded, what the hub said of it, and which files are verified
    work/<name>/<quant>/     files on their way, gone after success
    current, previous        links to the model in use and the one before

Knows nothing of how the files come about.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.init.errors import InitError
from services.shared import files


class Volume:
    """Paths of a volume. Making one writes nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.current = root / "current"
        self.previous = root / "previous"

    def model(self, name: str, quant: str) -> Path:
        return self.root / "models" / name / quant

    def models(self, name: str) -> list[Path]:
        """The directories of the model's quants, prepared or not."""
        return sorted(path for path in (self.root / "models" / name).glob("*") if path.is_dir())

    def source(self, name: str) -> Path:
        return self.root / "sources" / name

    def ledger(self, name: str) -> Path:
        """Where the hashes of the source's files are remembered."""
        return self.source(name) / "verified.json"

    def work(self, name: str, quant: str) -> Path:
        return self.root / "work" / name / quant

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the volume alone. The lock is on the directory itself, so it leaves no file and ends with the process.

        Raises:
            InitError: another init holds it, or the directory can't be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise InitError(
                f"the volume {self.root} can't be opened: {error.strerror}; set [paths] volume to a directory of yours"
            ) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InitError(f"another init is at work in {self.root}; wait until it is done, or stop it first") from None
            yield
        finally:
            os.close(handle)

    def clean_work(self, keep: Path | None = None) -> int:
        """Remove what earlier runs left in work/, except the directory `keep`; returns how many bytes that freed."""
        freed = 0
        for name in (self.root / "work").glob("*"):
            for quant in name.glob("*"):
                if quant != keep:
                    freed += size(quant)
                    shutil.rmtree(quant)
            if not any(name.iterdir()):
                name.rmdir()
        return freed

    def point(self, directory: Path) -> None:
        """Make `directory` the model in use; the one before becomes `previous`."""
        now = self.current.resolve()
        if now == directory.resolve():
            return
        if self.current.is_symlink() and now.is_dir():
            files.link(now, self.previous)
        files.link(directory, self.current)


def size(path: Path) -> int:
    """Bytes that a file or everything in a directory occupies; 0 when it is not there."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
