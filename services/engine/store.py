"""Keys and values of sequences that the KV cache had no room for any more, kept in ordinary memory up to a limit.

Owns which ones are kept: the most recently used. Knows nothing of slots or cells; the data is opaque. Plain Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.engine.prefix import common_prefix


@dataclass(frozen=True, eq=False)
class Entry:
    tokens: list[int]
    adapter: str
    data: bytes


@dataclass(frozen=True)
class Found:
    """An entry, and how many of the tokens asked for it begins with."""

    entry: Entry
    common: int


class Store:
    """At most `capacity` bytes; 0 keeps nothing."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._entries: list[Entry] = []  # least recently used first

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def used(self) -> int:
        """Bytes that are kept."""
        return sum(len(entry.data) for entry in self._entries)

    def put(self, tokens: list[int], adapter: str, save: Callable[[], bytes]) -> None:
        """Keep a sequence; `save` is called only when it is not here already. What it makes superfluous goes, then the oldest."""
        covered = [e for e in self._entries if e.adapter == adapter and common_prefix(e.tokens, tokens) == len(e.tokens)]
        longer = next((e for e in self._entries if e.adapter == adapter and common_prefix(e.tokens, tokens) == len(tokens)), None)
        if longer is not None:
            self._entries.remove(longer)
            self._entries.append(longer)
            return
        entry = Entry(tokens, adapter, save())
        if len(entry.data) > self.capacity:
            return
        for superfluous in covered:
            self._entries.remove(superfluous)
        while self.used + len(entry.data) > self.capacity:
            self._entries.pop(0)
        self._entries.append(entry)

    def find(self, tokens: list[int], adapter: str) -> Found | None:
        """The entry that has the most of these tokens, from the first on."""
        found = [Found(entry, common_prefix(entry.tokens, tokens)) for entry in self._entries if entry.adapter == adapter]
        best = max(found, key=lambda f: f.common, default=None)
        return best if best and best.common else None

    def take(self, entry: Entry) -> None:
        """It is in the cache again."""
        self._entries.remove(entry)
