"""What counts as a text that goes round in circles, and what does not."""

from __future__ import annotations

import random

from services.engine.loop import LONGEST, repeats


def test_a_part_that_is_repeated_often_enough() -> None:
    begin = list(range(1000, 1100))
    for period in (1, 2, 7, 40, LONGEST):
        part = list(range(period))
        times = max(4, -(-160 // period))
        assert repeats(begin + part * times, times=4, least=160)
        assert not repeats(begin + (part * times)[1:], times=times, least=160)
        assert not repeats([*begin, *part * times, 5000], times=4, least=160)


def test_a_part_that_is_too_long_or_too_seldom() -> None:
    assert not repeats(list(range(LONGEST + 1)) * 6, times=4, least=160)
    assert not repeats([1] * 159, times=4, least=160)
    assert repeats([1] * 160, times=4, least=160)
    assert not repeats([], times=4, least=160)


def test_text_that_only_resembles_itself() -> None:
    source = random.Random(1)
    for _ in range(50):
        assert not repeats(source.choices(range(5), k=2000), times=4, least=160)
