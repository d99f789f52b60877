"""Shows how far a run is: a bar on a terminal, a log line every few seconds elsewhere, and always the progress file.

Owns rate and time left. Knows nothing of what the steps do.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from services.shared import hardware, logs
from services.shared.progress import Progress

if TYPE_CHECKING:
    from tqdm import tqdm

FILE_EVERY = 0.3  # seconds between two writes of the progress file
LINE_EVERY = 5.0  # seconds between two log lines
WINDOW = 10.0  # seconds over which the rate is taken


class Reporter:
    """Progress of one run. `terminal`: draw bars on standard error, else write log lines. `clock` gives seconds."""

    def __init__(self, path: Path, log: logging.Logger, *, terminal: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._path = path
        self._log = log
        self._terminal = terminal
        self.now = Progress("running", "", "")

    def start(self, model: str, quant: str) -> None:
        """A run for this model begins."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.write(Progress("running", model, quant))

    def ready(self, notice: str | None = None) -> None:
        """The model is prepared; `notice` is what a person must know of it."""
        self.write(Progress("ready", self.now.model, self.now.quant, notice=notice))

    def failed(self, error: str) -> None:
        """The run ended without a model; keeps the step in which it did. A run that never began leaves another's progress alone."""
        if self.now.model:
            self.write(dataclasses.replace(self.now, state="failed", rate=None, seconds_left=None, error=error))

    @contextmanager
    def step(self, name: str, total: int, unit: str = "bytes", done: int = 0, detail: str | None = None) -> Iterator[Step]:
        """One step of the run, `total` units long, of which `done` were done by an earlier run."""
        step = Step(self, name, total, unit, done, detail)
        with step.bar(self._terminal):
            yield step
        step.end()

    def write(self, progress: Progress) -> None:
        self.now = dataclasses.replace(progress, updated=time.time())
        self.now.write(self._path)

    def line(self, text: str) -> None:
        """A line for the log where no bar shows the same."""
        if not self._terminal:
            self._log.info(text)


class Step:
    """The step that is running."""

    def __init__(self, reporter: Reporter, name: str, total: int, unit: str, done: int, detail: str | None) -> None:
        self._reporter = reporter
        self._name = name
        self._unit = unit
        self._bar: tqdm[None] | None = None
        self._started = reporter.clock()
        self._samples: deque[tuple[float, int]] = deque([(self._started, done)])
        self._next_file = 0.0
        self._next_line = self._started + LINE_EVERY
        self.done, self.total, self.detail = done, total, detail
        self._show()

    def bar(self, wanted: bool) -> Bar:
        return Bar(self, self._name, self._unit, wanted)

    def attach(self, bar: tqdm[None] | None) -> None:
        self._bar = bar

    def advance(self, count: int, detail: str | None = None) -> None:
        """`count` more units are done."""
        self.at(self.done + count, self.total, detail)

    def at(self, done: int, total: int, detail: str | None = None) -> None:
        """`done` of `total` units are done; fewer than before when something has to be done again."""
        self.done, self.total, self.detail = done, total, detail or self.detail
        self._show()

    def end(self) -> None:
        """The step succeeded."""
        self._next_file = 0.0
        self._show()
        self._reporter.line(f"{self._name} done {logs.facts(seconds=round(self._reporter.clock() - self._started, 1))}")

    def _show(self) -> None:
        now = self._reporter.clock()
        if now >= self._next_file:
            self._next_file = now + FILE_EVERY
            self._samples.append((now, self.done))
            while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW:
                self._samples.popleft()
            self._write()
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY
            self._reporter.line(self._text())
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.update(self.done - self._bar.n)

    def _rate(self) -> float | None:
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        return (after - before) / (last - first) if last - first > 0.2 and after > before else None

    def _left(self) -> float | None:
        rate = self._rate()
        return max(0, self.total - self.done) / rate if rate else None

    def _write(self) -> None:
        run = self._reporter.now
        rate, left = self._rate(), self._left()
        self._reporter.write(
            Progress("running", run.model, run.quant, self._name, self.done, self.total, self._unit, rate, left, self.detail)
        )

    def _text(self) -> str:
        def amount(number: float) -> str:
            return hardware.human(number) if self._unit == "bytes" else f"{number:.0f} {self._unit}"

        rate, left = self._rate(), self._left()
        percent = 100 * self.done // max(1, self.total)
        speed = f"{amount(rate)}/s" if rate and self._unit == "bytes" else None
        facts = logs.facts(rate=speed, left=None if left is None else f"{left:.0f}s", at=self.detail)
        return f"{self._name} {amount(self.done)} of {amount(self.total)} ({percent}%) {facts}".rstrip()


class Bar:
    """A step's bar on the terminal, or nothing."""

    def __init__(self, step: Step, name: str, unit: str, wanted: bool) -> None:
        self._step, self._name, self._unit, self._wanted = step, name, unit, wanted
        self._tqdm: tqdm[None] | None = None

    def __enter__(self) -> Self:
        if self._wanted:
            from tqdm import tqdm

            scale = self._unit == "bytes"
            self._tqdm = tqdm(
                desc=f"{self._name:8}",
                total=self._step.total,
                initial=self._step.done,
                unit="B" if scale else f" {self._unit}",
                unit_scale=scale,
                dynamic_ncols=True,
            )
            self._step.attach(self._tqdm)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._step.attach(None)
        if self._tqdm is not None:
            if error is None:
                self._tqdm.update(self._tqdm.total - self._tqdm.n)
            self._tqdm.close()
