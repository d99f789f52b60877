"""A conversation: turns of question, thought and answer, and how each ended.

It lives in the visitor's browser and travels with every request as JSON: the server keeps none of it. Knows nothing of
how it is shown, nor in which language.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from services.ui import attachment
from services.ui.attachment import Attachment

Stage = Literal["waiting", "queued", "reading", "thinking", "answering", "done", "cut", "stopped", "failed", "lost"]
UNDER_WAY = ("waiting", "queued", "reading", "thinking", "answering")


@dataclass
class Turn:
    """One question and what became of it.

    `number` goes with the stage: the position in the queue, or the percent that is read. `seconds` is how long it thought
    (or has waited so far). `speed` is tokens a second. `error` and `detail` are the API's code and sentence. `files` go with the
    question. `tokens` is how much of the context the conversation takes after the answer; 0 where nobody has told.
    """

    question: str
    thought: str = ""
    answer: str = ""
    stage: Stage = "reading"
    number: int = 0
    seconds: float = 0.0
    speed: float = 0.0
    error: str = ""
    detail: str = ""
    files: list[Attachment] = field(default_factory=list)
    tokens: int = 0

    @property
    def told(self) -> str:
        """The question as the model gets it."""
        return attachment.told(self.question, self.files)

    @property
    def under_way(self) -> bool:
        return self.stage in UNDER_WAY


@dataclass
class Conversation:
    """The turns, oldest first."""

    turns: list[Turn] = field(default_factory=list)

    def ask(self, question: str, files: Sequence[Attachment] = ()) -> None:
        """Add a question."""
        self.turns.append(Turn(question, files=list(files)))

    def again(self) -> None:
        """Forget the last answer, keep its question."""
        last = self.turns[-1]
        self.turns[-1] = Turn(last.question, files=last.files)

    def edit(self, index: int, question: str) -> None:
        """Put another question in a turn's place, with the same files; what came after it goes."""
        files = self.turns[index].files
        del self.turns[index:]
        self.ask(question, files)

    def messages(self) -> list[dict[str, str]]:
        """What the model is told: questions and answers. Thoughts stay out, and so do earlier questions without any answer."""
        told = []
        for turn in self.turns[:-1]:
            if turn.answer:
                told += [{"role": "user", "content": turn.told}, {"role": "assistant", "content": turn.answer}]
        return [*told, {"role": "user", "content": self.turns[-1].told}]

    def dump(self) -> list[dict[str, Any]]:
        """As JSON values."""
        return [dataclasses.asdict(turn) for turn in self.turns]


def parse(data: Any) -> Conversation:
    """A conversation from JSON values; whatever is none (a browser can send anything) is an empty one."""
    try:
        turns = [Turn(**{**item, "files": attachment.parse(item.get("files"))}) for item in data or ()]
        for turn in turns:
            for name, kind in _KINDS.items():
                if not isinstance(getattr(turn, name), (int, float) if kind is float else kind):
                    return Conversation()
            if turn.stage not in get_args(Stage):
                return Conversation()
        return Conversation(turns)
    except (TypeError, AttributeError):
        return Conversation()


# Of every field but the files, which have a reader of their own.
_KINDS = {f.name: str if f.default is dataclasses.MISSING else type(f.default) for f in dataclasses.fields(Turn) if f.name != "files"}
