"""A model without weights: what it says next is a function of all tokens that its memory holds for a sequence.

It is as strict as llama.cpp, which aborts the process: positions must go on exactly where a slot's memory ends, a step has a size, no more
output rows than sequences, no more tokens than cells. The answers come from the memory and not from the sequence, so a cache
that mixes up sequences gives wrong answers here as it would there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from services.engine.engine import Aborted
from services.engine.scheduler import Chunk
from services.shared import wire

END, THINK, THINK_END, ANSWER, TOOL, HALF, REST = range(256, 263)
CONTROL = {"<end>": END, "<answer>": ANSWER}
USER_DEFINED = {"<think>": THINK, "</think>": THINK_END, "<tool>": TOOL}
PIECES = [bytes([byte]) for byte in range(256)] + [text.encode() for text in ("<end>", "<think>", "</think>", "<answer>", "<tool>")]
PIECES += [b"ab" + "鸡".encode()[:2], "鸡".encode()[2:] + b"b"]  # normal tokens that end and begin within a character

Reply = Callable[[list[int]], int]


class ScriptedVocabulary:
    """Bytes, two control tokens, three user-defined ones that plain tokenization would match, as llama.cpp's does."""

    def __init__(self, control: Mapping[str, int] = CONTROL, user_defined: Mapping[str, int] = USER_DEFINED) -> None:
        self.added = MappingProxyType({**control, **user_defined})
        self.user_defined = MappingProxyType(dict(user_defined))

    def plain(self, text: str) -> list[int]:
        tokens: list[int] = []
        while text:
            match = next((name for name in sorted(self.user_defined, key=len, reverse=True) if name and text.startswith(name)), None)
            tokens += [self.user_defined[match]] if match else text[0].encode()
            text = text[len(match or text[0]) :]
        return tokens


class ScriptedMemory:
    """Cells by slot and position, as llama.cpp's unified cache has them: those that were shared are the same cell."""

    def __init__(self, slots: int) -> None:
        self.slots: list[dict[int, Cell]] = [{} for _ in range(slots)]

    @property
    def used(self) -> int:
        return len({cell for slot in self.slots for cell in slot.values()})

    def tokens(self, slot: int) -> list[int]:
        """What a slot holds; without a gap."""
        cells = self.slots[slot]
        assert sorted(cells) == list(range(len(cells))), "a gap"
        return [cells[position].token for position in range(len(cells))]

    def extend(self, slot: int, tokens: list[int]) -> None:
        start = len(self.tokens(slot))
        self.slots[slot] |= {start + at: Cell(token) for at, token in enumerate(tokens)}

    def remove(self, slot: int, start: int, end: int) -> None:
        for position in [p for p in self.slots[slot] if p >= start and (end < 0 or p < end)]:
            del self.slots[slot][position]

    def share(self, source: int, target: int, start: int, end: int) -> None:
        assert source != target and 0 <= start < end
        for position in range(start, end):
            assert position not in self.slots[target], "a slot with two cells for one position"
            self.slots[target][position] = self.slots[source][position]

    def save(self, slot: int) -> bytes:
        return b"".join(token.to_bytes(4, "little") for token in self.tokens(slot))

    def load(self, slot: int, data: bytes) -> bool:
        assert not self.slots[slot]
        self.extend(slot, [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)])
        return True


class Cell:
    def __init__(self, token: int) -> None:
        self.token = token


class ScriptedModel(ScriptedMemory):
    """`reply(tokens)` is the token that follows a sequence's tokens; it must be a pure function."""

    adapters = ("poet",)

    def __init__(self, reply: Reply, *, cells: int, slots: int, step: int, thinks: bool = True) -> None:
        super().__init__(slots)
        self.vocabulary = ScriptedVocabulary()
        self.ends = frozenset({END})
        self.think_start, self.think_end = (THINK, THINK_END) if thinks else (None, None)
        self.abort_next = 0
        self.pause = 0.0  # seconds that a step takes
        self.steps = self.computed = self.open_samplers = 0
        self.largest_prefill_beside_writers = 0
        self._reply, self._cells, self._step = reply, cells, step
        self._rows: dict[int, list[int]] = {}

    def decode(self, chunks: list[Chunk]) -> list[list[int]]:
        assert chunks
        self.steps += 1
        time.sleep(self.pause)
        if self.abort_next:
            self.abort_next -= 1
            raise Aborted
        slots = [chunk.slot for chunk in chunks]
        assert len(set(slots)) == len(slots), "a slot twice in one step"
        assert len({chunk.sequence.adapter for chunk in chunks}) == 1, "one step, one adapter"
        self._rows, at = {}, 0
        rows: list[list[int]] = []
        for chunk in chunks:
            held = self.tokens(chunk.slot)
            assert chunk.sequence.computed == len(held), "positions don't go on where the memory ends"
            assert len(chunk.tokens) == chunk.size >= chunk.count > 0
            assert all(0 <= token < len(PIECES) for token in chunk.tokens), "no such token"
            self.extend(chunk.slot, chunk.tokens)
            first = at + chunk.count - 1 if chunk.last else at + chunk.size
            at += chunk.size
            rows.append(list(range(first, at)))
            for back, row in enumerate(reversed(rows[-1])):
                self._rows[row] = self.tokens(chunk.slot)[: len(held) + chunk.size - back]
                if chunk.sequence.adapter:
                    self._rows[row] = [*self._rows[row], -1]  # another model, as it were
        assert at <= self._step, "more tokens than a step may have"
        assert self.used <= self._cells, "more tokens than cells"
        assert len(self._rows) <= len(self.slots), "more output rows than sequences"
        self.computed += at
        if any(chunk.sequence.decoding for chunk in chunks):
            self.largest_prefill_beside_writers = max(
                self.largest_prefill_beside_writers, sum(c.count for c in chunks if not c.sequence.decoding)
            )
        return rows

    def refusal(self, sampling: wire.Sampling) -> str | None:
        return None

    def sampler(self, sampling: wire.Sampling) -> ScriptedSampler:
        self.open_samplers += 1
        return ScriptedSampler(self)

    def next(self, row: int) -> int:
        return self._reply(self._rows[row])

    def piece(self, token: int) -> bytes:
        return PIECES[token]

    def special(self, token: int) -> bool:
        return token in (END, ANSWER, self.think_start, self.think_end)


class ScriptedSampler:
    """Greedy; must be closed exactly once."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model, self._open = model, True
        self.constrained, self.logprobs = True, None

    def sample(self, row: int) -> int:
        assert self._open
        return self._model.next(row)

    def accept(self, token: int) -> None:
        assert self._open

    def close(self) -> None:
        assert self._open, "closed twice"
        self._open = False
        self._model.open_samplers -= 1


def script(text: str | bytes, *, then: int = END) -> Reply:
    """Says `text` after the last `<answer>` (or from the beginning), token by token, and then `then` for ever."""
    said = tokens_of(text)

    def reply(tokens: list[int]) -> int:
        begun = len(tokens) - 1 - tokens[::-1].index(ANSWER) if ANSWER in tokens else -1
        at = len(tokens) - begun - 1
        return said[at] if at < len(said) else then

    return reply


def tokens_of(text: str | bytes) -> list[int]:
    """Bytes as tokens, with added tokens where text spells them."""
    data, tokens = text.encode() if isinstance(text, str) else text, []
    while data:
        token = next((t for t in range(END, HALF) if data.startswith(PIECES[t])), data[0])
        tokens.append(token)
        data = data[len(PIECES[token]) :]
    return tokens
