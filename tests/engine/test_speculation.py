"""Guesses are made where they pay, by the times that steps took and by how often guesses were right. No clock: times are told."""

from __future__ import annotations

from services.engine.sequence import NoSampler, Sequence
from services.engine.speculation import MOST, WRITERS, Speculation
from services.engine.text import TextStream

STEP = 0.03  # seconds without guesses


def copying() -> Sequence:
    """A text that stands there for the tenth time."""
    return Sequence("a", [*range(20)] * 10, 10_000, NoSampler(), TextStream())


def told(seconds: float) -> Speculation:
    """Knows steps without guesses, and that those with any take so long."""
    speculation = Speculation()
    speculation.timed(STEP, 1, 0)
    for drafted in range(1, MOST + 1):
        for _ in range(50):
            speculation.timed(seconds, 1, drafted)
    return speculation


def test_nothing_is_guessed_before_it_is_known_what_a_step_takes() -> None:
    assert Speculation().guess(copying(), MOST, 1) == []


def test_a_copy_is_guessed_as_far_as_a_tile_goes() -> None:
    assert told(1.3 * STEP).guess(copying(), MOST, 1) == [*range(MOST)]


def test_guesses_that_cost_more_than_they_bring_are_not_made() -> None:
    assert told((MOST + 2) * STEP).guess(copying(), MOST, 1) == []


def test_what_does_not_come_true_is_guessed_less_and_less() -> None:
    speculation, sequence, made = told(3 * STEP), copying(), []
    for _ in range(400):
        made.append(len(speculation.guess(sequence, MOST, 1)))
        speculation.learn(sequence, made[-1], 0)
    assert made[0] == MOST and sum(map(bool, made[100:])) < 300 / 8, made
    assert any(made[100:]), "it gets another chance now and then"


def test_with_many_who_write_nothing_is_guessed() -> None:
    speculation = told(1.3 * STEP)
    speculation.timed(STEP, WRITERS + 1, 0)
    assert speculation.guess(copying(), MOST, WRITERS + 1) == []
