"""From token pieces to text that can be shown: whole characters only, nothing of a stop string.

A piece may end in the middle of a UTF-8 character, and a stop string may be spread over many pieces; what can't be
decided yet is held back. The result does not depend on how the text is cut into pieces. Linear in the length of the answer.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Search:
    """How much of one text the characters seen so far end with: Knuth, Morris and Pratt's search, its table built as it is needed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._borders = [0]  # [i]: length of the longest border of text[: i + 1]

    def advance(self, character: str) -> bool:
        """Take the next character; True when the text is complete with it."""
        self.matched = self._longer(self.matched, character)
        if self.matched > len(self._borders):
            self._borders.append(self._longer(self._borders[-1], character))
        return self.matched == len(self.text)

    def _longer(self, matched: int, character: str) -> int:
        while matched and self.text[matched] != character:
            matched = self._borders[matched - 1]
        return matched + (self.text[matched] == character)


class TextStream:
    """The text of one answer. After `stopped` becomes True nothing more is given out.

    Of two stop strings the one that is complete first counts, of two that are complete at once the longer. `after`: stop strings
    don't count before this text has gone by.
    """

    def __init__(self, stop: Sequence[str] = (), *, after: str | None = None) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = [Search(text) for text in stop]
        self._after = Search(after) if after else None
        self._held = ""
        self.stopped = False
        self.stop = ""  # the string that it was stopped by

    @property
    def waiting(self) -> bool:
        """The text given as `after` has not gone by yet."""
        return self._after is not None

    def push(self, piece: bytes, *, watch: bool = True) -> str:
        """Take a token's bytes, return the text that is now certain. `watch` False: stop strings don't count here."""
        text = self._decoder.decode(piece)
        if self._after is not None:
            gone = self._wait(self._after, text)
            return text[:gone] + self._watch(text[gone:])
        return self._watch(text) if watch else self._release() + text

    def flush(self) -> str:
        """What was held back, at the end of the answer or before a special token; half a character becomes U+FFFD."""
        text = self._release() + self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return "" if self.stopped else text

    def _wait(self, awaited: Search, text: str) -> int:
        """How many characters of `text` belong to what comes before the stop strings count."""
        for count, character in enumerate(text, 1):
            if awaited.advance(character):
                self._after = None
                return count
        return len(text)

    def _watch(self, text: str) -> str:
        if not self._stops:
            return text
        end = len(self._held)
        text = self._held + text
        for character in text[end:]:
            end += 1
            complete = [stop.text for stop in self._stops if stop.advance(character)]
            if complete:
                self.stopped, self._held = True, ""
                self.stop = max(complete, key=len)
                return text[: end - len(self.stop)]
        held = len(text) - max(stop.matched for stop in self._stops)
        self._held = text[held:]
        return text[:held]

    def _release(self) -> str:
        """Nothing of a stop string can go on from here."""
        for stop in self._stops:
            stop.matched = 0
        text, self._held = self._held, ""
        return text
