"""Guesses on a model that copies its prompt: nearly all come true, and the answer is the one without them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.benchmark.prompts import Prompts
from services.engine.native import NativeModel
from services.engine.speculation import Speculation
from services.shared import wire
from tests import copying
from tests.conftest import ROOT, environment
from tests.engine.test_native import Bench

TOKENS = 150


@pytest.fixture(scope="module")
def copier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeModel]:
    """The small copying checkpoint, prepared by init and loaded."""
    home: Path = tmp_path_factory.mktemp("copying")
    folder = copying.write(home / "copying", copying.SMALL)
    command = [sys.executable, "-m", "services.init", "--model", str(folder), "--quant", "q8_0"]
    subprocess.run(command, cwd=ROOT, env=environment(home), check=True, capture_output=True, timeout=600)
    yield NativeModel(home / "volume/current/model.gguf", context=1024, cells=2048, slots=20, step=256, threads=min(2, os.cpu_count() or 1))


class Eager(Speculation):
    """Tries all guesses, whether they pay or not: how long a step takes is no matter of these tests."""

    def _worth(self, right: float, most: int, writers: int) -> int:
        return most


def test_a_copy_is_guessed_and_stays_the_same(copier: NativeModel) -> None:
    question = Prompts(7, "copy", 1).copy()[0]["content"]
    plain = Bench(copier).ask(question, max_tokens=TOKENS)
    words = plain.replace(".", "").split()
    assert len(words) > TOKENS / 2 and set(words) <= set(question.replace(".", "").split()), "the model does not copy"
    bench = Bench(copier, speculate=True)
    bench.engine.speculation = Eager()
    assert bench.ask(question, max_tokens=TOKENS) == plain
    end = bench.ends["ask 0"]
    assert isinstance(end, wire.Finished) and end.accepted_tokens > TOKENS / 2
    assert end.accepted_tokens > 0.7 * end.drafted_tokens
