"""One thing that was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "BAD", "skip"]


@dataclass(frozen=True)
class Finding:
    """`found` and `todo` are one line each, for a person. `skip`: it could not be looked at, and `found` says why."""

    level: Level
    topic: str
    found: str
    todo: str = ""

    def line(self) -> str:
        """As the terminal and the report show it."""
        text = f"{self.level:4}  {self.topic}: {self.found}{f' -> {self.todo}' if self.todo else ''}"
        return " ".join(text.splitlines())


class Notes:
    """Findings on one topic, in their order."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.all: list[Finding] = []

    def ok(self, found: str) -> None:
        self.all.append(Finding("ok", self.topic, found))

    def warn(self, found: str, todo: str) -> None:
        self.all.append(Finding("warn", self.topic, found, todo))

    def bad(self, found: str, todo: str) -> None:
        self.all.append(Finding("BAD", self.topic, found, todo))

    def skip(self, found: str) -> None:
        self.all.append(Finding("skip", self.topic, found))


def wrong(findings: Iterable[Finding]) -> int:
    """How many of them say that something is wrong."""
    return sum(finding.level == "BAD" for finding in findings)
