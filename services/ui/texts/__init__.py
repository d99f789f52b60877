"""Every word that the page and the terminal say, in English and Chinese, which of them a visitor reads, and how durations are spoken."""

from __future__ import annotations

from typing import Literal

from services.ui.texts.en import EN
from services.ui.texts.words import Words
from services.ui.texts.zh import ZH

__all__ = ["EN", "WORDS", "ZH", "Language", "Words", "preferred", "spoken"]

Language = Literal["en", "zh"]

WORDS: dict[Language, Words] = {"en": EN, "zh": ZH}


def preferred(accept_language: str) -> Language:
    """The language that a browser (Accept-Language) or a terminal (LANG) asks for first among ours; English when neither."""
    wanted = []
    for place, item in enumerate(accept_language.split(",")):
        name, _, quality = item.strip().partition(";q=")
        try:
            wanted.append((-float(quality or 1), place, name.lower()))
        except ValueError:
            continue
    for _, _, name in sorted(wanted):
        if name.startswith("zh"):
            return "zh"
        if name.startswith("en"):
            return "en"
    return "en"


def spoken(words: Words, seconds: float) -> str:
    """A duration for people: whole seconds, at least one; above an hour, minutes will do."""
    whole = max(1, round(seconds))
    if whole < 60:
        return words.seconds.format(seconds=whole)
    if whole < 3600:
        return words.minutes.format(minutes=whole // 60, seconds=whole % 60)
    return words.hours.format(hours=whole // 3600, minutes=whole % 3600 // 60)
