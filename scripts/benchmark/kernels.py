"""What a step's parts take: a forward pass by its tokens, an output row, a guess, and writing in small and in huge pages.

Loads the model in use into this process, with the engine's own NativeModel and threads, and times single passes at the same place of
the KV cache. Knows nothing of endpoints, nor of requests beside each other.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scripts.benchmark import probe
from scripts.benchmark.report import number, processor
from scripts.benchmark.tune import Tuning, require_memory
from services.shared import hardware

if TYPE_CHECKING:
    from services.engine.native import NativeModel

COUNTS = (1, 4, 8, 12, 16, 24, 32, 64, 256)  # tokens of a pass; those that a step or the context has no room for are left out
START = 64  # tokens that are in the cache before each pass
ROWS = 8  # output rows of the pass that tells what one takes
REPEATS = 3  # passes of a kind in a round, of which the median counts
SLOTS = 20  # as many as the engine has at least: also the most rows of a pass
LEGEND = (
    "ms, medians of the rounds. forward.N: one pass of N prompt tokens, no output; row: one output row more;",
    "decode: one token of one writer with its row and sampling; guess: one guess more in such a step, sampled as well",
)


@dataclass
class Kernels:
    """What is found. `moved`: MB that are in huge pages after the engine's way of asking for them; `rounds`: by figure, in ms."""

    tuning: Tuning
    moved: float = 0.0
    rounds: dict[str, list[float]] = field(default_factory=dict)
    error: str | None = None


def measure(found: Kernels, say: Callable[[str], None]) -> None:
    """Fill `found` while it goes on, so that what was measured before an error is not lost.

    Raises:
        probe.ProbeError: there is no memory for the model.
        ModelError: it can't be loaded, or native code failed.
    """
    tuning, engine = found.tuning, found.tuning.settings.engine
    directory, card = tuning.models[tuning.present.quant]
    path = directory / card.model.path
    threads = hardware.threads(engine.threads)
    from services.engine.__main__ import SPIN

    if not threads.room:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # as the engine does; libgomp reads it when it is loaded
    require_memory(tuning, path, card)
    from services.engine.native import NativeModel
    from services.engine.pages import enlarge

    model = NativeModel(path, context=engine.context, cells=engine.cells, slots=SLOTS, step=engine.batch, threads=threads.count)
    passes = Passes(model)
    for pages in ("small", "huge"):
        if pages == "huge":
            found.moved = enlarge() / 1e6
        passes.decode()  # the first pass of all is not like the others
        for at in range(tuning.size.rounds):
            figures = {f"decode.{pages}": passes.decode(), **(passes.parts() if pages == "huge" else {})}
            for name, value in figures.items():
                found.rounds.setdefault(name, []).append(value)
            say(f"{pages} pages, round {at + 1} of {tuning.size.rounds}: decode {number(figures[f'decode.{pages}'])} ms")


class Passes:
    """Single passes over a model whose slot 0 holds START tokens. All figures in ms."""

    def __init__(self, model: NativeModel) -> None:
        from services.engine.speculation import MOST

        self._model, self._guesses = model, MOST
        draw = random.Random(0)  # any text does: computing takes as long for one token as for another
        self._tokens = [draw.randrange(model.vocabulary.size) for _ in range(START + max(COUNTS) + 1)]
        probe.read(model, self._tokens[:START])

    def parts(self) -> dict[str, float]:
        """One round of everything but small pages."""
        room = min(self._model.step, self._model.context - START - 1)
        figures = {f"forward.{count}": self._pass(count, more=True) for count in COUNTS if count <= room}
        rows = self._pass(1, guesses=ROWS - 1) - self._pass(ROWS, more=True)
        guesses = self._pass(1, guesses=self._guesses, sampled=True) - self.decode()
        return {**figures, "row": rows / ROWS, "guess": guesses / self._guesses}

    def decode(self) -> float:
        """A token of one writer."""
        return self._pass(1, sampled=True)

    def _pass(self, count: int, *, more: bool = False, guesses: int = 0, sampled: bool = False) -> float:
        """So many tokens and guesses, `more`: others follow, so there is no output; `sampled`: each output row is."""
        from services.engine.scheduler import Chunk

        sequence = probe.begin(self._model, self._tokens[: START + count + more], 0)
        sequence.computed = START
        chunk = Chunk(sequence, count, tuple(self._tokens[START + count : START + count + guesses]))
        taken = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            (rows,) = self._model.decode([chunk])
            for row in rows if sampled else ():
                sequence.sampler.sample(row)
            taken.append(1000 * (time.perf_counter() - began))
            self._model.remove(0, START, -1)
        return statistics.median(taken)


def table(found: Kernels) -> str:
    """All figures as aligned text."""
    rows = [["", "median", "least", "greatest"]]
    for name, values in found.rounds.items():
        rows.append([name, *(_ms(value) for value in (statistics.median(values), min(values), max(values)))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.rjust(w) if at else c.ljust(w) for at, (c, w) in enumerate(zip(row, widths, strict=True))) for row in rows]
    return "\n".join([*lines, "", *LEGEND, f"{found.moved:.0f} MB in huge pages; 0: the kernel gives none"]) + "\n"


def json(found: Kernels) -> dict[str, Any]:
    """Everything: the machine, the model, and each figure of each round."""
    tuning = found.tuning
    card = tuning.models[tuning.present.quant][1]
    return {
        "started": tuning.started,
        "machine": {"processor": processor(), "threads": os.cpu_count(), "system": platform.platform(), "busy": tuning.busy},
        "model": {"name": card.name, "title": card.title, "parameters": card.parameters, "quant": card.quant},
        "threads": tuning.present.threads,
        "batch": tuning.present.batch,
        "rounds": tuning.size.rounds,
        "start": START,
        "huge_pages": {"unit": "MB", "value": found.moved},
        "figures": {name: {"unit": "ms", "median": statistics.median(v), "rounds": v} for name, v in found.rounds.items()},
        "error": found.error,
    }


def _ms(value: float) -> str:
    return number(value) if value >= 0 else f"-{number(-value)}"
