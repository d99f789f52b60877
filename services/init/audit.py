"""`--verify`: reads a prepared model and its kept source again, whatever the ledger remembers, and says what is wrong.

Repairs nothing: the engine may be reading the file. Knows nothing of how a model is prepared.
"""

from __future__ import annotations

from pathlib import Path

from services.init.errors import CorruptFile
from services.init.ready import Ready
from services.init.reporter import Reporter
from services.init.sources import Source
from services.init.verify import Ledger
from services.init.volume import Volume
from services.shared import files
from services.shared.manifest import File


def audit(volume: Volume, source: Source, ready: Ready, report: Reporter) -> None:
    """Compare every byte with the manifest.

    Raises:
        CorruptFile: names every file that is not what it was, and what to do.
    """
    found = ready.manifest
    model = ready.directory / found.model.path
    root = _kept(volume, source)
    kept = [file for file in found.source.files if root and (root / file.path).is_file()]
    ledger = Ledger(volume.ledger(source.name), root) if root else None
    wrong = []
    with report.step("verify", found.model.size + sum(file.size for file in kept)) as step:
        if (sha256 := files.sha256(model, step.advance)) != found.model.sha256:
            wrong.append(_sentence(str(model), sha256, found.model) + f"; remove {ready.directory} and start again")
        for file in kept:
            assert root and ledger
            now = ledger.file(file.path, step.advance, again=True)
            if now != file:
                remedy = f"remove {root / file.path} and start again" if source.kind == "hub" else "it was changed after the model was made"
                wrong.append(_sentence(str(root / file.path), now.sha256, file) + f"; {remedy}")
    if wrong:
        raise CorruptFile(". ".join(wrong))


def _kept(volume: Volume, source: Source) -> Path | None:
    """The directory of the source's files, when it may still be there."""
    if source.repo:
        return volume.source(source.name) / source.repo.split("/")[1]
    if source.location:
        return source.location if source.kind == "folder" else source.location.parent
    return None


def _sentence(path: str, sha256: str, expected: File) -> str:
    return f"{path} is damaged: its SHA-256 is {sha256}, the manifest says {expected.sha256}"
