"""How much disk and memory the wanted model takes, as far as that can be told without asking a hub. The estimates are init's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.init import catalog, sources
from services.init.sources import Source
from services.init.volume import Volume, size
from services.shared import manifest
from services.shared.settings import Settings

if TYPE_CHECKING:
    from services.init.plan import Plan
    from services.init.preflight import Need


class Unknown(Exception):
    """It can't be told here; the message says why."""


@dataclass(frozen=True)
class Needs:
    """`disk` is None where nothing needs to be prepared any more. `cell` is whether the KV cache could be counted."""

    title: str
    disk: Need | None
    memory: Need
    cell: bool


def needs(settings: Settings) -> Needs:
    """What the wanted model takes: to be run, and to be prepared where it is not yet.

    Raises:
        Unknown: only the hub knows the model, or what would tell is not installed.
        InitError: the model is known and can't be prepared.
    """
    volume = Volume(settings.paths.volume)
    source = sources.resolve(settings.model.name, settings.model.revision, catalog.load())
    try:
        from services.init import plan, preflight
    except ImportError as error:
        raise Unknown(f"{error.name} is not installed; scripts/up looks before it writes anything") from None
    quant = settings.model.quant
    if file := _prepared(settings, source):
        ready = plan.plan(Source("gguf", source.name, source.title, location=file), volume)
        figures = plan.figures(ready)
        memory = preflight.memory(ready, figures, figures.quant or quant, settings.engine)
        return Needs(source.title, None, memory, bool(figures.cell))
    if todo := _offline(source, volume):
        figures = plan.figures(todo)
        disk = preflight.disk(todo, figures, quant, size(volume.work(source.name, quant)))
        return Needs(source.title, disk, preflight.memory(todo, figures, quant, settings.engine), bool(figures.cell))
    return _of_catalog(settings, source, volume)


def _prepared(settings: Settings, source: Source) -> Path | None:
    """The model's file when it is prepared, whatever has happened to its bytes or its source."""
    directory = settings.paths.volume / "models" / source.name / settings.model.quant
    for place in (directory, settings.paths.current):
        try:
            found = manifest.read(place)
        except (manifest.ManifestError, OSError):
            continue
        if found.name == source.name and (place / found.model.path).is_file():
            return place.resolve() / found.model.path
    return None


def _offline(source: Source, volume: Volume) -> Plan | None:
    """The plan of a source for which no hub is asked, or of one whose answers are remembered."""
    from services.init import fetch, plan

    if source.kind != "hub":
        return plan.plan(source, volume)
    known = fetch.recorded(source, volume)
    told = known and (known.ready_gguf or known.root / "config.json")
    return known if told and told.is_file() else None


def _of_catalog(settings: Settings, source: Source, volume: Volume) -> Needs:
    """By the number of parameters alone, at two bytes each."""
    from services.init import preflight, sizes
    from services.init.plan import Figures, Plan
    from services.init.verify import Expected

    entry = catalog.load().get(settings.model.name)
    if entry is None:
        raise Unknown(f"only the hub knows how large {source.title} is; scripts/up asks before it writes anything")
    quant, figures = settings.model.quant, Figures(weights=entry.parameters)
    todo = Plan(source, volume.source(source.name) / "none", (Expected("model.safetensors", 2 * entry.parameters),))
    disk = preflight.disk(todo, figures, quant, 0)
    if quant not in ("f16", "bf16"):
        disk = dataclasses.replace(disk, parts={**disk.parts, "conversion": sizes.size_estimate(entry.parameters, "bf16")})
    return Needs(source.title, disk, preflight.memory(todo, figures, quant, settings.engine), False)
