"""Steps convert, quantize and check, run on what was fetched, each with its progress and each skipped when done before.

Owns which of them a source needs: a checkpoint all, the demo also its expansion, a ready GGUF perhaps none. How a tensor is
converted or quantized is for convert.py and quantize.py.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from pathlib import Path

from services.init import check, convert, header, quantize
from services.init.check import Facts
from services.init.plan import Plan
from services.init.reporter import Reporter
from services.init.work import Work
from services.shared import files, hardware
from services.shared.manifest import MODEL
from services.shared.settings import Quant

CHECKPOINT = "checkpoint.gguf"


class Steps:
    """One source on its way to one model. `quant` is the wanted one, `threads` as in the settings."""

    def __init__(self, plan: Plan, work: Work, quant: Quant, threads: int, report: Reporter) -> None:
        self._plan, self._work, self._quant, self._report = plan, work, quant, report
        self._threads = hardware.threads(threads).count
        self.folder = plan.root

    def convert(self) -> Path:
        """The model as a GGUF: unquantized, unless it came quantized or is wanted so."""
        source, work = self._plan.source, self._work
        if ready := self._plan.ready_gguf:
            final = quantize.gguf_quant(ready) not in quantize.UNQUANTIZED or quantize.gguf_quant(ready) == self._quant
            return work.file(MODEL, functools.partial(self._take, ready)) if final else ready
        if source.kind == "demo":
            from services.init.demo.expand import expand

            self.folder = work.folder("checkpoint", expand)
        name = source.repo or (None if source.location else source.title)
        dtype: convert.Dtype = "auto"
        if self._quant == "f16" or self._quant == "bf16":
            dtype = self._quant

        def make(part: Path) -> None:
            with self._report.step("convert", 1, "tensors") as step:
                convert.convert(self.folder, part, dtype, step.at, name=name)

        return work.file(CHECKPOINT if dtype == "auto" else MODEL, make)

    def quantize(self, source: Path) -> Path:
        """The model in the wanted quant."""
        if source.name == MODEL and source.parent == self._work.directory:
            return source

        def make(part: Path) -> None:
            # In bytes: one tensor, the vocabulary's, can be half of the work.
            sizes = {tensor.name: tensor.size for tensor in header.read(source).tensors}
            with self._report.step("quantize", sum(sizes.values())) as step:
                begun: list[str] = []

                def follow(_done: int, _total: int, name: str) -> None:
                    step.advance(sizes.get(begun[-1], 0) if begun else 0, name)
                    begun.append(name)

                _interruptible(lambda: quantize.quantize(source, part, self._quant, self._threads, follow))

        return self._work.file(MODEL, make)

    def check(self, model: Path) -> Facts:
        """What the finished file says of itself, once it works."""
        with self._report.step("check", 1, "model") as step:
            facts = check.check(model, self._threads)
            step.at(1, 1)
        return facts

    def _take(self, ready: Path, part: Path) -> None:
        """A GGUF that is used as it is: the volume's own file gets a second name, a person's file is copied."""
        if self._plan.source.kind == "hub":
            with contextlib.suppress(OSError):  # a file system without hard links
                part.hardlink_to(ready)
                return
        total = ready.stat().st_size
        with self._report.step("convert", total, detail="copying") as step, ready.open("rb") as source, part.open("wb") as copy:
            while chunk := source.read(files.CHUNK):
                copy.write(chunk)
                step.advance(len(chunk))


def _interruptible(act: Callable[[], None]) -> None:
    """Run native code on another thread: the main thread stays free for signals, whose handlers can't run in the middle of it."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if failure:
        raise failure[0]
