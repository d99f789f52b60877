"""Words of the keyboard, of copying, and of what a screen reader is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FeelWords:
    """What is said where nothing is seen, and beside a button that has been pressed."""

    copy_code: str
    copied: str
    skip: str
    ready: str


EN = FeelWords(
    copy_code="Copy the code",
    copied="Copied",
    skip="Skip to the question",
    ready="The answer is ready.",
)

ZH = FeelWords(
    copy_code="复制代码",
    copied="已复制",
    skip="跳到提问框",
    ready="回答好了。",
)
