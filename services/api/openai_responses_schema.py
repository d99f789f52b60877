"""What OpenAI's responses take: fields we serve, those we know but refuse by name (nothing is kept), and those that change nothing."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from services.api import effort, fields
from services.api.conversation import Conversation, Message, Tool, ToolCall
from services.api.effort import Effort
from services.api.errors import InvalidRequest
from services.api.fields import Body, Json, MinP, Refused, Seed, Temperature, Text, TopK, TopP
from services.api.openai_messages import RefusalPart

NOT_KEPT = ("store", "previous_response_id", "conversation", "background")
INCLUDED = ("reasoning.encrypted_content", "message.output_text.logprobs")  # the former is for what is not kept; here thoughts are told
ITEMS = ("message", "function_call", "function_call_output", "reasoning")


class TextPart(Body):
    """Text of anybody; what an earlier answer's has beside it says nothing to the model."""

    INDIFFERENT: ClassVar[Collection[str]] = {"annotations", "logprobs", "prompt_cache_breakpoint"}
    type: Literal["input_text", "output_text", "text", "reasoning_text", "summary_text"]
    text: Text

    def said(self) -> str:
        return self.text


PARTS = ("input_text", "output_text", "text", "refusal", "reasoning_text", "summary_text")


def _parts(content: Any) -> Any:
    """The parts of a content, which may be a text. What we can't read is refused by name."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise ValueError("it must be a text, or a list of parts")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in PARTS:
            raise ValueError(f"parts of type {str(kind)[:100]!r} are not supported: this version reads text, no images, sounds or files")
    return content


Content = Annotated[list[Annotated[TextPart | RefusalPart, Field(discriminator="type")]], BeforeValidator(_parts)]


def _said(content: Content) -> str:
    return "".join(part.said() for part in content)


class MessageItem(Body):
    INDIFFERENT: ClassVar[Collection[str]] = {"id", "status", "phase"}
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class CallItem(Body):
    REFUSED: ClassVar[Refused] = {"namespace": (None,)}
    INDIFFERENT: ClassVar[Collection[str]] = {"id", "status", "caller", "async"}
    type: Literal["function_call"]
    call_id: Annotated[Text, Field(min_length=1)]
    name: Annotated[Text, Field(min_length=1)]
    arguments: Text


class CallOutputItem(Body):
    REFUSED: ClassVar[Refused] = {"namespace": (None,)}
    INDIFFERENT: ClassVar[Collection[str]] = {"id", "status", "caller", "name"}
    type: Literal["function_call_output"]
    call_id: Text
    output: Content


class ReasoningItem(Body):
    """A thought of an earlier answer, which is left out of the prompt."""

    INDIFFERENT: ClassVar[Collection[str]] = {"id", "status", "summary", "content", "encrypted_content"}
    type: Literal["reasoning"]


AnyItem = Annotated[MessageItem | CallItem | CallOutputItem | ReasoningItem, Field(discriminator="type")]


def _items(given: Any) -> Any:
    """A text is one message of the user; messages may leave out their type. What we can't read is refused by name."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if not isinstance(given, list):
        return given
    items = [{"type": "message", **item} if isinstance(item, dict) and "role" in item else item for item in given]
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "item_reference":
            raise ValueError("items of type 'item_reference' are not supported: nothing is kept here that they could refer to")
        if isinstance(kind, str) and kind not in ITEMS:
            raise ValueError(f"items of type {kind[:100]!r} are not supported")
    return items


class Format(Body):
    """`strict` or not, the answer satisfies the schema."""

    name: Text | None = None
    description: Text | None = None
    strict: bool | None = None
    type: Literal["text", "json_object", "json_schema"] = "text"
    format_schema: Annotated[Json | None, Field(alias="schema")] = None


class TextConfig(Body):
    format: Format | None = None
    verbosity: Literal["medium"] | None = None


def _function(kind: Any) -> Any:
    """The one kind of tools that we offer; others are refused by name."""
    if isinstance(kind, str) and kind != "function":
        raise ValueError(f"tools of type {kind[:100]!r} are not supported: this appliance has none of them")
    return kind


class Reasoning(Body):
    """`summary`: the thought is told as one; nobody makes it shorter, so a concise one is not to be had."""

    REFUSED: ClassVar[Refused] = {"context": (None, "auto", "current_turn"), "mode": (None, "standard")}
    effort: Effort | None = None
    summary: Literal["auto", "detailed"] | None = None
    generate_summary: Literal["auto", "detailed"] | None = None


class OfferedFunction(Body):
    REFUSED: ClassVar[Refused] = {"async": (None, False), "allowed_callers": (None, ["direct"])}
    INDIFFERENT: ClassVar[Collection[str]] = {"defer_loading"}
    type: Annotated[Literal["function"], BeforeValidator(_function)]
    name: Annotated[Text, Field(min_length=1)]
    description: Text | None = None
    parameters: Json | None = None
    strict: bool | None = None


