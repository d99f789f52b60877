"""One thing that was found out, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# ok: nothing newer; NEW: something newer; BAD: a known vulnerability; skip: there is nobody to ask; FAIL: it could not be asked
Level = Literal["ok", "NEW", "BAD", "skip", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """`found` and `todo` are one line each, for a person; `facts` are the same for programs (--json)."""

    level: Level
    topic: str
    found: str
    todo: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """As the terminal shows it."""
        text = f"{self.level:4}  {self.topic}: {self.found}{f' -> {self.todo}' if self.todo else ''}"
        return " ".join(text.splitlines())


def unasked(topic: str, why: object, todo: str = "") -> Finding:
    """What should have been asked and could not be."""
    return Finding("FAIL", topic, f"could not be asked: {why}", todo)


def code(findings: Iterable[Finding]) -> int:
    """The exit code: 1 something is new or vulnerable, else 2 something could not be asked, else 0."""
    levels = {finding.level for finding in findings}
    return 1 if levels & {"NEW", "BAD"} else 2 if "FAIL" in levels else 0
