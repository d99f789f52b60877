"""Guesses on a model that copies its prompt: nearly all come true, and the answer is the one without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.benchmark.prompts import Prompts
from services.engine.native import NativeModel
from services.engine.speculation import Speculation
from services.shared import wire
from tests.engine.test_native import Bench

TOKENS = 150


@pytest.fixture(scope="module")
def copier(copying_volume: Path) -> NativeModel:
    """The small copying checkpoint, loaded."""
    path, threads = copying_volume / "current/model.gguf", min(2, os.cpu_count() or 1)
    return NativeModel(path, context=1024, cells=2048, slots=20, step=256, threads=threads)


class Eager(Speculation):
    """Tries all guesses, whether they pay or not: how long a step takes is no matter of these tests."""

    def _worth(self, right: float, most: int, writers: int) -> int:
        return most


def test_a_copy_is_guessed_and_stays_the_same(copier: NativeModel) -> None:
    question = Prompts(7, "copy", 1).copy()[0]["content"]
    plain = Bench(copier).ask(question, max_tokens=TOKENS)
    assert question.startswith(f"Text\n{plain.split()[0]} ") and plain.strip() in question, "the model does not copy"
    assert len(plain.split()) > TOKENS / 2
    bench = Bench(copier, speculate=True)
    bench.engine.speculation = Eager()
    assert bench.ask(question, max_tokens=TOKENS) == plain
    end = bench.ends["ask 0"]
    assert isinstance(end, wire.Finished) and end.accepted_tokens > TOKENS / 2
    assert end.accepted_tokens > 0.7 * end.drafted_tokens
