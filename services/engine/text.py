"""From token pieces to text that can be shown: whole characters only, nothing of a stop string.

A piece may end in the middle of a UTF-8 character, and a stop string may be spread over many pieces; what can't be
decided yet is held back. Linear in the length of the answer.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one answer. After `stopped` becomes True nothing more is given out."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._longest = max((len(s) for s in self._stop), default=0)
        self._held = ""
        self.stopped = False

    def push(self, piece: bytes, *, watch: bool = True) -> str:
        """Take a token's bytes, return the text that is now certain. `watch` False: stop strings don't count here."""
        text = self._decoder.decode(piece)
        if not watch or not self._stop:
            text, self._held = self._held + text, ""
            return text
        held = self._held + text
        found = min((at for s in self._stop if (at := held.find(s)) >= 0), default=-1)
        if found >= 0:
            self.stopped, self._held = True, ""
            return held[:found]
        keep = self._possible_start(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was held back, at the end of the answer or before a special token; half a character becomes U+FFFD."""
        text = self._held + self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._held = ""
        return "" if self.stopped else text

    def _possible_start(self, held: str) -> int:
        """Length of the longest tail of `held` with which a stop string begins."""
        for length in range(min(self._longest - 1, len(held)), 0, -1):
            tail = held[-length:]
            if any(s.startswith(tail) for s in self._stop):
                return length
        return 0
