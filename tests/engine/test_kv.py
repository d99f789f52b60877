"""Accounting of the cache: what a slot remembers, who is evicted, and that it never promises cells it has not."""

from __future__ import annotations

import random

import pytest

from services.engine.kv import KVCache, common_prefix


class FakeMemory:
    """The native cache: lengths only, and refuses to forget what it does not hold."""

    def __init__(self, slots: int) -> None:
        self.lengths = [0] * slots

    def truncate(self, slot: int, length: int) -> None:
        assert 0 <= length < self.lengths[slot], "nothing to forget"
        self.lengths[slot] = length


class Cache(KVCache):
    """A cache with its memory in step, as the model keeps it."""

    def __init__(self, cells: int, slots: int) -> None:
        self.memory = FakeMemory(slots)
        super().__init__(self.memory, cells, slots)

    def append(self, slot: int, tokens: list[int]) -> None:
        super().append(slot, tokens)
        self.memory.lengths[slot] += len(tokens)
        assert sum(self.memory.lengths) <= self.cells

    def run(self, tokens: list[int], answer: list[int] | None = None) -> int:
        """A whole request: a prompt, perhaps an answer; returns the reused tokens."""
        slot, reused = self.acquire(tokens)
        rest = tokens[reused:] + (answer or [])
        assert self.reserve(len(rest))
        self.append(slot, rest)
        self.release(slot)
        return reused


def test_common_prefix() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4], 9) == 2
    assert common_prefix([1, 2, 3], [1, 2, 3], 2) == 2
    assert common_prefix([1, 2], [1, 2, 3], 9) == 2
    assert common_prefix([], [1], 9) == 0
    assert common_prefix([1], [1], 0) == 0
    assert common_prefix([5], [6], 1) == 0


def test_a_conversation_goes_on_where_it_was() -> None:
    cache = Cache(100, 3)
    assert cache.run([1, 2, 3, 4], [5, 6]) == 0
    assert cache.run([1, 2, 3, 4, 5, 6, 7, 8]) == 6
    assert cache.used == 8


def test_the_last_token_is_always_computed() -> None:
    """Its logits are needed."""
    cache = Cache(100, 1)
    cache.run([1, 2, 3], [4, 5])
    assert cache.run([1, 2, 3]) == 2
    assert cache.run([1]) == 0


def test_a_thought_that_the_template_strips_does_not_lose_the_conversation() -> None:
    """The next turn repeats the question, but not the thought and neither the tag that opened it."""
    cache = Cache(1000, 2)
    question, thought, answer = list(range(100, 140)), list(range(500, 700)), list(range(700, 730))
    cache.run([*question, 1, 2], [*thought, *answer])
    assert cache.run([*question, 1, *answer, 3, 4]) == 41


def test_a_few_common_tokens_do_not_cost_another_conversation_its_cache() -> None:
    """All prompts of a model begin alike. While there is an empty slot, nobody's conversation is given up for that."""
    cache = Cache(1000, 3)
    first, second = [1, 2, *range(100, 300)], [1, 2, *range(300, 400)]
    cache.run(first)
    assert cache.run(second) == 0
    assert cache.run([*first, 7]) == 202
    assert cache.run([*second, 7]) == 102


def test_the_longest_of_several_is_continued() -> None:
    cache = Cache(100, 3)
    cache.run([1, 2, 3])
    cache.run([9, 8, 7, 6])
    assert cache.run([1, 2, 3, 4, 5]) == 3
    assert cache.run([9, 8, 7, 6, 5]) == 4


def test_without_an_empty_slot_the_least_recently_used_goes() -> None:
    cache = Cache(100, 2)
    cache.run([1, 1, 1])
    cache.run([2, 2, 2])
    cache.run([1, 1, 1, 1])
    cache.run([3, 3, 3])
    assert cache.run([1, 1, 1, 1, 1]) == 4
    assert cache.run([2, 2, 2, 2]) == 0


def test_a_slot_in_use_is_nobody_elses() -> None:
    cache = Cache(100, 2)
    first, _ = cache.acquire([1, 2, 3])
    cache.append(first, [1, 2, 3])
    second, reused = cache.acquire([1, 2, 3, 4])
    assert second != first and reused == 0
    assert cache.free_slots == 0


def test_room_is_made_from_the_oldest_first_and_from_its_end() -> None:
    cache = Cache(12, 3)
    cache.run([1, 1, 1, 1])
    cache.run([2, 2, 2, 2])
    slot, _ = cache.acquire([3, 3, 3, 3, 3, 3])
    assert cache.available == 12
    assert cache.reserve(6)
    assert cache.memory.lengths == [2, 4, 0]
    cache.append(slot, [3] * 6)
    assert cache.available == 6 and cache.reserve(4)
    assert cache.memory.lengths == [0, 2, 6]


def test_a_shortened_conversation_is_still_continued() -> None:
    cache = Cache(12, 3)
    cache.run([1, 2, 3, 4, 5, 6, 7, 8])
    cache.run([9] * 8)
    assert cache.memory.lengths == [4, 8, 0]
    assert cache.run([1, 2, 3, 4, 5]) == 4


def test_what_runs_is_not_evicted() -> None:
    cache = Cache(10, 2)
    slot, _ = cache.acquire([1] * 8)
    cache.append(slot, [1] * 8)
    assert not cache.reserve(3)
    assert cache.reserve(2)
    assert cache.memory.lengths[slot] == 8


def test_a_dropped_sequence_gives_its_cells_back_at_once() -> None:
    cache = Cache(10, 2)
    slot, _ = cache.acquire([1] * 8)
    cache.append(slot, [1] * 8)
    cache.drop(slot)
    assert cache.used == 0 and cache.available == 10 and cache.free_slots == 2


@pytest.mark.parametrize("seed", range(30))
def test_random_use_never_needs_more_cells_than_there_are(seed: int) -> None:
    source = random.Random(seed)
    slots, cells = source.randint(1, 5), source.randint(10, 60)
    cache = Cache(cells, slots)
    running: dict[int, int] = {}
    for _ in range(300):
        match source.choice("aagggrd"):
            case "a" if cache.free_slots:
                tokens = source.choices([1, 2], k=source.randint(1, cells))
                slot, reused = cache.acquire(tokens)
                assert slot not in running and reused < len(tokens)
                running[slot] = reused
            case "g" if running:
                slot, count = source.choice(list(running)), source.randint(1, 9)
                free = cells - sum(running.values())
                assert cache.available == free
                assert cache.reserve(count) == (count <= free), seed
                if count <= free:
                    cache.append(slot, source.choices([1, 2], k=count))
                    running[slot] += count
            case "r" if running:
                slot = source.choice(list(running))
                del running[slot]
                cache.release(slot)
            case "d" if running:
                slot = source.choice(list(running))
                del running[slot]
                cache.drop(slot)
                assert cache.memory.lengths[slot] == 0
        assert cache.used == sum(cache.memory.lengths) <= cells
        assert cache.free_slots == slots - len(running)
        assert all(cache.memory.lengths[slot] == length for slot, length in running.items())
