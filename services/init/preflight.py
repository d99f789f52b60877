"""Whether disk and memory suffice, asked before anything is written.

Owns the estimates of what each step takes. Knows nothing of how the steps do it.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.init import demo, fetch
from services.init.errors import NotEnough
from services.init.plan import Figures, Plan, figures
from services.init.volume import Volume, size
from services.shared import hardware
from services.shared.settings import Settings

# Bits a weight, rounded up: what llama.cpp's quants come to on models of 0.5 to 8 billion parameters, norms and scales included.
BITS = {"q4_0": 4.8, "q4_k_m": 5.1, "q5_0": 5.7, "q5_k_m": 5.9, "q6_k": 6.7, "q8_0": 8.6, "f16": 16.1, "bf16": 16.1, "f32": 32.1}
DISK_MARGIN = 100_000_000  # bytes: tokenizer metadata, the progress file, and what a file system keeps for itself
# Bytes, measured on a 1.2 GB checkpoint with a vocabulary of 151,936: convert 183 MB, quantize 400 MB plus mapped pages of the source.
STEPS_MEMORY = 700_000_000
RUN_MEMORY = 300_000_000  # bytes of the engine besides weights and KV cache: compute buffers, vocabulary, Python


@dataclass(frozen=True)
class Need:
    """Bytes, by what they are for."""

    parts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {hardware.human(number)}" for name, number in self.parts.items() if number > 0)
        return f"{hardware.human(self.total)} ({parts})"


def require(plan: Plan, settings: Settings, volume: Volume) -> None:
    """Check both against this machine.

    Raises:
        NotEnough: names the need and what there is.
        UnsupportedModel, SourceError, CorruptFile, Unreachable: as plan.figures.
    """
    found, quant = figures(plan), settings.model.quant
    what = f"{plan.source.title} at {found.quant if _as_it_is(found) else quant}"
    there = size(volume.work(plan.source.name, quant))
    need, free = disk(plan, found, quant, there), hardware.disk_free(volume.root)
    if need.total > free:
        raise NotEnough(
            f"not enough disk for {what}: preparing it takes {need}, and {hardware.human(free)} are free in {volume.root}; "
            "free some space, set [paths] volume to a larger disk, or choose a smaller model or quant"
        )
    need, free = memory(plan, found, quant, settings.engine.cells), hardware.memory_available()
    if need.total > free:
        raise NotEnough(
            f"not enough memory for {what}: it takes {need}, and {hardware.human(free)} are available; "
            "choose a smaller model or quant, lower [engine] cells, or give the machine or container more memory"
        )


def disk(plan: Plan, figures: Figures, quant: str, there: int) -> Need:
    """Bytes of disk at the peak that are not taken yet. `there` bytes are in the work directory from an earlier run."""
    download = fetch.missing_bytes(plan) if plan.source.kind == "hub" else 0
    expanded = demo.EXPANDED if plan.source.kind == "demo" else 0
    converted = result = 0
    if _as_it_is(figures):
        result = 0 if plan.source.kind == "hub" else plan.size
    else:
        result = _result(plan, figures, quant)
        if plan.ready_gguf is None and quant not in ("f16", "bf16"):
            converted = _stored(plan, figures) * 2
    taken = min(there, expanded + converted + result)
    return Need({"download": download, "conversion": expanded + converted, "result": result, "reserve": DISK_MARGIN, "less done": -taken})


def memory(plan: Plan, figures: Figures, quant: str, cells: int) -> Need:
    """Bytes of memory of whatever takes most: preparing the model, or running it with its weights and a full KV cache."""
    weights = plan.size if _as_it_is(figures) else _result(plan, figures, quant)
    run = Need({"weights": weights, f"KV cache of {cells} cells": (figures.cell or 0) * cells, "computing": RUN_MEMORY})
    steps = Need({"conversion and quantization": STEPS_MEMORY})
    return max(run, steps, key=lambda need: need.total)


def _as_it_is(figures: Figures) -> bool:
    """Whether the source is a GGUF that is quantized already."""
    return figures.quant is not None and figures.quant not in ("f16", "bf16", "f32")


def _stored(plan: Plan, figures: Figures) -> int:
    """Weights; of a GGUF on the hub, whose header is not known yet, as many as its bytes could hold in 16 bits."""
    return figures.parameters if figures.parameters is not None else plan.size // 2


def _result(plan: Plan, figures: Figures, quant: str) -> int:
    if plan.ready_gguf is not None and figures.quant is None:
        return plan.size  # not downloaded yet: used as it is, or made smaller
    return int(_stored(plan, figures) * BITS[quant] / 8)
