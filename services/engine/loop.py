"""Does a text repeat itself without end, as distilled reasoning models do when they are lost? Plain Python over tokens."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 256  # tokens of a part that is repeated
EVERY = 16  # tokens between two looks


def repeats(tokens: Sequence[int], *, times: int, least: int) -> bool:
    """Is the end of `tokens` one part of at most LONGEST tokens, `times` times over and at least `least` tokens long in all?"""
    size = len(tokens)
    for period in range(1, min(LONGEST, size // times) + 1):
        length = max(times * period, least)
        if length > size or tokens[-1] != tokens[-1 - period]:
            continue
        if tokens[size - length : size - period] == tokens[size - length + period :]:
            return True
    return False
