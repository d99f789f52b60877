"""Whether disk and memory suffice, asked before anything is written.

Owns the estimates of what each step takes. Knows nothing of how the steps do it.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.init import demo, fetch, quantize, sizes
from services.init.errors import NotEnough
from services.init.plan import Figures, Plan, figures
from services.init.volume import Volume, size
from services.shared import hardware
from services.shared.settings import EngineSettings, Settings

DISK_RESERVE = 100_000_000  # bytes for manifests, ledgers, logs, and what a file system keeps for itself
RUN_MEMORY = 300_000_000  # bytes of the engine besides weights and KV cache: compute buffers, vocabulary, Python


@dataclass(frozen=True)
class Need:
    """Bytes, by what they are for."""

    parts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {hardware.human(number)}" for name, number in self.parts.items() if number)
        return f"{hardware.human(self.total)} ({parts})"


def require(plan: Plan, settings: Settings, volume: Volume) -> None:
    """Check both against this machine.

    Raises:
        NotEnough: names the need and what there is.
        UnsupportedModel, SourceError, CorruptFile, Unreachable: as plan.figures.
    """
    found, quant = figures(plan), settings.model.quant
    what = f"{plan.source.title} at {found.quant if _as_it_is(found, quant) else quant}"
    there = size(volume.work(plan.source.name, quant))
    need, free = disk(plan, found, quant, there), hardware.disk_free(volume.root)
    if need.total > free:
        raise NotEnough(
            f"not enough disk for {what}: preparing it takes {need}, and {hardware.human(free)} are free in {volume.root}; "
            "free some space, set [paths] volume to a larger disk, or choose a smaller model or quant"
        )
    need, free = memory(plan, found, quant, settings.engine), hardware.memory_available()
    if need.total > free:
        raise NotEnough(
            f"not enough memory for {what}: it takes {need}, and {hardware.human(free)} are available; "
            "choose a smaller model or quant, lower [engine] cells or store, or give the machine or container more memory"
        )


def disk(plan: Plan, figures: Figures, quant: str, there: int) -> Need:
    """Bytes of disk at the peak that are not taken yet. `there` bytes are in the work directory from an earlier run."""
    download = fetch.missing_bytes(plan) if plan.source.kind == "hub" else 0
    expanded = demo.EXPANDED if plan.source.kind == "demo" else 0
    converted = 0
    result = _result(plan, figures, quant)
    if _as_it_is(figures, quant):
        result = 0 if plan.source.kind == "hub" else plan.size  # a second name on the same disk, or a copy
    elif figures.model is not None and quant not in ("f16", "bf16"):
        converted = sizes.size_estimate(figures.model, "bf16")
    conversion = max(0, expanded + converted - there)
    result = max(0, result - max(0, there - expanded - converted))
    return Need({"download": download, "conversion": conversion, "result": result, "reserve": DISK_RESERVE})


def memory(plan: Plan, figures: Figures, quant: str, engine: EngineSettings) -> Need:
    """Bytes of memory of whatever takes most: preparing the model, or running it with its weights, a full KV cache and a full store."""
    weights = plan.size if _as_it_is(figures, quant) else _result(plan, figures, quant)
    cache = (figures.cell or 0) * engine.cells
    run = Need({"weights": weights, f"KV cache of {engine.cells} cells": cache, "store": engine.store << 20, "computing": RUN_MEMORY})
    steps = Need({"conversion, quantization and check": sizes.memory_estimate(weights)})
    return max(run, steps, key=lambda need: need.total)


def _as_it_is(figures: Figures, quant: str) -> bool:
    """Whether the source is a GGUF that is quantized already, or as it is wanted."""
    return figures.quant is not None and (figures.quant not in quantize.UNQUANTIZED or figures.quant == quant)


def _result(plan: Plan, figures: Figures, quant: str) -> int:
    """Bytes of the final file. A GGUF that is not downloaded yet is used as it is, or made smaller."""
    known = figures.model or figures.weights
    return sizes.size_estimate(known, quant) if known else plan.size
