"""Splits a stream of text into thinking and answer.

Where the vocabulary has the thinking tags as tokens, the token decides: a tag that the model merely spells out, inside a thought or an
answer, is text. Where it has not, the text decides, and a tag may be spread over many deltas. The template may have opened the thought
itself, and tags may be missing. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from services.shared.wire import TokenLogprob

START, END = "<think>", "</think>"

Channel = Literal["thinking", "answer"]


@dataclass(frozen=True)
class Piece:
    """Text of one channel. `logprobs`, if asked for: of the tokens that it was made of."""

    channel: Channel
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningSplitter:
    """`in_thought`: the prompt has opened a thought. `by_token`: the vocabulary has the tags as single tokens. `trim` False: white space
    at the edges is text. `kept`: special tokens that are text all the same. `begun`: the text goes on with one that was there before."""

    def __init__(self, *, in_thought: bool, by_token: bool, trim: bool = True, kept: Collection[str] = (), begun: bool = False) -> None:
        self.in_thought = in_thought
        self._by_token, self._trim, self._kept = by_token, trim, kept
        self._held = ""  # text mode: what may become a tag
        self._space = ""  # white space that is only given out when text follows
        self._begun: set[Channel] = {self.channel} if begun else set()
        self._scores: list[TokenLogprob] = []  # of tokens whose text has not come out yet

    def push(self, text: str, *, special: bool, logprobs: tuple[TokenLogprob, ...] = ()) -> list[Piece]:
        """Take a delta, return what is certain. Special tokens other than the tags are dropped: they are no text."""
        if special and text not in self._kept:
            if text in (START, END):
                self.in_thought, self._space = text == START, ""
                self._scores.clear()
            return []
        if not logprobs and not self._scores:
            return self._give(text) if self._by_token else self._by_text(text)
        return self._scored(text, logprobs)

    def _scored(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> list[Piece]:
        """The same with logprobs: they go with the next text of the channel in which they were made."""
        self._scores += logprobs
        channel, begun = self.channel, set(self._begun)
        pieces = self._give(text) if self._by_token else self._by_text(text)
        if pieces and (pieces[0].channel == channel or self.channel == channel):
            first = pieces[0].channel
            if self._trim and first not in begun:  # the white space in front is not shown either
                while self._scores and not self._scores[0][0].strip():
                    self._scores.pop(0)
            pieces[0] = Piece(first, pieces[0].text, tuple(self._scores))
            self._scores.clear()
        elif self.channel != channel:
            self._scores.clear()
        return pieces

    @property
    def channel(self) -> Channel:
        """What comes next belongs to it."""
        return "thinking" if self.in_thought else "answer"

    def flush(self) -> list[Piece]:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        pieces = self._give(held)
        if pieces and self._scores:
            pieces[0] = Piece(pieces[0].channel, pieces[0].text, tuple(self._scores))
        return pieces

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
        keep = 0 if not self.in_thought and "answer" in self._begun else possible_start(held, END if self.in_thought else START)
        self._held = held[len(held) - keep :]
        return pieces + self._give(held[: len(held) - keep])

    def _give(self, text: str) -> list[Piece]:
        """White space at the edges of a channel is the template's business, not text to show."""
        channel = self.channel
        if not self._trim:
            return [Piece(channel, text)] if text else []
        text, self._space = self._space + text, ""
        if channel not in self._begun:
            text = text.lstrip()
        kept = text.rstrip()
        self._space = text[len(kept) :]
        if not kept:
            return []
        self._begun.add(channel)
        return [Piece(channel, kept)]


def possible_start(text: str, tag: str) -> int:
    """Length of the longest tail of `text` with which the tag begins."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-n:])), 0)


def strip_thought(content: str) -> str:
    """An assistant's earlier answer without its thought, as R1's own template does it, and the line breaks after it, as Qwen3's does."""
    return content.rpartition(END)[2].lstrip("\n") if END in content else content
