"""What a visitor has chosen about how answers are made, and what of it goes with a question.

What has not been chosen is as the model has it by itself, and nothing of it is sent. The browser keeps the choices and hands them in
with each question. Knows nothing of how they are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 20_000  # characters of a system prompt
LONGEST_NAME = 200  # characters of an adapter's name
MOST_TOKENS = 1_000_000  # more than any context that an ordinary computer holds


@dataclass(frozen=True)
class Bounds:
    """The numbers from `least` to `most`; `whole`: those without a fraction."""

    least: float
    most: float
    whole: bool = False

    def hold(self, value: Any) -> bool:
        """Whether the value is one of these numbers."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return self.least <= value <= self.most


# As the API takes them. It takes any top_p above 0: of less than this, nothing but the likeliest word is left.
BOUNDS = {
    "temperature": Bounds(0, 2),
    "top_p": Bounds(0.01, 1),
    "max_tokens": Bounds(1, MOST_TOKENS, whole=True),
    "thinking_budget": Bounds(0, MOST_TOKENS, whole=True),
}


@dataclass(frozen=True)
class Choices:
    """None and "" are the model's own. `max_tokens` counts the thought too, `thinking_budget` the thought alone; `adapter` is the name of
    a LoRA adapter."""

    system: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    thinking: bool | None = None
    thinking_budget: int | None = None
    adapter: str = ""

    def fields(self) -> dict[str, Any]:
        """Fields of a request for chat completions: those that are chosen, and no others."""
        fields: dict[str, Any] = {"temperature": self.temperature, "top_p": self.top_p, "max_completion_tokens": self.max_tokens}
        if self.thinking is False or self.thinking_budget == 0:
            fields["enable_thinking"] = False
        else:
            fields |= {"enable_thinking": self.thinking, "thinking_budget": self.thinking_budget}
        fields["model"] = self.adapter or None
        return {name: value for name, value in fields.items() if value is not None}

    def messages(self, said: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """What is said, after the system prompt."""
        return [*([{"role": "system", "content": self.system}] if self.system else []), *said]


OWN = Choices()  # all as the model has it


def parse(data: Any) -> Choices:
    """Choices from JSON values. A browser can send anything: what is unknown, or not what may be chosen, is not chosen."""
    if not isinstance(data, dict):
        return OWN
    thinking = data.get("thinking")
    return Choices(
        system=_text(data.get("system"), LONGEST),
        thinking=thinking if isinstance(thinking, bool) else None,
        adapter=_text(data.get("adapter"), LONGEST_NAME),
        **{name: data[name] for name, bounds in BOUNDS.items() if bounds.hold(data.get(name))},
    )


def _text(value: Any, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which is no character
        return ""
    return value.strip()
