"""A conversation: a tree of turns (question, thought, answer, and how it ended), and which way through it is shown.

Answering again and editing a question begin another branch beside the old one, so that nothing is ever lost. It lives in the
visitor's browser and travels with every request as JSON: the server keeps none of it. Knows nothing of how it is shown, nor in
which language.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from services.ui import attachment
from services.ui.attachment import Attachment

Stage = Literal["waiting", "queued", "reading", "thinking", "answering", "done", "cut", "stopped", "failed", "lost"]
UNDER_WAY = ("waiting", "queued", "reading", "thinking", "answering")

# What a browser may send. The page's door bounds the whole request; these bound the work with it.
MOST_TURNS = 5000
LONGEST = 2_000_000  # characters of one text
MOST = 1e12  # of any number
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass
class Turn:
    """One question and what became of it.

    `id` names the turn in its conversation, `parent` the turn that it follows (none: it begins the conversation). `number` goes
    with the stage: the position in the queue, or the percent that is read. `seconds` is how long it thought (or has waited so
    far). `speed` is tokens a second. `error` and `detail` are the API's code and sentence. `files` go with
    the question. `tokens` is how much of the context the conversation takes after the answer; 0 where nobody has told.
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
    id: str = field(default="", compare=False)
    parent: str = field(default="", compare=False)

    @property
    def told(self) -> str:
        """The question as the model gets it."""
        return attachment.told(self.question, self.files)

    @property
    def unfinished(self) -> bool:
        """Something of an answer is there, and more could follow."""
        return self.stage in ("cut", "stopped", "lost") and bool(self.thought or self.answer)

    @property
    def under_way(self) -> bool:
        return self.stage in UNDER_WAY


@dataclass(frozen=True)
class Versions:
    """The versions of a question or of an answer: the ids of the turns that show them, and which of them is shown."""

    turns: tuple[str, ...]
    shown: int


class Conversation:
    """The turns in the order that they were begun, and the last one of those that are shown."""

    def __init__(self, turns: list[Turn] | None = None, head: str = "", id: str = "") -> None:
        """Turns without an id follow one another."""
        self.id, self._all = id, turns or []
        last = ""
        for turn in self._all:
            if not turn.id:
                turn.id, turn.parent = _new_id(), last
            last = turn.id
        self._head = head or last

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conversation) and self.dump() == other.dump()

    __hash__ = None  # type: ignore[assignment]

    @property
    def turns(self) -> list[Turn]:
        """Those that are shown, from the first question to the last."""
        known, path = {turn.id: turn for turn in self._all}, []
        at = known.get(self._head)
        while at:
            path.append(at)
            at = known.get(at.parent)
        return path[::-1]

    def ask(self, question: str, files: Sequence[Attachment] = ()) -> None:
        """Add a question after what is shown."""
        self._begin(Turn(question, files=list(files), parent=self._head))

    def again(self, turn: Turn | None = None) -> None:
        """Begin another version of a turn's answer (of the last, if none is named)."""
        old = turn or self.turns[-1]
        self._begin(Turn(old.question, files=old.files, parent=old.parent))

    def edit(self, turn: Turn, question: str) -> None:
        """Begin another version of a turn's question, with the same files."""
        self._begin(Turn(question, files=turn.files, parent=turn.parent))

    def find(self, id: str) -> Turn | None:
        """The turn of that id."""
        return next((turn for turn in self._all if turn.id == id), None)

    def show(self, turn: Turn) -> None:
        """Let that turn be on the way that is shown, and after it always what was begun last."""
        newest = {other.parent: other.id for other in self._all}  # a later one takes an earlier one's place
        self._head = turn.id
        while self._head in newest:
            self._head = newest[self._head]

    def ways(self) -> dict[str, dict[str, Versions]]:
        """Of the turns that are shown, by their ids: the versions of the `question`, and of the `answer` to that very question,
        where there are several."""
        beside: dict[str, list[Turn]] = {}
        for turn in self._all:
            beside.setdefault(turn.parent, []).append(turn)
        found = {}
        for turn in self.turns:
            newest = {other.told: other.id for other in beside[turn.parent]}  # in the order of the questions' first turns
            answers = [other.id for other in beside[turn.parent] if other.told == turn.told]
            versions = {
                "question": Versions(tuple(newest.values()), list(newest).index(turn.told)),
                "answer": Versions(tuple(answers), answers.index(turn.id)),
            }
            if several := {kind: version for kind, version in versions.items() if len(version.turns) > 1}:
                found[turn.id] = several
        return found

    def messages(self) -> list[dict[str, str]]:
        """What the model is told: the questions and answers that are shown. Thoughts stay out, and so do earlier questions
        without any answer."""
        turns, told = self.turns, []
        for turn in turns[:-1]:
            if turn.answer:
                told += [{"role": "user", "content": turn.told}, {"role": "assistant", "content": turn.answer}]
        return [*told, {"role": "user", "content": turns[-1].told}]

    def so_far(self) -> dict[str, str]:
        """What there is of the last answer, as the message that the model is to go on with; a thought belongs to it."""
        last = self.turns[-1]
        parts = {"reasoning_content": last.thought, "content": last.answer}
        return {"role": "assistant", **{name: text for name, text in parts.items() if text}}

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return {"id": self.id, "head": self._head, "turns": [dataclasses.asdict(turn) for turn in self._all]}

    def news(self) -> dict[str, Any]:
        """What an event can have changed: the last turn that is shown, and the ways to other versions. As JSON values."""
        turns = self.turns
        ways = {id: {kind: dataclasses.asdict(version) for kind, version in way.items()} for id, way in self.ways().items()}
        return {"id": self.id, "head": self._head, "turn": dataclasses.asdict(turns[-1]) if turns else None, "ways": ways}

    def _begin(self, turn: Turn) -> None:
        turn.id = self._head = _new_id()
        self._all.append(turn)


