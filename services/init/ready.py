"""Whether the wanted model is prepared already, found out in a moment and without the hub.

Owns the comparison of a manifest with the source as it is now. Knows nothing of how a model is prepared.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from services.init import plan
from services.init.sources import Source
from services.init.verify import Ledger
from services.init.volume import Volume
from services.shared import manifest
from services.shared.manifest import Manifest


@dataclass(frozen=True)
class Ready:
    """A prepared model and its directory."""

    directory: Path
    manifest: Manifest


def find(volume: Volume, source: Source, quant: str, log: logging.Logger) -> Ready | None:
    """The prepared model of this source and quant, or None when there is none or the source has changed since.

    A GGUF that was quantized by others counts for every quant: it is used as it is.
    """
    for directory in volume.models(source.name):
        try:
            found = manifest.read(directory)
        except manifest.ManifestError:
            continue
        file = directory / found.model.path
        if (found.quant == quant or _quantized_by_others(found)) and file.is_file() and file.stat().st_size == found.model.size:
            if _same(volume, source, found, log):
                return Ready(directory, found)
            log.info(f"{source.title} has changed since it was prepared")
    return None


def _quantized_by_others(found: Manifest) -> bool:
    if found.model.sha256 != found.source.files[0].sha256:
        return False
    from services.init.quantize import UNQUANTIZED  # brings numpy, so only where it is asked for

    return found.quant not in UNQUANTIZED


def _same(volume: Volume, source: Source, found: Manifest, log: logging.Logger) -> bool:
    origin = found.source
    if source.kind == "hub":
        file = origin.files[0].path if source.file else None
        return (origin.repo, origin.revision, file) == (source.repo, source.revision, source.file)
    if source.location is not None and not source.location.exists():
        log.warning(f"{source.location} is not there any more; using the model that was prepared from it")
        return True
    now = plan.plan(source, volume)
    ledger = Ledger(volume.ledger(source.name), now.root)
    return {file.path for file in now.files} == {file.path for file in origin.files} and all(
        ledger.file(file.path) == file for file in origin.files
    )
