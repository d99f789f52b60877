"""A conversation in no dialect: who said what, which tools there are, and how it shall be answered.

Each dialect translates what its clients send into these; appliance.py takes it from there. Knows nothing of HTTP or of templates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ToolCall:
    """What the model wants a tool to do. `arguments` is the JSON text of an object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One turn: role is system, user, assistant or tool. `calls` belong to an assistant's turn; `call_id` says which call a tool answers.
    `thought` is that of an unfinished answer. Those of earlier answers are no part of it: dialects leave them out, and prompt.py cuts off
    those that stand in `content`."""

    role: str
    content: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    thought: str = ""


@dataclass(frozen=True)
class Tool:
    """A function that the model may call. `parameters` is the JSON schema of its arguments; with `strict` they satisfy it for sure."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False


@dataclass(frozen=True)
class Conversation:
    """`thinking`: None leaves it to the template; False asks for an answer without a thought, True for one with it. `parallel_calls`
    False: at most one call in an answer. `tool_choice`: auto, none, required, or the name of the one tool that must be called.
    `unfinished`: the last message is the beginning of an answer, and what is wanted is the rest of it."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    thinking: bool | None = None
    parallel_calls: bool = True
    unfinished: bool = False

    @property
    def begun(self) -> str:
        """What there is of the answer, without the thought."""
        return self.messages[-1].content if self.unfinished else ""

    def before(self) -> tuple[Message, ...]:
        """What is to be answered."""
        return self.messages[:-1] if self.unfinished else self.messages


@dataclass(frozen=True)
class Wanted:
    """How it shall be answered. `sampling` overlays the authors' defaults, with wire.Sampling's names; 0 and None are no limit.

    logit_bias: (token id, number to add to its logit). logprobs: how many of the most likely tokens to tell with each, None for no
    logprobs. grammar (GBNF) or json_schema (JSON text; "{}" is any value): what the answer, not the thought, must satisfy; frame and
    instead, as in wire.Sampling, are for tools.py to set.
    thought_limit: tokens of thought, then its end is forced. user: whose turn it is in the line.
    """

    model: str | None = None
    sampling: Mapping[str, float | int | None] = field(default_factory=dict)
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    grammar: str | None = None
    json_schema: str | None = None
    frame: tuple[str, str] = ("", "")
    instead: str | None = None
    thought_limit: int | None = None
    seconds: float = 0.0
    user: str = ""
