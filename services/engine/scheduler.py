"""Who is computed in the next step: one token of every sequence that writes, then prompt chunks in the room that is left.

Owns the waiting line and the set of running sequences. Plain Python: knows nothing of llama_cpp, sockets or text.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from services.engine.kv import KVCache
from services.engine.sequence import Sequence


@dataclass(frozen=True)
class Chunk:
    """`count` tokens of a sequence from its first uncomputed one on; `last`: the next token can be sampled afterwards."""

    sequence: Sequence
    count: int

    @property
    def last(self) -> bool:
        return self.count == self.sequence.pending

    @property
    def slot(self) -> int:
        assert self.sequence.slot is not None  # only running sequences are scheduled
        return self.sequence.slot

    @property
    def tokens(self) -> list[int]:
        start = self.sequence.computed
        return self.sequence.tokens[start : start + self.count]


class Scheduler:
    """First come, first served; while others write, a long prompt is read in small chunks so that they don't stall."""

    def __init__(self, kv: KVCache, *, step: int, queue: int) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._kv = kv
        self._step = step
        self._queue = queue

    @property
    def full(self) -> bool:
        """The waiting line is as long as it may be, not counting those for whom a slot is free."""
        return len(self.waiting) >= self._queue + self._kv.free_slots

    def add(self, sequence: Sequence) -> None:
        """Put a request at the end of the line."""
        self.waiting.append(sequence)

    def admit(self) -> None:
        """Start waiting sequences while there is a slot and room for all their tokens and one more."""
        while self.waiting and self._kv.free_slots:
            sequence = self.waiting[0]
            promised = sum(s.pending for s in self.running)
            if len(sequence.tokens) + 1 > self._kv.available - promised:
                return
            self.waiting.popleft()
            sequence.slot, sequence.computed = self._kv.acquire(sequence.tokens)
            if sequence.started is None:
                sequence.started, sequence.cached = time.monotonic(), sequence.computed
            self.running.append(sequence)

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step, with the cells for them reserved. Pre-empts the youngest when there is no room."""
        while self.running:
            chunks = self._plan()
            if self._kv.reserve(sum(chunk.count for chunk in chunks)):
                return chunks
            self._preempt(self.running[-1])
        return []

    def computed(self, chunk: Chunk) -> None:
        """A chunk has gone through the model."""
        self._kv.append(chunk.slot, chunk.tokens)
        chunk.sequence.computed += chunk.count

    def remove(self, sequence: Sequence) -> None:
        """Finished, failed or cancelled: out of the line or the step; what is computed is remembered."""
        if sequence in self.running:
            self.running.remove(sequence)
            assert sequence.slot is not None
            self._kv.release(sequence.slot)
            sequence.slot = None
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def _plan(self) -> list[Chunk]:
        writing = [s for s in self.running if s.decoding]
        reading = [s for s in self.running if not s.decoding]
        # when not all fit into a step, those who are behind come first, and somebody may always read
        writing.sort(key=lambda s: s.generated)
        chunks = [Chunk(s, 1) for s in writing[: self._step - bool(reading)]]
        room = self._step - len(chunks)
        if writing:
            room = min(room, max(16, self._step // 8))
        for sequence in reading:
            if room <= 0:
                break
            count = min(room, sequence.pending)
            chunks.append(Chunk(sequence, count))
            room -= count
        return chunks

    def _preempt(self, sequence: Sequence) -> None:
        """Take a sequence's cells back; it returns to the head of the line and is computed again, its answer so far included."""
        assert sequence.slot is not None
        self.running.remove(sequence)
        self._kv.drop(sequence.slot)
        sequence.slot, sequence.computed = None, 0
        self.waiting.appendleft(sequence)
