"""Which value of a setting to propose, from the rounds in which each was measured. Pure: knows numbers, not what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

LEAST = 0.03  # a gain below this share is none, however quiet the machine
Value = TypeVar("Value")


def spread(rounds: Sequence[float]) -> float:
    """How far the rounds lie apart: greatest less least."""
    return max(rounds) - min(rounds)


def better(rounds: Sequence[float], than: Sequence[float]) -> bool:
    """Whether the median is greater by more than both spreads and by more than LEAST. Of a single round no spread is known, so it
    is never better."""
    if min(len(rounds), len(than)) < 2:
        return False
    middle = statistics.median(than)
    gain = statistics.median(rounds) - middle
    return gain > max(spread(rounds), spread(than)) and gain > LEAST * middle


def choose(measured: Mapping[Value, Sequence[float]], present: Value) -> Value:
    """The present value unless others are better; of these the first, in the order given, than which none is better.

    Args:
        measured: rounds of every value that could be measured; at least one. The value that is to be taken among equals comes first.
        present: the value that is set. Where it could not be measured, all others count as better.
    """
    there = measured.get(present)
    winners = {value: rounds for value, rounds in measured.items() if there is None or better(rounds, there)}
    if not winners:
        return present
    best = max(winners.values(), key=statistics.median)
    return next(value for value, rounds in winners.items() if not better(best, rounds))
