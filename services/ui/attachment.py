"""A file that goes with a question: its name, its text, and how both are put before the model.

It lives in the visitor's browser with the conversation. Knows nothing of where the text came from or of how it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_NAME = 120  # characters
_UNFIT = re.compile(r"[\x00-\x1f\x7f`]+")


@dataclass(frozen=True)
class Attachment:
    """One file. `tokens` is how much of the context it takes, as the API counted it when it was added."""

    name: str
    text: str
    tokens: int = 0


def named(name: str) -> str:
    """A file's name as one line that can't be taken for anything else; folders are left out, and long names keep their end."""
    last = re.split(r"[/\\]", name)[-1]
    return _UNFIT.sub(" ", last).strip()[-LONGEST_NAME:] or "file"


def told(question: str, files: Sequence[Attachment]) -> str:
    """What the model is told: each file's name and its text between fences that do not occur in it, and then the question."""
    return "\n\n".join([*(f"{file.name}:\n{_fenced(file.text)}" for file in files), *([question] if question else [])])


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text.rstrip()}\n{fence}"


def parse(data: Any) -> list[Attachment]:
    """Files from JSON values; each one that is none (a browser can send anything) is left out."""
    return [
        Attachment(named(item["name"]), item["text"], max(0, item["tokens"]))
        for item in (data if isinstance(data, list) else ())
        if isinstance(item, dict)
        and isinstance(item.get("name"), str)
        and isinstance(item.get("text"), str)
        and type(item.get("tokens")) is int
    ]
