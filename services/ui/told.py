"""What /v1/status told, read with care: whatever is missing, or is not what it should be, is nothing.

Knows no field's name; who asks does.
"""

from __future__ import annotations

import datetime
from typing import Any


class Told:
    """A JSON value, and the way into it: `told.number("engine", "running")`."""

    def __init__(self, value: Any = None) -> None:
        self._value = value

    def at(self, *path: str) -> Told:
        """The value there."""
        value = self._value
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return Told(value)

    def __bool__(self) -> bool:
        return self._value is not None

    def text(self, *path: str) -> str:
        """The text there, or ""."""
        value = self.at(*path)._value
        return value if isinstance(value, str) else ""

    def number(self, *path: str) -> float | None:
        """The number there."""
        value = self.at(*path)._value
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def yes(self, *path: str) -> bool:
        """Whether true stands there."""
        return self.at(*path)._value is True

    def time(self, *path: str) -> datetime.datetime | None:
        """The ISO 8601 time there; one without a zone is UTC."""
        try:
            found = datetime.datetime.fromisoformat(self.text(*path))
        except ValueError:
            return None
        return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)

    def items(self, *path: str) -> list[Told]:
        """The elements of the list there."""
        value = self.at(*path)._value
        return [Told(item) for item in value] if isinstance(value, list) else []

    def pairs(self, *path: str) -> dict[str, str]:
        """The names and texts of the object there."""
        value = self.at(*path)._value
        return {name: text for name, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else {}
