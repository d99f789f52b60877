"""Accounting of the KV cache: which slot holds which tokens, which cells are shared, what may be evicted and where it goes.

A slot is one sequence id of the native cache. Slots that hold the same leading tokens share the cells of these, by metadata only:
the tree in prefix.py is an exact picture of the cells. A slot whose request has ended keeps its tokens until the room is needed;
long ones go to the store then and come back from it. Plain Python: the native cache is told through `Memory`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from services.engine.prefix import Node, common_prefix
from services.engine.store import Store

WORTH_KEEPING = 128  # tokens from which an evicted sequence goes to the store: fewer are computed again soon enough
WORTH_LOADING = 64  # tokens that the store must have beyond what is in the cache


class Memory(Protocol):
    """The native cache. Positions are tokens, counted from the beginning of the sequence."""

    def remove(self, slot: int, start: int, end: int) -> None:
        """The slot gives up its cells of these positions."""
        ...

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """The target takes part in the source's cells of these positions, and must have none there."""
        ...

    def save(self, slot: int) -> bytes:
        """Keys and values of all that the slot holds."""
        ...

    def load(self, slot: int, data: bytes) -> bool:
        """Put saved keys and values into new cells of a slot that holds nothing; False when it can't be done."""
        ...


@dataclass(eq=False)
class Slot:
    """`leaf`: the node that its tokens end with, the root of the adapter's tree when there are none. `used`: a clock for eviction."""

    number: int
    leaf: Node
    length: int = 0
    running: bool = False
    used: int = 0


