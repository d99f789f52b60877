"""How fast one prepared file computes with so many threads and such a batch: measured in a child process of its own.

The child (`python -m scripts.benchmark.probe JOB`, one JSON object on standard output) gives its memory back by ending, and takes
only itself along when native code aborts. Knows nothing of what the figures are compared with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.shared.settings import ROOT

if TYPE_CHECKING:
    from services.engine.native import NativeModel
    from services.engine.sequence import Sequence

SEQUENCES = 4  # that write together
WARM_UP = 16  # tokens that are computed before anything is timed
SECONDS, BYTES_A_SECOND = 1800.0, 20e6  # the longest wait: SECONDS, and what a slow disk needs to read the file


class ProbeError(Exception):
    """The file can't be measured so: it does not load, or native code takes the child down."""


@dataclass(frozen=True)
class Job:
    """What to measure. `context`, `cells`, `batch` and `threads` as in [engine]; `prompt` and `tokens` are read and written."""

    path: str
    context: int
    cells: int
    batch: int
    threads: int
    prompt: int
    tokens: int


@dataclass(frozen=True)
class Figures:
    """`prefill`, `decode` of one sequence and `together`, decode of SEQUENCES in one batch, in tokens/s; `memory`, the child's peak
    in MB; `prompt` and `tokens`, how many tokens were read and then written."""

    prefill: float
    decode: float
    together: float
    memory: float
    prompt: int
    tokens: int


def probe(job: Job) -> Figures:
    """Measure in a child process.

    Raises:
        ProbeError: it can't be measured.
    """
    wait = SECONDS + Path(job.path).stat().st_size / BYTES_A_SECOND
    command = [sys.executable, "-m", "scripts.benchmark.probe", json.dumps(dataclasses.asdict(job))]
    try:
        child = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=wait, check=False)
    except subprocess.TimeoutExpired:
        raise ProbeError(f"not measured within {wait:.0f} seconds") from None
    lines = child.stderr.decode("utf-8", "replace").strip().splitlines()
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        if name == "SIGKILL":
            raise ProbeError("the system stopped it with SIGKILL, most likely for want of memory")
        cause = next((line for line in lines if "GGML_ASSERT" in line), "no reason given")
        raise ProbeError(f"native code crashed with {name}: {cause}")
    try:
        answer = json.loads(child.stdout)
        if "error" in answer:
            raise ProbeError(answer["error"])
        return Figures(**answer)
    except (json.JSONDecodeError, TypeError):
        raise ProbeError(f"ended with status {child.returncode}: {lines[-1] if lines else 'no reason given'}") from None


def _measure(job: Job) -> Figures:
    """The work itself."""
    from services.engine.native import NativeModel
    from services.engine.pages import enlarge

    model = NativeModel(Path(job.path), context=job.context, cells=job.cells, slots=SEQUENCES, step=job.batch, threads=job.threads)
    enlarge()
    tokens = min(job.tokens, model.context // 2)
    length = min(job.prompt, model.context - tokens)
    each = min(tokens, (model.cells - length) // SEQUENCES)
    draw = random.Random(0)  # any text does: computing takes as long for one token as for another
    prompt = [draw.randrange(model.vocabulary.size) for _ in range(length)]
    read(model, prompt[:WARM_UP])
    model.remove(0, 0, -1)

    began = time.perf_counter()
    sequence = read(model, prompt)
    prefill = time.perf_counter() - began
    decode = _write(model, [sequence], tokens)
    model.remove(0, length, -1)
    sequences = [begin(model, prompt, slot) for slot in range(SEQUENCES)]
    for other in sequences:
        other.computed = length
        if other.slot:
            model.share(0, other.slot, 0, length)
    together = _write(model, sequences, each)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return Figures(length / prefill, tokens / decode, SEQUENCES * each / together, peak, length, tokens)


def begin(model: NativeModel, prompt: list[int], slot: int) -> Sequence:
    """A sequence of which nothing is computed, to be sampled greedily."""
    from services.engine.sequence import Sequence
    from services.engine.text import TextStream
    from services.shared.wire import Sampling

    sampler = model.sampler(Sampling(temperature=0))
    return Sequence(slot, list(prompt), model.context, sampler, TextStream(), ignore_eos=True, slot=slot)


def read(model: NativeModel, prompt: list[int]) -> Sequence:
    """Prefill slot 0, a batch at a time."""
    from services.engine.scheduler import Chunk

    sequence = begin(model, prompt, 0)
    while sequence.pending:
        count = min(model.step, sequence.pending)
        model.decode([Chunk(sequence, count)])
        sequence.computed += count
    return sequence


def _write(model: NativeModel, sequences: list[Sequence], steps: int) -> float:
    """Seconds for so many tokens of each sequence, all of them in one batch at each step, sampled greedily."""
    from services.engine.scheduler import Chunk

    for sequence in sequences:
        sequence.tokens.append(sequence.tokens[0])
    began = time.perf_counter()
    for _ in range(steps):
        rows = model.decode([Chunk(sequence, 1) for sequence in sequences])
        for sequence, (row,) in zip(sequences, rows, strict=True):
            sequence.computed += 1
            sequence.tokens.append(sequence.sampler.sample(row))
    return time.perf_counter() - began


def _main(text: str) -> int:
    from services.engine.native import ModelError

    with contextlib.redirect_stdout(sys.stderr):
        try:
            answer = dataclasses.asdict(_measure(Job(**json.loads(text))))
        except ModelError as error:
            answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
