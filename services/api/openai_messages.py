"""The messages and tools of OpenAI's chat completions, and what they are in no dialect."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.api import fields
from services.api.conversation import Message, Tool, ToolCall
from services.api.errors import InvalidRequest
from services.api.fields import Json, Text

# known fields of a message that would change something, with the values that change nothing
REFUSED: dict[str, tuple[Any, ...]] = {"function_call": (None,), "audio": (None,)}
# thoughts of earlier answers, by the names that clients have for them, are left out; the rest says nothing that a model could read
INDIFFERENT = {"reasoning_content", "reasoning", "thinking", "thinking_blocks", "reasoning_details", "refusal", "annotations"}
THOUGHTS = ("thinking", "redacted_thinking", "reasoning")  # parts of a content that are thoughts


def _joined(content: Any) -> Any:
    """The text of a message's content: a text, a list of text parts, or nothing. Earlier thoughts are left out."""
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        key = {"text": "text", "refusal": "refusal"}.get(str(kind))
        if key and isinstance(part.get(key), str):
            texts.append(part[key])
        elif kind not in THOUGHTS:
            raise ValueError("this version reads text only, no images, sounds or files")
    return "".join(texts)


class CalledFunction(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: Annotated[Text, Field(min_length=1)]
    arguments: Text = ""


class CallBody(BaseModel):
    """A call in an earlier answer."""

    model_config = ConfigDict(extra="allow")
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


class ChatMessage(BaseModel):
    """One turn. `reasoning_content` of earlier answers is accepted and left out of the prompt, as R1's template does."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Text, BeforeValidator(_joined)] = ""
    tool_calls: list[CallBody] | None = None
    tool_call_id: Text | None = None

    def message(self, number: int) -> Message:
        """Raises InvalidRequest: calls that are none, or that are not the assistant's."""
        if self.tool_calls and self.role != "assistant":
            raise InvalidRequest(f"messages.{number}.tool_calls: only an assistant calls tools", param=f"messages.{number}.tool_calls")
        calls = tuple(call.call(f"messages.{number}.tool_calls.{at}") for at, call in enumerate(self.tool_calls or ()))
        return Message("system" if self.role == "developer" else self.role, self.content, calls, self.tool_call_id or "")

    def check_extra(self, number: int) -> list[str]:
        """Names of unknown fields.

        Raises:
            InvalidRequest: a known field that is not supported.
        """
        extra, place = self.model_extra or {}, f"messages.{number}."
        fields.refuse(extra, REFUSED, place)
        return fields.unknown(extra, REFUSED.keys() | INDIFFERENT, place)


class Function(BaseModel):
    """`strict`: the arguments of a call satisfy the schema."""

    model_config = ConfigDict(extra="allow")
    name: Annotated[Text, Field(min_length=1, max_length=128)]
    description: Text | None = None
    parameters: Json | None = None
    strict: bool | None = None


class ToolBody(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["function"]
    function: Function

    def tool(self) -> Tool:
        return Tool(self.function.name, self.function.description or "", self.function.parameters or {}, bool(self.function.strict))

    def check_extra(self, number: int) -> list[str]:
        """Names of unknown fields."""
        place = f"tools.{number}."
        return fields.unknown(self.model_extra or {}, (), place) + fields.unknown(self.function.model_extra or {}, (), f"{place}function.")


def _chosen(choice: Any) -> Any:
    """none, auto, required, or the name of the tool that must be called."""
    if choice is None or choice in ("none", "auto", "required"):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("function"), dict):
        return choice["function"].get("name") or ""
    raise ValueError("must be none, auto, required, or a function's name as an object of type function")


ToolChoice = Annotated[Text | None, BeforeValidator(_chosen)]
