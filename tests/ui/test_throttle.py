"""How long the next guess must wait, and for whom."""

from __future__ import annotations

import pytest

from services.ui import throttle
from services.ui.throttle import RULES, Kind, Rule, Throttle


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_few_failures_cost_nothing_then_each_costs_twice_as_much() -> None:
    rule = Rule(free=2, longest=9)
    assert [rule.delay(n) for n in range(8)] == [0, 0, 0, 1, 2, 4, 8, 9]
    assert Rule(2, 9).delay(100_000) == 9


@pytest.mark.parametrize("kind", list(RULES))
def test_guesses_wait_up_to_the_longest_of_their_kind(clock: Clock, kind: Kind) -> None:
    guesses, rule = Throttle(clock), RULES[kind]
    key, other = guesses.key(kind, "one"), guesses.key(kind, "two")
    for _ in range(rule.free):
        assert guesses.wait([key]) == 0
        guesses.failed([key])
    waits = []
    for _ in range(15):
        guesses.failed([key])
        waits.append(guesses.wait([key]))
        assert guesses.wait([other]) == 0, "nobody waits for another one's failures"
        clock.now += waits[-1]
        assert guesses.wait([key]) == 0
    assert waits[:3] == [1, 2, 4] and waits[-1] == rule.longest and waits == sorted(waits)
    clock.now += throttle.FORGET + 1
    guesses.failed([key])
    assert guesses.wait([key]) == 0, "a failure of yesterday is forgotten"


def test_the_longest_wait_of_all_keys_counts_and_a_right_guess_clears_the_name_alone(clock: Clock) -> None:
    guesses = Throttle(clock)
    keys = [guesses.key("address", "10.0.0.1"), guesses.key("name", "anna"), guesses.key("all")]
    for _ in range(12):
        guesses.failed(keys)
    assert guesses.wait(keys) == guesses.wait(keys[:1]) == 60 and guesses.wait(keys[1:]) == 2 and guesses.wait(keys[2:]) == 0
    guesses.passed(keys)
    assert guesses.wait(keys[1:]) == 0 and guesses.wait(keys) == 60
    assert guesses.wait([]) == 0


def test_what_is_counted_is_bounded_and_not_readable(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MOST", 100)
    guesses = Throttle(clock)
    for number in range(300):
        guesses.failed([guesses.key("name", f"a password typed as a name {number}")])
    assert len(guesses._failures) == 100 and "typed" not in repr(vars(guesses))
    assert Throttle(clock).key("name", "anna") != guesses.key("name", "anna")
