"""The messages and tools of OpenAI's chat completions, and what they are in no dialect."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from services.api.conversation import Message, Tool, ToolCall
from services.api.errors import InvalidRequest
from services.api.fields import Body, Json, Refused, Text


class TextPart(Body):
    INDIFFERENT: ClassVar[Collection[str]] = {"prompt_cache_breakpoint", "cache_control"}
    type: Literal["text"]
    text: Text

    def said(self) -> str:
        return self.text


class RefusalPart(Body):
    """What an earlier answer would not do."""

    type: Literal["refusal"]
    refusal: Text

    def said(self) -> str:
        return self.refusal


class ThoughtPart(Body):
    """A thought of an earlier answer, which is left out of the prompt."""

    INDIFFERENT: ClassVar[Collection[str]] = {"thinking", "reasoning", "text", "summary", "signature", "data"}
    type: Literal["thinking", "redacted_thinking", "reasoning"]

    def said(self) -> str:
        return ""


THOUGHTS = ("reasoning", "thinking", "thinking_blocks", "reasoning_details")  # other names that clients have for reasoning_content
PARTS = ("text", "refusal", "thinking", "redacted_thinking", "reasoning")


def _parts(content: Any) -> Any:
    """The parts of a message's content, which may be a text or nothing. What we can't read is refused."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise ValueError("it must be a text, or a list of parts")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in PARTS:
            raise ValueError(
                f"parts of type {str(kind)[:100]!r} are not supported: this version reads text only, no images, sounds or files"
            )
    return content


Part = Annotated[TextPart | RefusalPart | ThoughtPart, Field(discriminator="type")]


class CalledFunction(Body):
    name: Annotated[Text, Field(min_length=1)]
    arguments: Text = ""


class CallBody(Body):
    """A call in an earlier answer."""

    id: Text = ""
    type: Literal["function"] = "function"
    function: CalledFunction

    def call(self, place: str) -> ToolCall:
        """Raises InvalidRequest when the arguments are no JSON object."""
        arguments = self.function.arguments.strip() or "{}"
        try:
            fine = isinstance(json.loads(arguments), dict)
        except (ValueError, RecursionError):
            fine = False
        if not fine:
            raise InvalidRequest(f"{place}.function.arguments must be the JSON text of an object", param=f"{place}.function.arguments")
        return ToolCall(self.id, self.function.name, arguments)


class ChatMessage(Body):
    """One turn. `reasoning_content` of earlier answers is accepted and left out of the prompt, as R1's template does; that of an unfinished
    one is the beginning of its thought."""

    REFUSED: ClassVar[Refused] = {"function_call": (None,), "audio": (None,)}
    # thoughts of earlier answers, by the names that clients have for them, are left out; the rest says nothing that a model could read
    INDIFFERENT: ClassVar[Collection[str]] = {*THOUGHTS, "refusal", "annotations"}
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[list[Part], BeforeValidator(_parts), Field(default_factory=list)]
    reasoning_content: Text | None = None
    tool_calls: list[CallBody] | None = None
    tool_call_id: Text | None = None

    def message(self, number: int) -> Message:
        """Raises InvalidRequest: calls that are none, or that are not the assistant's."""
        if self.tool_calls and self.role != "assistant":
            raise InvalidRequest(f"messages.{number}.tool_calls: only an assistant calls tools", param=f"messages.{number}.tool_calls")
        calls = tuple(call.call(f"messages.{number}.tool_calls.{at}") for at, call in enumerate(self.tool_calls or ()))
        return Message("system" if self.role == "developer" else self.role, self.text(), calls, self.tool_call_id or "")

    def unfinished(self, number: int) -> Message:
        """The same as the beginning of the answer.

        Raises:
            InvalidRequest: it is nobody's, empty or complete, or its thought stands elsewhere.
        """
        place, extra = f"messages.{number}", self.model_extra or {}
        if self.role != "assistant":
            raise InvalidRequest("continue_final_message: the last message must be the assistant's", param=f"{place}.role")
        if self.tool_calls:
            raise InvalidRequest("continue_final_message: a message that calls tools is complete", param=f"{place}.tool_calls")
        names = [name for name in THOUGHTS if extra.get(name)]
        if names or any(isinstance(part, ThoughtPart) for part in self.content):
            message = "continue_final_message: the thought of the last message must stand in its reasoning_content"
            raise InvalidRequest(message, param=f"{place}.{names[0] if names else 'content'}")
        thought = self.reasoning_content or ""
        if not (self.text() + thought).strip():
            message = "continue_final_message: the last message has neither content nor reasoning_content"
            raise InvalidRequest(message, param=f"{place}.content")
        return Message(self.role, self.text(), thought=thought)

    def text(self) -> str:
        """What is said, without thoughts."""
        return "".join(part.said() for part in self.content)


class Function(Body):
    """`strict`: the arguments of a call satisfy the schema."""

    name: Annotated[Text, Field(min_length=1, max_length=128)]
    description: Text | None = None
    parameters: Json | None = None
    strict: bool | None = None


class ToolBody(Body):
    type: Literal["function"]
    function: Function

    def tool(self) -> Tool:
        return Tool(self.function.name, self.function.description or "", self.function.parameters or {}, bool(self.function.strict))


class ChosenFunction(Body):
    name: Annotated[Text, Field(min_length=1)]


class ChosenTool(Body):
    type: Literal["function"]
    function: ChosenFunction


def _known_choice(choice: Any) -> Any:
    """What we can't do is refused in words."""
    if choice is None or choice in ("none", "auto", "required"):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function":
        return choice
    kind = choice.get("type") if isinstance(choice, dict) else choice
    raise ValueError(f"must be none, auto, required, or a function's name as an object of type function; found {str(kind)[:100]!r}")


ToolChoice = Annotated[Literal["none", "auto", "required"] | ChosenTool | None, BeforeValidator(_known_choice)]


def chosen(choice: Literal["none", "auto", "required"] | ChosenTool | None) -> str:
    """none, auto, required, or the name of the tool that must be called."""
    return choice.function.name if isinstance(choice, ChosenTool) else choice or "auto"
