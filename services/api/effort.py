"""How much to think, told by a word, which every dialect has under another name. Knows no requests."""

from __future__ import annotations

from typing import Literal

from services.api.openai_schema import EFFORTS

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


def thinking(word: Effort | None) -> tuple[bool | None, int | None]:
    """Whether to think (None: as the template has it) and how many tokens at most (None: no limit)."""
    if word is None:
        return None, None
    limit = None if word == "max" else EFFORTS[word]
    return limit != 0, limit
