"""Which threads, batch and quant suit this machine: each setting is varied by itself, at what is best of those before it.

Owns the grid, the rounds and the settings that are proposed. How a combination is measured is probe.py's, how rounds are
compared proposal.py's; knows nothing of how results are shown.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scripts.benchmark.probe import SEQUENCES, Figures, Job, ProbeError, probe
from scripts.benchmark.proposal import choose
from services.shared import hardware, manifest
from services.shared.manifest import Manifest, ManifestError
from services.shared.settings import QUANTS, Settings

Setting = Literal["threads", "batch", "quant"]
NAMES: dict[Setting, str] = {"threads": "CLOISTER_ENGINE__THREADS", "batch": "CLOISTER_ENGINE__BATCH", "quant": "CLOISTER_MODEL__QUANT"}
DECIDES: dict[Setting, str] = {"threads": "answer", "batch": "prefill", "quant": "answer"}  # a batch only matters while prompts are read
ANSWER = 512  # tokens read and tokens written of the answer that `answer` is about; R1 thinks at length
BATCHES = (64, 128, 256, 512)
EVERY = 8  # up to so many threads each number is tried, above it 12, 16, 24, 32, 48, ...
BUSY = 0.25  # share of the CPUs above which other work spoils the figures


class TuneError(Exception):
    """There is nothing to measure, or nothing could be measured."""


@dataclass(frozen=True)
class Load:
    """How much is measured: tokens read, tokens written, how often; `quick` tries fewer values."""

    prompt: int
    tokens: int
    rounds: int
    quick: bool


@dataclass(frozen=True)
class Combination:
    """One value of each setting."""

    threads: int
    batch: int
    quant: str

    def value(self, setting: Setting) -> int | str:
        values: dict[Setting, int | str] = {"threads": self.threads, "batch": self.batch, "quant": self.quant}
        return values[setting]


@dataclass
class Row:
    """A combination with the figures of its rounds, or why it can't be measured."""

    combination: Combination
    rounds: list[Figures] = field(default_factory=list)
    failure: str | None = None

    def values(self, figure: str) -> list[float]:
        """One figure of every round: a field of Figures, or `answer`."""
        return [answer(found) if figure == "answer" else float(getattr(found, figure)) for found in self.rounds]

    def median(self, figure: str) -> float:
        return statistics.median(self.values(figure))


@dataclass
class Phase:
    """One setting varied. `present` and `chosen` are values of it; `chosen` is None until all rounds are done."""

    setting: Setting
    present: int | str
    rows: list[Row]
    chosen: int | str | None = None

    def row(self, value: int | str) -> Row:
        return next(row for row in self.rows if row.combination.value(self.setting) == value)


@dataclass
class Tuning:
    """A run: the model's prepared quants, what is set now, and the phases so far.

    Attributes:
        models: quant → directory and manifest.
        unprepared: quants that could be prepared as well.
        whole: whether the model came as one GGUF, from which other quants can be made only if it is not quantized.
        load: the system's load before the run.
        error: what ended the run before its time.
    """

    settings: Settings
    models: dict[str, tuple[Path, Manifest]]
    unprepared: list[str]
    whole: bool
    present: Combination
    size: Load
    load: float
    started: str
    phases: list[Phase] = field(default_factory=list)
    error: str | None = None

    @property
    def busy(self) -> str | None:
        """The warning that other work runs on the machine."""
        cpus = len(os.sched_getaffinity(0))
        if self.load <= BUSY * cpus:
            return None
        return f"this machine is busy (load {self.load:.1f} on {cpus} CPUs), so the figures are worth little: tune when nothing else runs"

    def proposed(self) -> dict[Setting, int | str]:
        """The settings that should be changed."""
        return {phase.setting: phase.chosen for phase in self.phases if phase.chosen is not None and phase.chosen != phase.present}


def answer(found: Figures) -> float:
    """Tokens/s of a whole answer: ANSWER tokens read and as many written, half of them alone and half among SEQUENCES."""
    return 2 * ANSWER / (ANSWER / found.prefill + ANSWER / 2 / found.decode + ANSWER / 2 / found.together)


def prepare(settings: Settings, size: Load, started: str) -> Tuning:
    """Find out what there is to measure.

    Raises:
        TuneError: no model is prepared.
    """
    current = settings.paths.current
    try:
        now = manifest.read(current)
    except (ManifestError, OSError):
        raise TuneError(
            f"no model is prepared in {settings.paths.volume}: start Cloister once with scripts/up, which prepares one"
        ) from None
    models = {now.quant: (current.resolve(), now)}
    for directory in current.resolve().parent.iterdir():
        try:
            found = manifest.read(directory)
        except (ManifestError, OSError):
            continue
        if found.quant in QUANTS:
            models.setdefault(found.quant, (directory, found))
    # among equals the most precise
    models = dict(sorted(models.items(), key=lambda item: -item[1][1].model.size))
    present = Combination(hardware.threads(settings.engine.threads).count, settings.engine.batch, now.quant)
    whole = all(file.path.endswith(".gguf") for file in now.source.files)
    unprepared = [quant for quant in QUANTS if quant not in models]
    return Tuning(settings, models, unprepared, whole, present, size, os.getloadavg()[0], started)


