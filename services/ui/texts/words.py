"""What there is to say: one field for every phrase, the same in each language.

`{name}` marks what is filled in. Knows nothing of where a phrase is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.ui.texts.access import AccessWords
from services.ui.texts.choices import ChoicesWords
from services.ui.texts.feel import FeelWords
from services.ui.texts.files import FilesWords
from services.ui.texts.library import LibraryWords
from services.ui.texts.panel import PanelWords


@dataclass(frozen=True)
class Example:
    """A question to begin with, and the few words that name it."""

    title: str
    question: str


@dataclass(frozen=True)
class Trouble:
    """What went wrong, in one sentence, and what to do about it."""

    what: str
    todo: str

    def __str__(self) -> str:
        return self.what + self.todo if self.what.endswith("。") else f"{self.what} {self.todo}"


@dataclass(frozen=True)
class Words:
    """One language."""

    tag: str  # BCP 47
    other: str  # the name of the language that the switch leads to, in that language
    hello: str
    promise: str
    demo_hint: str
    examples: tuple[Example, ...]

    new: str
    theme: str
    language: str
    placeholder: str
    send: str
    stop: str
    copy: str
    edit: str
    regenerate: str
    submit: str
    cancel: str
    to_the_end: str
    conversation: str
    connection: str

    private: str
    speed: str
    token: str
    compressed: str
    uncompressed: str

    waiting: str
    queued_next: str
    queued: str
    reading: str
    reading_percent: str
    thinking: str
    thought: str
    stopped: str
    stopped_before: str
    cut: str
    lost: str
    again: str
    details: str
    detail: str
    seconds: str
    minutes: str
    hours: str

    starting: str
    preparing: str
    preparing_note: str
    loading: str
    loading_note: str
    failed: str
    failed_todo: str
    steps: dict[str, str]
    of: str
    rate: str
    left: str
    parts: str
    demo_stands_in: str
    notice: str
    troubles: dict[str, Trouble]

    library: LibraryWords
    panel: PanelWords
    choices: ChoicesWords

    terminal_hello: str
    terminal_stopped: str
    terminal_nobody: str
    terminal_usage: str

    access: AccessWords
    feel: FeelWords
    files: FilesWords
