"""How much to think, told by a word, which every dialect has under another name. Knows no requests."""

from __future__ import annotations

from typing import Literal

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
# tokens of thought; None is no limit. A thought of R1's has some 500 to 5000 tokens.
EFFORTS: dict[Effort, int | None] = {"none": 0, "minimal": 128, "low": 512, "medium": 2048, "high": None, "xhigh": None, "max": None}


def thinking(word: Effort | None) -> tuple[bool | None, int | None]:
    """Whether to think (None: as the template has it) and how many tokens at most (None: no limit)."""
    if word is None:
        return None, None
    return EFFORTS[word] != 0, EFFORTS[word]