def run(tuning: Tuning, say: Callable[[str], None]) -> None:
    """Measure phase by phase; `tuning.phases` is filled while it goes on, so that what was measured before an error is not lost.

    Raises:
        TuneError: none of a setting's values could be measured.
    """
    at = tuning.present
    for setting, values in grid(tuning).items():
        rows = [Row(_with(at, setting, value)) for value in values]
        phase = Phase(setting, tuning.present.value(setting), rows)
        tuning.phases.append(phase)
        _measure(tuning, phase, say)
        measured = {row.combination.value(setting): row.values(DECIDES[setting]) for row in rows if not row.failure}
        if not measured:
            raise TuneError(f"{tuning.models[at.quant][1].title} can't be measured: {rows[0].failure}")
        phase.chosen = choose(measured, phase.present)
        at = _with(at, setting, phase.chosen)


def grid(tuning: Tuning) -> dict[Setting, list[int] | list[str]]:
    """The values of each setting, the one that is to be taken among equals first; without settings that have only one."""
    present, quick = tuning.present, tuning.size.quick
    physical, logical = hardware.threads().count, len(os.sched_getaffinity(0))
    if (quota := hardware.cpu_quota()) is not None:
        logical = max(1, min(logical, int(quota)))
    batches = {present.batch, 64 if present.batch != 64 else 256} if quick else {present.batch, *BATCHES}
    found: dict[Setting, list[int] | list[str]] = {
        "threads": thread_counts(physical, logical, present.threads, quick),
        "batch": sorted(batches),
        "quant": list(tuning.models),
    }
    return {setting: values for setting, values in found.items() if len(values) > 1}


def thread_counts(physical: int, logical: int, present: int, quick: bool = False) -> list[int]:
    """1 to the physical cores, all of the logical CPUs where they are more, and what is set now; if `quick` only two or three."""
    if quick:
        return sorted({max(1, physical // 2), physical, present})

    powers = [1 << power for power in range(physical.bit_length())]
    counts = {*range(1, EVERY + 1), *powers, *(power * 3 for power in powers)}
    return sorted({*(count for count in counts if count <= physical), physical, max(physical, logical), present})


def _with(at: Combination, setting: Setting, value: int | str) -> Combination:
    return dataclasses.replace(at, **{setting: value})  # type: ignore[arg-type]


def _measure(tuning: Tuning, phase: Phase, say: Callable[[str], None]) -> None:
    """Interleaved rounds in alternating order; a combination that fails is left out of the next ones."""
    for number in range(tuning.size.rounds):
        for row in phase.rows if number % 2 == 0 else reversed(phase.rows):
            if row.failure:
                continue
            began = time.monotonic()
            name = f"round {number + 1} of {tuning.size.rounds}  {phase.setting} {row.combination.value(phase.setting)}"
            try:
                found = _one(tuning, row.combination)
            except ProbeError as error:
                row.failure = str(error)
                say(f"{name}: {error}")
                continue
            row.rounds.append(found)
            seconds = time.monotonic() - began
            rates = f"prefill {found.prefill:.1f}  decode {found.decode:.1f}  {SEQUENCES} sequences {found.together:.1f} tokens/s"
            say(f"{name:28} {rates}  ({seconds:.0f} s)")


def _one(tuning: Tuning, combination: Combination) -> Figures:
    directory, found = tuning.models[combination.quant]
    path, engine = directory / found.model.path, tuning.settings.engine
    require_memory(tuning, path, found)
    size = tuning.size
    job = Job(str(path), engine.context, engine.cells, combination.batch, combination.threads, size.prompt, size.tokens)
    return probe(job)


def require_memory(tuning: Tuning, path: Path, found: Manifest) -> None:
    """Ask before loading, as init does before preparing: a machine without memory left stops any process it likes.

    Raises:
        ProbeError: there is not enough for the file with the present settings.
    """
    from services.init import plan, preflight
    from services.init.errors import InitError
    from services.init.sources import Source
    from services.init.volume import Volume

    engine = dataclasses.replace(tuning.settings.engine, store=0)  # nothing is evicted while measuring
    try:
        files = plan.plan(Source("gguf", found.name, found.title, location=path), Volume(tuning.settings.paths.volume))
        need = preflight.memory(files, plan.figures(files), found.quant, engine)
    except InitError as error:
        raise ProbeError(str(error)) from None
    free = hardware.memory_available()
    if need.total > free:
        raise ProbeError(
            f"not enough memory: it takes {need}, and {hardware.human(free)} are available; "
            "stop Cloister with scripts/down, or lower [engine] cells"
        )
