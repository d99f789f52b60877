"""Who is computed next: everybody who writes, prompts in the room that is left, nobody forgotten."""

from __future__ import annotations

import time
from typing import Any

from services.engine.kv import KVCache
from services.engine.scheduler import AGEING, Chunk, Scheduler
from services.engine.sequence import NoSampler, Sequence
from services.engine.text import TextStream


class NoMemory:
    def remove(self, slot: int, start: int, end: int) -> None:
        """Nothing is held."""

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Nothing is held."""

    def save(self, slot: int) -> bytes:
        raise AssertionError("there is no store")

    def load(self, slot: int, data: bytes) -> bool:
        raise AssertionError("there is no store")


class Bench:
    """A scheduler over an empty cache, and a clock that computes its chunks."""

    def __init__(self, *, cells: int = 1000, slots: int = 8, step: int = 32, queue: int = 4) -> None:
        self.kv = KVCache(NoMemory(), cells, slots + 2, slots)
        self.scheduler = Scheduler(self.kv, step=step, queue=queue)
        self.names = 0

    def add(self, length: int, limit: int = 10_000, *, shared: int = 0, **fields: Any) -> Sequence:
        """A request of so many tokens, the first `shared` of which all have."""
        self.names += 1
        tokens = [*range(shared), *(self.names * 1000 + n for n in range(shared, length))]
        sequence = Sequence(self.names, tokens, limit, NoSampler(), TextStream(), **fields)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> list[tuple[object, int]]:
        """Compute one step; whose last token was computed writes another one. Returns (name, count) of the chunks."""
        self.scheduler.admit()
        chunks = self.scheduler.schedule()
        done = [(chunk.sequence.key, chunk.count) for chunk in chunks]
        for chunk in chunks:
            last = chunk.last
            self.scheduler.computed(chunk)
            if last:
                chunk.sequence.tokens.append(0)
        return done


def test_a_chunk_knows_its_tokens_and_whether_it_is_the_last() -> None:
    bench = Bench()
    sequence = bench.add(5)
    bench.scheduler.admit()
    assert Chunk(sequence, 3).tokens == [1000, 1001, 1002] and not Chunk(sequence, 3).last
    sequence.computed = 3
    assert Chunk(sequence, 2).tokens == [1003, 1004] and Chunk(sequence, 2).last


def test_a_prompt_alone_takes_whole_steps() -> None:
    bench = Bench()
    bench.add(70)
    assert [bench.step() for _ in range(4)] == [[(1, 32)], [(1, 32)], [(1, 6)], [(1, 1)]]


def test_short_prompts_share_a_step() -> None:
    bench = Bench()
    for _ in range(3):
        bench.add(10)
    assert bench.step() == [(1, 10), (2, 10), (3, 10)]
    assert bench.step() == [(1, 1), (2, 1), (3, 1)]


def test_short_prompts_are_read_first_until_a_long_one_has_waited_for_long() -> None:
    bench = Bench(cells=10_000)
    long = bench.add(3000)
    assert bench.step() == [(1, 32)]
    bench.add(32)
    assert bench.step() == [(2, 32)]
    long.arrived = time.monotonic() - 3000 / AGEING  # and however many short ones come without end
    for number in range(3, 9):
        bench.add(32)
        assert dict(bench.step()).get(1, 0) >= 15, number


def test_a_long_prompt_does_not_stall_those_who_write() -> None:
    bench = Bench(step=256)
    bench.add(1)
    bench.step()
    bench.add(500)
    steps = [bench.step() for _ in range(5)]
    assert all(step[0] == (1, 1) for step in steps)
    assert [count for step in steps for name, count in step if name == 2] == [31] * 5  # with the writer a multiple of the kernels' tile


def test_many_prompts_get_more_of_a_step_than_one() -> None:
    """Those who arrive together shall write together: few writers use the cores badly."""
    bench = Bench(cells=10_000, slots=20, step=256)
    bench.add(1)
    bench.step()
    for _ in range(5):
        bench.add(300)
    assert [count for name, count in bench.step() if name != 1] == [159]
    for _ in range(10):
        bench.add(300)
    assert sum(count for _, count in bench.step()) == 256


def test_readers_of_another_adapter_get_no_share_of_this_step() -> None:
    bench = Bench(cells=10_000, slots=20, step=256)
    bench.add(1)
    bench.step()
    bench.add(300)
    for _ in range(5):
        bench.add(300, adapter="poet")
    steps = [bench.step() for _ in range(2)]
    assert sorted(sum(count for name, count in step if name != 1) for step in steps) == [31, 256]  # beside the writer, and alone


def test_a_reader_gets_on_however_many_write() -> None:
    bench = Bench(cells=10_000, slots=60)
    for _ in range(40):
        bench.add(1)
    bench.step()
    bench.step()
    reader = bench.add(20)
    for _ in range(60):
        assert sum(count for _, count in bench.step()) <= 32
    assert reader.generated > 0


def test_more_writers_than_a_step_holds_take_turns() -> None:
    bench = Bench(cells=10_000, slots=100)
    writers = [bench.add(1) for _ in range(80)]
    for _ in range(200):
        assert sum(count for _, count in bench.step()) <= 32
    counts = [sequence.generated for sequence in writers]
    assert max(counts) - min(counts) <= 1 and sum(counts) >= 200 * 30


def test_first_come_first_served() -> None:
    bench = Bench(slots=2)
    for _ in range(4):
        bench.add(3)
    bench.step()
    assert [s.key for s in bench.scheduler.running] == [1, 2]
    assert [s.key for s in bench.scheduler.waiting] == [3, 4]
    bench.scheduler.remove(bench.scheduler.running[0])
    bench.step()
    assert [s.key for s in bench.scheduler.running] == [2, 3]


def test_nobody_starts_without_room_for_the_whole_prompt() -> None:
    bench = Bench(cells=100)
    bench.add(60)
    bench.add(50)
    bench.add(5)
    bench.step()
    assert [s.key for s in bench.scheduler.running] == [1]  # nor does the short one overtake: it would be for ever
    bench.scheduler.remove(bench.scheduler.running[0])
    bench.step()
    assert [s.key for s in bench.scheduler.running] == [2, 3]


def test_without_room_the_youngest_gives_way_and_comes_first_again() -> None:
    bench = Bench(cells=70, slots=2)
    old, young, later = bench.add(30), bench.add(30), bench.add(1)
    bench.step()
    assert list(bench.scheduler.waiting) == [later]
    while young in bench.scheduler.running:
        bench.step()
        assert bench.kv.used <= 70
    assert list(bench.scheduler.waiting) == [young, later]
    assert young.slot is None and young.computed == 0 and young.generated > 0
    bench.scheduler.remove(old)
    written = young.generated
    bench.step()
    assert young.generated == written + 1  # its answer so far was computed again where it was evicted, not written again
    assert later.generated > 0


def test_a_removed_sequence_is_remembered_by_the_cache() -> None:
    bench = Bench()
    first = bench.add(5)
    bench.step()
    bench.scheduler.remove(first)
    assert bench.kv.used == 5 and bench.kv.available == 1000 and first.slot is None
    again = Sequence(9, [*first.tokens, 7], 100, NoSampler(), TextStream())
    bench.scheduler.add(again)
    bench.step()
    assert again.cached == 5


def test_removing_from_the_line() -> None:
    bench = Bench(slots=1)
    bench.add(3)
    waiting = bench.add(3)
    bench.step()
    bench.scheduler.remove(waiting)
    bench.scheduler.remove(waiting)
    assert not bench.scheduler.waiting and len(bench.scheduler.running) == 1


def test_the_line_is_full_beyond_the_free_slots() -> None:
    bench = Bench(slots=2, queue=1)
    for _ in range(3):
        assert bench.scheduler.room > 0
        bench.add(3)
    assert bench.scheduler.room <= 0
    bench.step()
    assert bench.scheduler.room <= 0  # two run, one waits
    bench.scheduler.remove(bench.scheduler.running[0])
    assert bench.scheduler.room > 0


def test_nothing_to_do() -> None:
    assert Bench().step() == []
