"""Who is computed in the next step: one token of every sequence that writes, then prompt chunks in the room that is left.

Owns the waiting line and the set of running sequences. Plain Python: knows nothing of llama_cpp, sockets or text.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from services.engine.kv import KVCache
from services.engine.prefix import common_prefix
from services.engine.sequence import Sequence

WORTH_WAITING = 32  # tokens that another one is about to compute, from which it pays to wait for them
AGEING = 50.0  # a second of waiting counts as so many tokens fewer to read
BESIDE = 8  # while others write, each prompt gets a step's tokens divided by this, so that nobody's text stalls
TILE = 16  # llama.cpp's matrix kernels take so many tokens in the time that one more costs
USERS = 1000  # users whose turns are remembered
QUIET = 64  # tokens of a step for no request: whoever comes cuts it short, and then they are lost
KEPT = 8  # background sequences that may wait for a quiet moment


@dataclass(frozen=True)
class Chunk:
    """`count` tokens of a sequence from its first uncomputed one on, then guesses of what follows; `last`: the next token can
    be sampled afterwards."""

    sequence: Sequence
    count: int
    draft: tuple[int, ...] = ()

    @property
    def last(self) -> bool:
        return self.count == self.sequence.pending and not self.sequence.background

    @property
    def size(self) -> int:
        return self.count + len(self.draft)

    @property
    def slot(self) -> int:
        assert self.sequence.slot is not None  # only running sequences are scheduled
        return self.sequence.slot

    @property
    def tokens(self) -> list[int]:
        start = self.sequence.computed
        return self.sequence.tokens[start : start + self.count] + list(self.draft)


class Scheduler:
    """The order in which requests start is fair between users; prompts are read shortest first, and who waits gets nearer.

    `draft` guesses what a writing sequence says next, given how many tokens may be guessed.
    """

    def __init__(self, kv: KVCache, *, step: int, queue: int, draft: Callable[[Sequence, int], tuple[int, ...]] | None = None) -> None:
        self.waiting: list[Sequence] = []  # in the order in which they will start
        self.running: list[Sequence] = []
        self.preempted = 0  # times that a sequence had to give way
        self._background: list[Sequence] = []
        self._kv = kv
        self._step = step
        self._queue = queue
        self._draft = draft
        self._steps = 0
        self._served: dict[str, int] = {}  # adapter → the step in which it had its turn
        self._last: dict[str, float] = {}  # user → when a request of theirs started last; the latest USERS

    @property
    def room(self) -> int:
        """How many more requests may come: those that may wait, and those for whom a slot is free."""
        return self._queue + self._kv.free_slots - len(self.waiting)

    def add(self, sequence: Sequence) -> None:
        """Put a request into the line, or a background sequence aside for a quiet moment."""
        if sequence.background:
            self._background.append(sequence)
            del self._background[:-KEPT]
            return
        self.waiting.append(sequence)
        self._sort()

    def admit(self) -> None:
        """Start waiting sequences while there is a slot and room for all their tokens and one more."""
        while self.waiting:
            self._rest()
            sequence = self.waiting[0]
            if not self._kv.free_slots:
                return
            promised = sum(s.pending for s in self.running)
            if self._kv.missing(sequence.tokens, sequence.adapter) + 1 > self._kv.available - promised:
                return
            self.waiting.pop(0)
            self._start(sequence)
            self.running.append(sequence)
            self._sort()

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step, with the cells for them reserved. Pre-empts the youngest when there is no room."""
        while self.running:
            chunks = self._plan()
            if self._kv.reserve(sum(chunk.size for chunk in chunks)):
                return chunks
            chunks = [Chunk(chunk.sequence, chunk.count) for chunk in chunks]
            if self._kv.reserve(sum(chunk.size for chunk in chunks)):
                return chunks
            self._preempt(self.running[-1])
        return []

    def quiet(self) -> list[Chunk]:
        """What to compute when no request runs or waits: a chunk of the latest background sequence, if there is one."""
        while self._background:
            sequence = self._background[-1]
            if sequence.slot is None:
                if self._kv.missing(sequence.tokens, sequence.adapter) > self._kv.available:
                    self._background.pop()
                    continue
                self._start(sequence)
            count = min(self._step, QUIET, sequence.pending)
            # its last token gets no logits, so all of it may come from elsewhere
            if sequence.pending > 1 and self._kv.reserve(count):
                return [Chunk(sequence, count)]
            self._rest()
            self._background.pop()
        return []

    def computed(self, chunk: Chunk, accepted: int = 0) -> None:
        """A chunk has gone through the model, and so many of its guesses were right."""
        self._kv.append(chunk.slot, chunk.tokens[: chunk.count + accepted])
        chunk.sequence.computed += chunk.count + accepted

    def remove(self, sequence: Sequence) -> None:
        """Finished, failed or cancelled: out of the line or the step; what is computed is remembered."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._stop(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._sort()

    def _start(self, sequence: Sequence) -> None:
        self._last.pop(sequence.user, None)
        self._last[sequence.user] = time.monotonic()
        if len(self._last) > USERS:
            del self._last[next(iter(self._last))]
        sequence.slot, sequence.computed = self._kv.acquire(sequence.tokens, sequence.adapter)
        if sequence.started is None:
            sequence.started, sequence.cached = time.monotonic(), sequence.computed

    def _stop(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self._kv.release(sequence.slot)
        sequence.slot = None

    def _rest(self) -> None:
        """The background sequence that was being read gives its slot back; what is read of it is remembered."""
        for sequence in self._background:
            if sequence.slot is not None:
                self._stop(sequence)

    def _sort(self) -> None:
        """Who was pre-empted comes first; then each user's next in turn, by how many of theirs run or wait before it; among equals
        whoever has waited longest for a turn."""
        turns = Counter(s.user for s in self.running)
        turn = {}
        for sequence in sorted(self.waiting, key=lambda s: s.arrived):
            turn[sequence] = -1 if sequence.started is not None else turns[sequence.user]
            turns[sequence.user] += 1
        self.waiting.sort(key=lambda s: (turn[s], self._last.get(s.user, 0.0), s.arrived))

    def _plan(self) -> list[Chunk]:
        writing = [s for s in self.running if s.decoding]
        reading = self._readers()
        # when not all fit into a step, those who are behind come first, and somebody may always read
        writing.sort(key=lambda s: s.generated)
        writing = writing[: self._step - bool(reading)]
        adapter = self._turn(writing + reading)
        chunks = [Chunk(s, 1) for s in writing if s.adapter == adapter]
        reading = [s for s in reading if s.adapter == adapter]
        room = self._step - len(chunks)
        if chunks:
            room = min(room, max(TILE, self._step // BESIDE) * len(reading))
            room = max(room - (len(chunks) + room) % TILE, min(room, TILE))
        for sequence in reading:
            if room <= 0:
                break
            count = min(room, sequence.pending)
            chunks.append(Chunk(sequence, count))
            room -= count
        if self._draft and not reading:
            chunks = [Chunk(c.sequence, 1, self._draft(c.sequence, len(chunks))) for c in chunks]
        return chunks

    def _readers(self) -> list[Sequence]:
        """Those who read their prompts, without those for whom another one computes what they have in common."""
        now = time.monotonic()
        reading = [s for s in self.running if not s.decoding]
        reading.sort(key=lambda s: (s.generated == 0, s.pending - AGEING * (now - s.arrived)))
        leading: list[Sequence] = []
        for sequence in reading:
            assert sequence.slot is not None
            had = sequence.computed
            sequence.computed = self._kv.extend(sequence.slot, sequence.tokens)
            if sequence.generated == 0:
                sequence.cached += sequence.computed - had
            if not any(self._follows(sequence, other) for other in leading):
                leading.append(sequence)
        return leading

    def _follows(self, sequence: Sequence, other: Sequence) -> bool:
        """Is the other one about to compute what this one needs?"""
        if sequence.adapter != other.adapter:
            return False
        common = min(common_prefix(sequence.tokens, other.tokens), len(sequence.tokens) - 1)
        return common > other.computed and common >= sequence.computed + WORTH_WAITING

    def _turn(self, sequences: list[Sequence]) -> str:
        """One step is computed with one adapter: those that have work take turns."""
        adapters = {s.adapter for s in sequences}
        adapter = min(adapters, key=lambda name: self._served.get(name, 0))
        self._steps += 1
        self._served[adapter] = self._steps
        return adapter

    def _preempt(self, sequence: Sequence) -> None:
        """Take a sequence's cells back; it returns to the head of the line and is computed again, its answer so far included."""
        self.preempted += 1
        self.running.remove(sequence)
        self._stop(sequence)
        sequence.computed = 0
        self.waiting.append(sequence)
        self._sort()
