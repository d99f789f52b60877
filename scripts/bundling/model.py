"""`python3 model.py`, inside of init's image with a volume: the model that the settings name, if it is prepared there.

Prints its directory in the volume, its bytes, its manifest's SHA-256 and its licence, each on a line.
Exit code 3: it is not prepared there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Mapping

from services.init import catalog, ready, sources
from services.init.errors import InitError
from services.init.volume import Volume
from services.shared import settings


def main(environ: Mapping[str, str]) -> int:
    """The exit code."""
    try:
        wanted = settings.load(environ)
        known = catalog.load()
        source = sources.resolve(wanted.model.name, wanted.model.revision, known)
        volume = Volume(wanted.paths.volume)
        found = ready.find(volume, source, wanted.model.quant, logging.getLogger("bundle"))
    except (settings.SettingsError, InitError) as error:
        sys.stderr.write(f"cloister: {error}\n")
        return 1
    if found is None:
        return 3
    if entry := known.get(wanted.model.name):
        licence = f"{entry.title} ({entry.repo}): {entry.licence}"
    elif source.kind == "demo":
        licence = "Cloister demo: Apache-2.0"
    else:
        licence = f"{source.title}: the licence is told where it comes from"
    size = sum(file.stat().st_size for file in found.directory.iterdir())
    digest = hashlib.sha256((found.directory / "manifest.json").read_bytes()).hexdigest()
    sys.stdout.write(f"{found.directory.relative_to(volume.root)}\n{size}\n{digest}\n{licence}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
