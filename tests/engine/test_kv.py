"""Accounting of the cache: what slots share, what is remembered, who is evicted, and that no cell is promised twice."""

from __future__ import annotations

import random

import pytest

from services.engine import kv
from services.engine.kv import KVCache
from services.engine.store import Store
from tests.engine.scripted import ScriptedMemory

SYSTEM = list(range(1000, 1400))


class Cache(KVCache):
    """A cache with its memory in step, as the model keeps it."""

    def __init__(self, cells: int, slots: int, most: int = 1, store: int = 0) -> None:
        self.native = ScriptedMemory(slots)
        super().__init__(self.native, cells, slots, most, Store(store))

    def compute(self, slot: int, tokens: list[int]) -> None:
        """A decode writes its tokens into new cells, then the books follow."""
        assert self.reserve(len(tokens))
        self.native.extend(slot, tokens)
        assert self.native.used <= self.cells
        self.append(slot, tokens)
        self.check()

    def run(self, tokens: list[int], answer: list[int] | None = None, adapter: str = "") -> int:
        """A whole request: a prompt, perhaps an answer; returns the reused tokens."""
        slot, reused = self.acquire(tokens, adapter)
        self.compute(slot, tokens[reused:] + (answer or []))
        self.release(slot)
        self.check()
        return reused

    def lengths(self) -> list[int]:
        return [slot.length for slot in self._slots]

    def check(self) -> None:
        """The tree is an exact picture of the cells."""
        assert self.used == self.native.used <= self.cells
        for slot in range(self.slots):
            assert self.held(slot) == self.native.tokens(slot)
        nodes, running = set(), set()
        for slot in self._slots:
            for node in slot.leaf.path():
                assert slot.number in node.slots and node.tokens and node.parent
                assert node.parent.children[node.tokens[0]] is node
                nodes.add(node)
                if slot.running:
                    running |= {self.native.slots[slot.number][position] for position in range(slot.length)}
        assert self.used == sum(len(node.tokens) for node in nodes)
        assert self.available == self.cells - len(running)


def test_a_conversation_goes_on_where_it_was() -> None:
    cache = Cache(100, 3)
    assert cache.run([1, 2, 3, 4], [5, 6]) == 0
    assert cache.run([1, 2, 3, 4, 5, 6, 7, 8]) == 6
    assert cache.used == 8


def test_the_last_token_is_always_computed() -> None:
    """Its logits are needed. What it is computed to is what was there: nothing is held twice."""
    cache = Cache(100, 3)
    cache.run([1, 2, 3], [4, 5])
    assert cache.run([1, 2, 3]) == 2
    assert cache.run([1]) == 0
    assert cache.used == 5


def test_a_thought_that_the_template_strips_does_not_lose_the_conversation() -> None:
    """The next turn repeats the question, but not the thought and neither the tag that opened it."""
    cache = Cache(1000, 3)
    question, thought, answer = list(range(100, 140)), list(range(500, 700)), list(range(700, 730))
    cache.run([*question, 1, 2], [*thought, *answer])
    assert cache.run([*question, 1, *answer, 3, 4]) == 41


def test_two_that_run_share_what_they_have_in_common_in_the_middle_of_an_edge() -> None:
    cache = Cache(1000, 4, 3)
    first, _ = cache.acquire([*SYSTEM, 1, 2])
    cache.compute(first, [*SYSTEM, 1, 2])
    second, reused = cache.acquire([*SYSTEM[:300], 7, 8])
    assert second != first and reused == 300
    cache.compute(second, [7, 8])
    assert cache.used == 402 + 2 and cache.available == 1000 - 404
    third, reused = cache.acquire([*SYSTEM, 1, 5])
    assert reused == 401 and cache.free_slots == 0
    cache.release(first)
    assert cache.available == 1000 - 403  # the third still holds all but one of the first's tokens
    cache.drop(third)
    cache.check()
    assert cache.available == 1000 - 302


def test_the_need_of_a_sequence_counts_what_running_ones_have() -> None:
    cache = Cache(1000, 4, 3)
    cache.run([*SYSTEM, 1])
    assert cache.missing([*SYSTEM, 2]) == 401  # nobody runs: what is remembered may be evicted
    cache.acquire([*SYSTEM, 2])
    assert cache.missing([*SYSTEM, 3]) == 1
    assert cache.missing([*SYSTEM, 3], "poet") == 401


def test_what_another_one_computes_meanwhile_is_taken_over() -> None:
    cache = Cache(1000, 4, 2)
    first, _ = cache.acquire([*SYSTEM, 1])
    second, reused = cache.acquire([*SYSTEM, 2])
    assert reused == 0
    cache.compute(first, SYSTEM[:200])
    assert cache.extend(second, [*SYSTEM, 2]) == 200
    cache.compute(first, [*SYSTEM[200:], 1])
    assert cache.extend(second, [*SYSTEM, 2]) == 400
    cache.compute(second, [2])
    assert cache.used == 402


def test_the_same_text_computed_twice_is_held_once() -> None:
    cache = Cache(1000, 4, 2)
    first, _ = cache.acquire([1, 2, 3, 4, 9])
    second, _ = cache.acquire([1, 2, 3, 5, 9])
    cache.compute(first, [1, 2, 3, 4])
    cache.native.extend(second, [1, 2, 3, 5])  # in the same step
    cache.append(second, [1, 2, 3, 5])
    cache.check()
    assert cache.used == 5