@dataclass
class KVCache:
    """A pool of `cells` (one per token) shared by `slots` sequences, of which at most `most` may run at once.

    There must be more slots than may run, so that a new sequence can begin beside what is remembered.
    """

    memory: Memory
    cells: int
    slots: int
    most: int
    store: Store = field(default_factory=lambda: Store(0))

    def __post_init__(self) -> None:
        assert self.slots > self.most > 0
        self._roots: dict[str, Node] = {}
        self._slots = [Slot(number, self._root("")) for number in range(self.slots)]
        self._clock = 0
        self.used = 0  # cells that hold a token, of running and of remembered sequences
        self.evicted = 0  # times that remembered text had to make room

    @property
    def running(self) -> int:
        """Sequences that run."""
        return sum(slot.running for slot in self._slots)

    @property
    def free_slots(self) -> int:
        """How many more sequences may run."""
        return self.most - self.running

    @property
    def available(self) -> int:
        """Cells that are empty or could be made so by evicting what no running sequence uses."""
        return self.cells - self.pinned

    @property
    def pinned(self) -> int:
        """Cells that running sequences use."""
        nodes = {node for slot in self._slots if slot.running for node in slot.leaf.path()}
        return sum(len(node.tokens) for node in nodes)

    def missing(self, tokens: list[int], adapter: str = "") -> int:
        """How many cells a sequence would add to those that running ones use, if it ran now with these tokens."""
        there, running = 0, {slot.number for slot in self._slots if slot.running}
        for node, common in self._root(adapter).match(tokens, 0, len(tokens) - 1):
            there += common if node.slots & running else 0
        return len(tokens) - there

    def held(self, slot: int) -> list[int]:
        """The tokens that a slot holds."""
        return self._slots[slot].leaf.sequence()

    def acquire(self, tokens: list[int], adapter: str = "") -> tuple[int, int]:
        """A slot for these tokens and how many of them, from the first, it holds already: (slot, reused).

        At most len(tokens) - 1 are reused: the last must be computed for its logits. Call only while there are `free_slots`.
        """
        slot = self._idle_slot(tokens)
        slot.leaf, slot.running = self._root(adapter), True
        self._load(slot, tokens, adapter)
        self.extend(slot.number, tokens)
        return slot.number, slot.length

    def extend(self, slot: int, tokens: list[int]) -> int:
        """Take over what others have computed of these tokens since; how many of them the slot holds now.

        `tokens` begin with what the slot holds.
        """
        taker = self._slots[slot]
        for node, common in list(taker.leaf.match(tokens, taker.length, len(tokens) - 1)):
            self._join(taker, node, common)
        return taker.length

    def reserve(self, count: int) -> bool:
        """Make room for `count` more tokens by evicting remembered sequences, oldest first; False when there is not enough."""
        if count > self.available:
            return False
        while (missing := count - (self.cells - self.used)) > 0:
            oldest = min((slot for slot in self._slots if not slot.running and slot.length), key=lambda s: s.used)
            self._evict(oldest, missing)
        return True

    def append(self, slot: int, tokens: list[int]) -> None:
        """These tokens of the slot have been computed and are in cells of its own. What another slot has as well is shared instead."""
        taker = self._slots[slot]
        for node, common in list(taker.leaf.match(tokens, 0, len(tokens))):
            self.memory.remove(slot, taker.length, taker.length + common)
            self._join(taker, node, common)
            tokens = tokens[common:]
        if not tokens:
            return
        leaf = taker.leaf
        if leaf.parent is not None and leaf.slots == {slot} and not leaf.children:
            leaf.tokens += tokens
        else:
            taker.leaf = leaf.add(list(tokens), slot)
        taker.length += len(tokens)
        self.used += len(tokens)

    def release(self, slot: int) -> None:
        """The sequence has ended; its tokens stay until the room is needed."""
        self._clock += 1
        ended = self._slots[slot]
        ended.running, ended.used = False, self._clock
        if len(ended.leaf.slots) > 1:  # another one holds all of it
            self._shrink(ended, 0)

    def drop(self, slot: int) -> None:
        """The sequence gives its cells back at once."""
        self._shrink(self._slots[slot], 0)
        self.release(slot)

    def _root(self, adapter: str) -> Node:
        return self._roots.setdefault(adapter, Node())

    def _idle_slot(self, tokens: list[int]) -> Slot:
        """An empty slot, or the least recently used one, emptied; not the one that has most of these tokens."""
        idle = [slot for slot in self._slots if not slot.running]
        if empty := next((slot for slot in idle if not slot.length), None):
            return empty
        common = {slot.number: common_prefix(slot.leaf.sequence(), tokens) for slot in idle}
        best = max(idle, key=lambda s: common[s.number])
        oldest = min(idle, key=lambda s: (s is best and common[s.number] > 0, s.used))
        self.evicted += 1
        self._spill(oldest)
        self._shrink(oldest, 0)
        return oldest

    def _join(self, taker: Slot, node: Node, common: int) -> None:
        """The slot takes part in the first `common` tokens of a node below its leaf."""
        if common < len(node.tokens):
            node = node.split(common)
        source = next(iter(node.slots))
        self.memory.share(source, taker.number, taker.length, taker.length + common)
        node.slots.add(taker.number)
        taker.leaf = node
        taker.length += common

    def _load(self, slot: Slot, tokens: list[int], adapter: str) -> None:
        """Bring back from the store what it has more of these tokens than the cache."""
        there = sum(common for _, common in slot.leaf.match(tokens, 0, len(tokens) - 1))
        found = self.store.find(tokens, adapter)
        if found is None or (common := min(found.common, len(tokens) - 1)) < there + WORTH_LOADING:
            return
        self.store.take(found.entry)  # before room is made, which may push things out of the store
        if not self.reserve(len(found.entry.tokens)):
            self.store.put(found.entry.tokens, adapter, lambda: found.entry.data)
            return
        if self.memory.load(slot.number, found.entry.data):
            self.memory.remove(slot.number, common, -1)
            self.append(slot.number, tokens[:common])

    def _spill(self, slot: Slot) -> bool:
        """Save a remembered sequence that is about to go, when that is worth it; whether it was."""
        if not self.store.capacity or slot.length < WORTH_KEEPING or len(slot.leaf.slots) > 1:
            return False
        *_, top = slot.leaf.path()
        adapter = next(name for name, root in self._roots.items() if root is top.parent)
        self.store.put(slot.leaf.sequence(), adapter, lambda: self.memory.save(slot.number))
        return True

    def _evict(self, slot: Slot, missing: int) -> None:
        """Free cells of a remembered sequence: all it has when it can come back or is held by others too, else from its end."""
        self.evicted += 1
        leaf = slot.leaf
        whole = self._spill(slot) or len(leaf.slots) > 1
        self._shrink(slot, 0 if whole else slot.length - min(missing, len(leaf.tokens)))

    def _shrink(self, slot: Slot, length: int) -> None:
        if length >= slot.length:
            return
        self.memory.remove(slot.number, length, -1)
        while slot.length > length:
            node, start = slot.leaf, slot.length - len(slot.leaf.tokens)
            if start >= length:
                assert node.parent is not None
                slot.leaf, slot.length = node.parent, start
                self.used -= len(node.tokens) if node.leave(slot.number) else 0
                continue
            if len(node.slots) > 1:
                slot.leaf = node.split(length - start)
                node.leave(slot.number)
            else:
                self.used -= slot.length - length
                del node.tokens[length - start :]
            slot.length = length
