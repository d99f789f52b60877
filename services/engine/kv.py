"""Accounting of the KV cache: which slot holds which tokens, how many cells are free, what may be evicted.

A slot is one sequence id of the native cache. A slot that is not in use keeps its tokens until the room is needed, so that the
next turn of a conversation finds its prefix computed. Plain Python: the native cache is told through `Memory`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class Memory(Protocol):
    """The native cache. Lengths are tokens, counted from the beginning of the sequence."""

    def truncate(self, slot: int, length: int) -> None:
        """Forget everything of a slot from `length` on; 0 forgets all."""
        ...


@dataclass
class Slot:
    """Tokens whose keys and values are in the cache; `used` is a clock for least-recently-used eviction.

    `prompt` is how many of the tokens it was acquired for: the rest is an answer, which the next turn need not repeat.
    """

    number: int
    tokens: list[int] = field(default_factory=list)
    prompt: int = 0
    free: bool = True
    used: int = 0


class KVCache:
    """A pool of `cells` (one per token) shared by `slots` sequences."""

    def __init__(self, memory: Memory, cells: int, slots: int) -> None:
        self.cells = cells
        self._memory = memory
        self._slots = [Slot(number) for number in range(slots)]
        self._clock = 0

    @property
    def used(self) -> int:
        """Cells that hold a token, of running and of remembered sequences."""
        return sum(len(slot.tokens) for slot in self._slots)

    @property
    def available(self) -> int:
        """Cells that are empty or could be made so by evicting what no running sequence uses."""
        return self.cells - sum(len(slot.tokens) for slot in self._slots if not slot.free)

    @property
    def free_slots(self) -> int:
        """Slots that no running sequence holds."""
        return sum(slot.free for slot in self._slots)

    def acquire(self, tokens: list[int]) -> tuple[int, int]:
        """A slot for these tokens and how many of them, from the first, it holds already: (slot, reused).

        At most len(tokens) - 1 are reused: the last must be computed for its logits. Prefers the conversation that goes on here,
        then an empty slot, then the least recently used one. Call only while there are `free_slots`.
        """
        free = [slot for slot in self._slots if slot.free]
        shared = {slot.number: common_prefix(slot.tokens, tokens, len(tokens) - 1) for slot in free}
        # all prompts of a model begin alike, so a few common tokens are no reason to give up what another conversation has computed
        going_on = [slot for slot in free if slot.tokens and 2 * shared[slot.number] >= min(slot.prompt, len(slot.tokens))]
        slot = max(going_on, key=lambda s: shared[s.number], default=None) or min(free, key=lambda s: (bool(s.tokens), s.used))
        reused = shared[slot.number]
        self._shrink(slot, reused)
        slot.free, slot.prompt = False, len(tokens)
        return slot.number, reused

    def reserve(self, count: int) -> bool:
        """Make room for `count` more tokens by evicting remembered sequences, oldest first; False when there is not enough."""
        if count > self.available:
            return False
        idle = sorted((slot for slot in self._slots if slot.free and slot.tokens), key=lambda s: s.used)
        for slot in idle:
            missing = count - (self.cells - self.used)
            if missing <= 0:
                break
            self._shrink(slot, max(0, len(slot.tokens) - missing))
        return True

    def append(self, slot: int, tokens: list[int]) -> None:
        """These tokens of the slot have been computed and are in the native cache."""
        self._slots[slot].tokens += tokens

    def release(self, slot: int) -> None:
        """The sequence has ended; its tokens stay until the room is needed."""
        self._clock += 1
        self._slots[slot].free = True
        self._slots[slot].used = self._clock

    def drop(self, slot: int) -> None:
        """The sequence gives its cells back at once."""
        self._shrink(self._slots[slot], 0)
        self.release(slot)

    def _shrink(self, slot: Slot, length: int) -> None:
        if length < len(slot.tokens):
            self._memory.truncate(slot.number, length)
            del slot.tokens[length:]


def common_prefix(a: list[int], b: list[int], limit: int) -> int:
    """How many leading tokens two lists share, at most `limit`."""
    limit = min(limit, len(a), len(b))
    if a[:limit] == b[:limit]:
        return max(limit, 0)
    return next(i for i in range(limit) if a[i] != b[i])
