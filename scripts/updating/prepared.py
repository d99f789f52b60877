"""The model that is prepared and in use: what its manifest tells, and which files of its source are kept.

`python3 - <prepared.py` in init's image with a volume prints it as JSON, so it imports nothing beyond services.shared. Writes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.shared import VERSION, manifest, settings
from services.shared.settings import Settings

TIMEOUT = 120.0  # seconds
VOLUME = "/opt/cloister/var/volume"


class NotReadable(Exception):
    """There is one and it can't be read; the message says why."""


def facts(config: Settings) -> dict[str, Any]:
    """`manifest` and `kept`, sizes by path; empty where no model is prepared; `error` where the manifest can't be read."""
    current = config.paths.current
    if not current.is_symlink():
        return {}
    try:
        found = manifest.read(current)
    except (manifest.ManifestError, OSError) as error:
        return {"error": str(error)}
    root = config.paths.volume / "sources" / found.name / (found.source.repo or "none/none").partition("/")[2]
    files = [file.path for file in found.source.files if found.source.repo and (root / file.path).is_file()]
    return {"manifest": dataclasses.asdict(found), "kept": {path: (root / path).stat().st_size for path in files}}


def look(config: Settings, environ: Mapping[str, str]) -> dict[str, Any]:
    """`facts` of the model here; of the Docker stack's where that runs or nothing is here.

    Raises:
        NotReadable: its manifest is damaged, or the stack's volume can't be looked into.
    """
    project = environ.get("CLOISTER_PROJECT", "cloister")
    docker = bool(shutil.which("docker", path=environ.get("PATH")))
    here = {} if docker and _says(environ, "ps", "--quiet", "--filter", f"label=com.docker.compose.project={project}") else facts(config)
    if not here and docker and _says(environ, "volume", "ls", "--quiet", "--filter", f"name=^{project}_model$"):
        here = _in_volume(f"{project}_model", environ)
    if here.get("error"):
        raise NotReadable(here["error"])
    return here


def _in_volume(volume: str, environ: Mapping[str, str]) -> dict[str, Any]:
    image = f"cloister-init:{environ.get('CLOISTER_TAG') or VERSION}"
    options = ("--rm", "--interactive", "--network", "none", "--volume", f"{volume}:{VOLUME}:ro", "--entrypoint", "python3")
    try:
        done = subprocess.run(
            ("docker", "run", "--pull", "never", *options, image, "-"),
            input=Path(__file__).read_bytes(),
            env=environ,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotReadable(f"docker does not answer ({type(error).__name__})") from None
    except ValueError:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise NotReadable(f"the volume {volume} can't be looked into: {last or 'docker failed'}") from None


def _says(environ: Mapping[str, str], *command: str) -> str:
    try:
        done = subprocess.run(("docker", *command), env=environ, capture_output=True, timeout=TIMEOUT, text=True, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    json.dump(facts(settings.load(os.environ)), sys.stdout)
