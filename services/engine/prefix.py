"""The tree of all token sequences that the KV cache holds: what two sequences have in common is one path, stored once.

Owns the shape only: nodes, and which slots hold them. Knows nothing of cells, eviction or the native cache. Plain Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class Node:
    """An edge of the tree: `tokens` after those of the parent. `slots` hold all of it, so a child's slots are among its parent's.

    Children are found by their first token. The root has no tokens and no parent.
    """

    tokens: list[int] = field(default_factory=list)
    parent: Node | None = None
    children: dict[int, Node] = field(default_factory=dict)
    slots: set[int] = field(default_factory=set)

    def path(self) -> Iterator[Node]:
        """This node and those above it, without the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent

    def sequence(self) -> list[int]:
        """All tokens from the root to the end of this node."""
        return [token for node in reversed(list(self.path())) for token in node.tokens]

    def add(self, tokens: list[int], slot: int) -> Node:
        """A new child that only this slot holds. No child begins with the same token."""
        child = Node(tokens, self, {}, {slot})
        assert tokens[0] not in self.children
        self.children[tokens[0]] = child
        return child

    def split(self, at: int) -> Node:
        """Cut this node after `at` of its tokens; it keeps the lower part, the new upper part is returned."""
        assert self.parent is not None and 0 < at < len(self.tokens)
        upper = Node(self.tokens[:at], self.parent, {self.tokens[at]: self}, set(self.slots))
        self.parent.children[upper.tokens[0]] = upper
        self.parent, self.tokens = upper, self.tokens[at:]
        return upper

    def leave(self, slot: int) -> bool:
        """The slot no longer holds this node; True when nobody does, and it is gone from the tree."""
        self.slots.discard(slot)
        if self.slots:
            return False
        assert self.parent is not None and not self.children
        del self.parent.children[self.tokens[0]]
        return True

    def match(self, tokens: Sequence[int], start: int, limit: int) -> Iterator[tuple[Node, int]]:
        """The children that `tokens[start:limit]` goes through below this node, each with how many of its tokens agree."""
        node = self
        while start < limit and (child := node.children.get(tokens[start])) is not None:
            common = common_prefix(child.tokens, tokens[start:limit])
            yield child, common
            if common < len(child.tokens):
                return
            node, start = child, start + common


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    limit = min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit
    low, high = 0, limit  # they agree on [:low] and don't on [:high]
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
