"""Splits a stream of text into thinking and answer.

Where the vocabulary has the thinking tags as tokens, the token decides: a tag that the model merely spells out, inside a thought or an
answer, is text. Where it has not, the text decides, and a tag may be spread over many deltas. The template may have opened the thought
itself, and tags may be missing. Knows nothing of HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

START, END = "<think>", "</think>"

Channel = Literal["thinking", "answer"]


@dataclass(frozen=True)
class Piece:
    """Text of one channel."""

    channel: Channel
    text: str


class ReasoningSplitter:
    """`in_thought`: the prompt has opened a thought. `by_token`: the vocabulary has the tags as single tokens."""

    def __init__(self, *, in_thought: bool, by_token: bool) -> None:
        self.in_thought = in_thought
        self._by_token = by_token
        self._held = ""  # text mode: what may become a tag
        self._space = ""  # white space that is only given out when text follows
        self._begun: set[Channel] = set()
        self._answered = False

    def push(self, text: str, *, special: bool) -> list[Piece]:
        """Take a delta, return what is certain. Special tokens other than the tags are dropped: they are no text."""
        if not special:
            return self._give(text) if self._by_token else self._by_text(text)
        if text in (START, END):
            self.in_thought, self._space = text == START, ""
        return []

    def flush(self) -> list[Piece]:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        return self._give(held)

    def _by_text(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        held = self._held + text
        while True:
            tag = END if self.in_thought else START
            # a thought can only be opened before the answer has begun; later such a tag is text
            if not self.in_thought and "answer" in self._begun:
                break
            before, found, after = held.partition(tag)
            if not found or (not self.in_thought and before.strip()):
                break
            pieces += self._give(before)
            self.in_thought, self._space, held = not self.in_thought, "", after
        keep = 0 if not self.in_thought and "answer" in self._begun else _possible_start(held, END if self.in_thought else START)
        self._held = held[len(held) - keep :]
        return pieces + self._give(held[: len(held) - keep])

    def _give(self, text: str) -> list[Piece]:
        """White space at the edges of a channel is the template's business, not text to show."""
        channel: Channel = "thinking" if self.in_thought else "answer"
        text, self._space = self._space + text, ""
        if channel not in self._begun:
            text = text.lstrip()
        kept = text.rstrip()
        self._space = text[len(kept) :]
        if not kept:
            return []
        self._begun.add(channel)
        return [Piece(channel, kept)]


def _possible_start(text: str, tag: str) -> int:
    """Length of the longest tail of `text` with which the tag begins."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-n:])), 0)


def strip_thought(content: str) -> str:
    """An assistant's earlier answer without its thought, as R1's own template does it, and the line breaks after it, as Qwen3's does."""
    return content.rpartition(END)[2].lstrip("\n") if END in content else content
