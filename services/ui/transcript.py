"""A conversation as the messages of Gradio's Chatbot, in the visitor's language.

Owns what stands in the fold's title and the notes under an answer that ended otherwise than well. Knows nothing of events,
of the API, or of Markdown.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from services.ui import markdown
from services.ui.conversation import Conversation, Turn
from services.ui.texts import Words, spoken

AGAIN = "again"

Message = dict[str, Any]


def messages(conversation: Conversation, words: Words, above: list[Message] | None = None) -> list[Message]:
    """The messages, oldest first; a turn is its question, then its fold, answer and note as far as there are any. `above`: those of
    all turns but the last, where they are known."""
    turns = conversation.turns
    found = [*(_of(turns[:-1], words) if above is None else above), *_of(turns[-1:], words)]
    if turns and turns[-1].stage in ("failed", "lost"):
        found[-1]["options"] = [{"value": AGAIN, "label": words.again}]
    return found


def above(conversation: Conversation, words: Words) -> list[Message]:
    """The messages of all turns but the last: these stay as they are while its answer grows, and need preparing only once."""
    return _of(conversation.turns[:-1], words)


def _of(turns: Sequence[Turn], words: Words) -> list[Message]:
    found: list[Message] = []
    for turn in turns:
        found.append(_message("user", turn.question))
        if title := _title(turn, words):
            fold = _message("assistant", markdown.prepared(turn.thought, growing=turn.stage == "thinking"))
            fold["metadata"] = {"title": title}
            # Open while it thinks, and where thinking is all there is; folded once the answer has begun.
            if turn.answer or turn.stage == "done":
                fold["metadata"]["status"] = "done"
            elif turn.under_way:
                fold["metadata"]["status"] = "pending"
            found.append(fold)
        if turn.answer:
            found.append(_message("assistant", markdown.prepared(turn.answer, growing=turn.under_way)))
        if note := _note(turn, words):
            found.append(_message("assistant", note))
    return found


def turn_at(conversation: Conversation, words: Words, index: int) -> int:
    """The turn whose question is the message at `index`."""
    questions = [message["role"] for message in messages(conversation, words)[: index + 1]]
    return questions.count("user") - 1


def _message(role: str, text: str) -> Message:
    # As a typed part: a plain string would go through inspect.cleandoc, which moves indented lines.
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _title(turn: Turn, words: Words) -> str:
    match turn.stage:
        case "waiting":
            return f"{words.waiting} · {spoken(words, turn.seconds)}"
        case "queued":
            return words.queued_next if turn.number <= 1 else words.queued.format(before=turn.number - 1)
        case "reading":
            return words.reading_percent.format(percent=turn.number) if turn.number else words.reading
        case "thinking":
            return f"{words.thinking} · {spoken(words, turn.seconds)}"
        case _:
            return words.thought.format(time=spoken(words, turn.seconds)) if turn.thought else ""


def _note(turn: Turn, words: Words) -> str:
    match turn.stage:
        case "stopped":
            return _aside(words.stopped if turn.answer or turn.thought else words.stopped_before)
        case "cut":
            return _aside(words.cut)
        case "lost":
            return _aside(words.lost, kind="trouble")
        case "failed":
            trouble = words.troubles.get(turn.error, words.troubles[""])
            detail = " ".join(turn.detail.split())
            small = f"<small>{html.escape(words.detail.format(detail=detail))}</small>" if detail else ""
            return _aside(str(trouble), small, kind="trouble")
        case _:
            return ""


def _aside(text: str, small: str = "", kind: str = "plain") -> str:
    return f'<div class="note {kind}"><span>{html.escape(text)}</span>{small}</div>'