def test_adapters_share_nothing() -> None:
    cache = Cache(1000, 4, 2)
    cache.run(SYSTEM)
    assert cache.run(SYSTEM, adapter="poet") == 0
    assert cache.run(SYSTEM, adapter="poet") == 399
    assert cache.used == 800


def test_without_an_empty_slot_the_least_recently_used_goes_but_not_the_one_that_goes_on() -> None:
    cache = Cache(100, 2)
    cache.run([1, 1, 1])
    cache.run([2, 2, 2])
    assert cache.run([1, 1, 1, 1]) == 3
    cache.run([3, 3, 3])
    assert cache.run([1, 1, 1, 1, 1]) == 4
    assert cache.run([2, 2, 2, 2]) == 0


def test_room_is_made_from_the_oldest_first_and_from_its_end() -> None:
    cache = Cache(12, 3)
    cache.run([1, 1, 1, 1])
    cache.run([2, 2, 2, 2])
    slot, _ = cache.acquire([3, 3, 3, 3, 3, 3])
    assert cache.available == 12
    cache.compute(slot, [3] * 6)
    assert cache.lengths() == [2, 4, 6]
    assert cache.available == 6 and cache.reserve(4)
    assert cache.lengths() == [0, 2, 6]
    assert not cache.reserve(7) and cache.lengths() == [0, 2, 6]


def test_what_runs_is_not_evicted_and_neither_is_what_it_shares() -> None:
    cache = Cache(500, 4, 2)
    cache.run([*SYSTEM, 1, 2, 3])
    slot, reused = cache.acquire([*SYSTEM, 4])
    assert reused == 400
    cache.compute(slot, [4] * 99)
    cache.check()
    assert cache.used == 500 and cache.reserve(1) and not cache.reserve(2)
    assert cache.held(slot) == [*SYSTEM, *[4] * 99]


def test_a_dropped_sequence_gives_its_cells_back_at_once() -> None:
    cache = Cache(10, 2)
    slot, _ = cache.acquire([1] * 8)
    cache.compute(slot, [1] * 8)
    cache.drop(slot)
    assert cache.used == 0 and cache.available == 10 and cache.free_slots == 1


def test_what_is_evicted_comes_back_from_the_store() -> None:
    cache = Cache(500, 3, store=1 << 20)
    cache.run([*SYSTEM, 1])
    cache.run([5] * 300)
    assert len(cache.store) == 1 and cache.lengths().count(0) == 2
    assert cache.run([*SYSTEM, 2, 3]) == 400
    assert cache.run([*SYSTEM, 2, 4]) == 401
    assert len(cache.store) == 1  # the fives went there meanwhile
    assert cache.run([*[5] * 300, 6]) == 300


def test_the_store_is_bounded_and_forgets_the_oldest() -> None:
    cache = Cache(500, 3, store=4 * 900)
    for number in range(5):
        cache.run([number] * 400)
    assert cache.store.used <= 4 * 900 and len(cache.store) == 2
    assert cache.run([0] * 401) == 0
    assert cache.run([3] * 401) == 400


def test_short_sequences_are_not_worth_the_store() -> None:
    cache = Cache(150, 3, store=1 << 20)
    cache.run([1] * (kv.WORTH_KEEPING - 1))
    cache.run([2] * 120)
    assert len(cache.store) == 0


@pytest.mark.parametrize("seed", range(60))
def test_random_use_keeps_exact_books(seed: int) -> None:
    """Any order of beginnings, steps, ends and evictions, with much in common; the store as well."""
    source = random.Random(seed)
    most, cells = source.randint(1, 4), source.randint(10, 80)
    cache = Cache(cells, most + source.randint(1, 3), most, store=source.choice([0, 100, 10_000]))
    running: dict[int, list[int]] = {}
    kv_worth = kv.WORTH_KEEPING, kv.WORTH_LOADING
    kv.WORTH_KEEPING, kv.WORTH_LOADING = 3, 2
    try:
        for _ in range(300):
            match source.choice("aaggggred"):
                case "a" if cache.free_slots:
                    tokens = source.choices([1, 2], weights=[5, 1], k=source.randint(1, cells))
                    slot, reused = cache.acquire(tokens, source.choice(["", "", "", "poet"]))
                    assert slot not in running and reused < len(tokens)
                    assert cache.held(slot) == tokens[:reused]
                    running[slot] = tokens
                case "g" if running:
                    slot = source.choice(list(running))
                    held = cache.held(slot)
                    following = running[slot][len(held) :][: source.randint(1, 9)] or source.choices([1, 2], k=source.randint(1, 3))
                    assert cache.reserve(len(following)) == (len(following) <= cache.available), seed
                    if len(following) <= cache.available:
                        cache.compute(slot, following)
                        running[slot] = [*running[slot][: len(held)], *following, *running[slot][len(held) + len(following) :]]
                case "e" if running:
                    slot = source.choice(list(running))
                    if len(cache.held(slot)) < len(running[slot]):
                        before = len(cache.held(slot))
                        assert before <= cache.extend(slot, running[slot]) < len(running[slot])
                case "r" if running:
                    slot = source.choice(list(running))
                    del running[slot]
                    cache.release(slot)
                case "d" if running:
                    slot = source.choice(list(running))
                    del running[slot]
                    cache.drop(slot)
                    assert cache.held(slot) == []
            cache.check()
            assert cache.free_slots == most - len(running)
            for slot, tokens in running.items():
                assert cache.held(slot) == tokens[: len(cache.held(slot))]
    finally:
        kv.WORTH_KEEPING, kv.WORTH_LOADING = kv_worth
