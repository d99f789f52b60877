"""Step publish: the finished file and its manifest become visible as a prepared model, and the model in use.

Owns the order of renames that makes it atomic: no manifest, no model. Knows nothing of how the file was made.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from services.init.check import Facts
from services.init.plan import Plan
from services.init.reporter import Reporter
from services.init.volume import Volume
from services.init.work import Work
from services.shared import VERSION, files, manifest
from services.shared.manifest import MODEL, File, Manifest

# generation_config.json's name → ours. Others there are not sampling.
SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}


def tools() -> dict[str, str]:
    """The versions of what makes a model; other versions may make other bytes."""
    return {"cloister": VERSION, **{name: importlib.metadata.version(name) for name in ("gguf", "llama-cpp-python")}}


def describe(plan: Plan, inputs: tuple[File, ...], folder: Path, model: Path, facts: Facts, report: Reporter) -> Manifest:
    """The manifest of a finished file. `folder` is the checkpoint's, for the authors' generation defaults."""
    with report.step("publish", model.stat().st_size) as step:
        sha256 = files.sha256(model, step.advance)
    source = plan.source
    return Manifest(
        name=source.name,
        title=source.title,
        quant=facts.quant,
        model=File(MODEL, model.stat().st_size, sha256),
        source=manifest.Source(
            source.kind, source.repo, source.revision, plan.commit, str(source.location) if source.location else None, inputs
        ),
        architecture=facts.architecture,
        parameters=facts.parameters,
        context_length=facts.context_length,
        chat_template=facts.chat_template,
        bos_token=facts.bos_token,
        eos_token=facts.eos_token,
        generation={**_generation(folder), **source.generation},
        tools=tools(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def publish(volume: Volume, work: Work, made: Manifest) -> Path:
    """Move the model and its manifest to their place; returns the directory. May be repeated after a kill at any point."""
    directory = volume.model(made.name, made.quant)
    directory.mkdir(parents=True, exist_ok=True)
    if (work.directory / MODEL).exists():
        (directory / manifest.NAME).unlink(missing_ok=True)
        files.publish(work.directory / MODEL, directory / MODEL)
    files.publish(work.directory / manifest.NAME, directory / manifest.NAME)
    volume.point(directory)
    work.remove()
    return directory


def _generation(folder: Path) -> dict[str, float]:
    """The authors' sampling from the checkpoint's generation_config.json, as far as it gives any."""
    try:
        given: dict[str, Any] = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {ours: given[theirs] for theirs, ours in SAMPLING.items() if isinstance(given.get(theirs), int | float)}
