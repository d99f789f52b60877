"""A conversation: turns of question, thought and answer, and how each ended.

It lives in the visitor's browser and travels with every request as JSON: the server keeps none of it. Knows nothing of
how it is shown, nor in which language.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Stage = Literal["waiting", "queued", "reading", "thinking", "answering", "done", "cut", "stopped", "failed", "lost"]
UNDER_WAY = ("waiting", "queued", "reading", "thinking", "answering")


@dataclass
class Turn:
    """One question and what became of it.

    `number` goes with the stage: the position in the queue, or the percent that is read. `seconds` is how long it thought
    (or has waited so far). `speed` is tokens a second. `error` and `detail` are the API's code and sentence.
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

    @property
    def under_way(self) -> bool:
        return self.stage in UNDER_WAY


@dataclass
class Conversation:
    """The turns, oldest first."""

    turns: list[Turn] = field(default_factory=list)

    def ask(self, question: str) -> None:
        """Add a question."""
        self.turns.append(Turn(question))

    def again(self) -> None:
        """Forget the last answer, keep its question."""
        self.turns[-1] = Turn(self.turns[-1].question)

    def edit(self, index: int, question: str) -> None:
        """Put another question in a turn's place; what came after it goes."""
        del self.turns[index:]
        self.ask(question)

    def messages(self) -> list[dict[str, str]]:
        """What the model is told: questions and answers. Thoughts stay out, and so do earlier questions without any answer."""
        told = []
        for turn in self.turns[:-1]:
            if turn.answer:
                told += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
        return [*told, {"role": "user", "content": self.turns[-1].question}]

    def dump(self) -> list[dict[str, Any]]:
        """As JSON values."""
        return [dataclasses.asdict(turn) for turn in self.turns]


def parse(data: Any) -> Conversation:
    """A conversation from JSON values; whatever is none (a browser can send anything) is an empty one."""
    try:
        turns = [Turn(**item) for item in data or ()]
        kinds = {field.name: type(field.default) if field.name != "question" else str for field in dataclasses.fields(Turn)}
        for turn in turns:
            for name, kind in kinds.items():
                if not isinstance(getattr(turn, name), (int, float) if kind is float else kind):
                    return Conversation()
            if turn.stage not in get_args(Stage):
                return Conversation()
        return Conversation(turns)
    except TypeError:
        return Conversation()