def _known_choice(choice: Any) -> Any:
    """What we can't do is refused in words."""
    kind = choice.get("type") if isinstance(choice, dict) else choice
    if kind not in (None, "auto", "none", "required", "function"):
        raise ValueError(f"must be auto, none, required, or an object of type function; found {str(kind)[:100]!r}")
    return choice


class NamedChoice(Body):
    type: Literal["function"]
    name: Annotated[Text, Field(min_length=1)]


class ResponseRequest(Body):
    """POST /v1/responses. The fields that sampling shares with chat completions' extensions are served too."""

    REFUSED: ClassVar[Refused] = {
        "store": (None, False),
        "previous_response_id": (None,),
        "conversation": (None,),
        "background": (None, False),
        "background_options": (None,),
        "context_management": (None, []),
        "prompt": (None,),
        "truncation": (None, "disabled"),  # a prompt that is too long is an error, not a shorter prompt
        "max_tool_calls": (None,),
        "moderation": (None,),
        "image": (None,),
        "modalities": (None, ["text"]),
    }
    # these say something about the client or about OpenAI's own operation
    INDIFFERENT: ClassVar[Collection[str]] = {
        *("service_tier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "access_programs", "stream_options"),
    }
    model: Text | None = None
    input: Annotated[list[AnyItem], BeforeValidator(_items), Field(min_length=1)]
    instructions: Text | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    seed: Seed | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[Text] | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    tools: list[OfferedFunction] | None = None
    tool_choice: Annotated[Literal["auto", "none", "required"] | NamedChoice | None, BeforeValidator(_known_choice)] = None
    parallel_tool_calls: bool | None = None
    metadata: Annotated[dict[Text, Text], Field(max_length=16)] | None = None
    user: Text | None = None
    safety_identifier: Text | None = None

    def check_extra(self) -> list[str]:
        """Names of unknown fields.

        Raises:
            InvalidRequest: a known field that is not supported.
        """
        extra = self.model_extra or {}
        for name in NOT_KEPT:
            if extra.get(name) not in self.REFUSED[name]:
                raise InvalidRequest(
                    f"{name} is not supported: this appliance keeps no responses; send the whole conversation as input, with store=false",
                    param=name,
                    code="unsupported_parameter",
                )
        for number, name in enumerate(self.include or ()):
            fields.refuse({str(number): name}, {str(number): INCLUDED}, "include.")
        return self.unknown()

    def conversation(self) -> Conversation:
        """The conversation: an answer and its calls, which are items of their own, are one turn."""
        turns: list[Message] = [Message("system", self.instructions)] if self.instructions else []
        for item in self.input:
            match item:
                case MessageItem():
                    turns.append(Message("system" if item.role == "developer" else item.role, _said(item.content)))
                case CallItem():
                    call = ToolCall(item.call_id, item.name, item.arguments)
                    before = turns.pop() if turns and turns[-1].role == "assistant" else Message("assistant", "")
                    turns.append(Message("assistant", before.content, (*before.calls, call)))
                case CallOutputItem():
                    turns.append(Message("tool", _said(item.output), call_id=item.call_id))
        choice = self.tool_choice or "auto"
        return Conversation(
            tuple(turns),
            tuple(Tool(tool.name, tool.description or "", tool.parameters or {}) for tool in self.tools or ()),
            choice if isinstance(choice, str) else choice.name,
            thinking=self.thought()[0],
            parallel_calls=self.parallel_tool_calls is not False,
        )

    def thought(self) -> tuple[bool | None, int | None]:
        """Whether to think (None: as the template has it) and how many tokens at most."""
        return effort.thinking(self.reasoning.effort if self.reasoning else None)

    def summarized(self) -> bool:
        """Shall the thought be told as a summary?"""
        return bool(self.reasoning and (self.reasoning.summary or self.reasoning.generate_summary))

    def scored(self) -> int | None:
        """How many of the most likely tokens are told with each."""
        wanted = self.top_logprobs is not None or "message.output_text.logprobs" in (self.include or ())
        return (self.top_logprobs or 0) if wanted else None

    def schema_text(self) -> str | None:
        """What the answer must satisfy, as JSON text.

        Raises:
            InvalidRequest: a schema is wanted, but missing.
        """
        wanted = (self.text.format if self.text else None) or Format()
        if wanted.type == "json_schema" and wanted.format_schema is None:
            raise InvalidRequest("text.format.schema is missing", param="text.format.schema")
        if wanted.type == "text":
            return None
        return json.dumps({"type": "object"} if wanted.type == "json_object" else wanted.format_schema)