def _new_id() -> str:
    """Ids sort by the time that they were made; those of two tabs never meet."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(5)}"


def parse(data: Any) -> Conversation:
    """A conversation from JSON values; whatever is none (a browser can send anything) is an empty one. A list of turns, as
    earlier versions kept it, is read too."""
    if isinstance(data, list):
        data = {"turns": data}
    if not isinstance(data, dict) or not isinstance(items := data.get("turns") or [], list) or len(items) > MOST_TURNS:
        return Conversation()
    id, head = data.get("id") or "", data.get("head") or ""
    if not all(isinstance(name, str) and (not name or _ID.fullmatch(name)) for name in (id, head)):
        return Conversation()
    try:
        turns = [_checked(Turn(**{**item, "files": attachment.parse(item.get("files"))})) for item in items]
    except (TypeError, ValueError, AttributeError):
        return Conversation(id=id)
    conversation = Conversation(turns, head, id)
    return conversation if _grows(turns, conversation.dump()["head"]) else Conversation(id=id)


# Of every field but the files, which have a reader of their own.
_KINDS = {f.name: str if f.default is dataclasses.MISSING else type(f.default) for f in dataclasses.fields(Turn) if f.name != "files"}


def _checked(turn: Turn) -> Turn:
    """The turn itself.

    Raises:
        ValueError: a value is of the wrong type, too long, or none of those that there are.
    """
    for name, kind in _KINDS.items():
        value = getattr(turn, name)
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(name)
        if len(value) > LONGEST if isinstance(value, str) else not abs(value) < MOST:
            raise ValueError(name)
    if turn.stage not in get_args(Stage) or (turn.id and not _ID.fullmatch(turn.id)):
        raise ValueError("stage or id")
    return turn


def _grows(turns: list[Turn], head: str) -> bool:
    """Every turn follows one that came before it, and the head is one of them."""
    known = {""}
    for turn in turns:
        if turn.parent not in known or turn.id in known:
            return False
        known.add(turn.id)
    return head in known
