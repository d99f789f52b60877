"""What Anthropic's messages take: the fields we serve, those we know but refuse by name, and those that change nothing here."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from services.api import effort
from services.api.conversation import Conversation, Message, Tool, ToolCall
from services.api.effort import Effort
from services.api.errors import InvalidRequest
from services.api.fields import Body, Json, Refused, StopStrings, Temperature, Text, TopK, TopP

GAP = "\n\n"  # between blocks of text, and between turns of one role: they are combined into one


def _blocks(content: Any) -> Any:
    """A text is one block of text."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _known_blocks(content: Any) -> Any:
    """Blocks, of which those that we can't read are refused by name."""
    content = _blocks(content)
    for block in content if isinstance(content, list) else ():
        kind = block.get("type") if isinstance(block, dict) else None
        if isinstance(kind, str) and kind not in BLOCKS:
            raise ValueError(f"blocks of type {kind[:100]!r} are not supported: this version reads text, no images or documents")
    return content


class TextBlock(Body):
    INDIFFERENT: ClassVar[Collection[str]] = {"cache_control", "citations"}
    type: Literal["text"]
    text: Text


class ThinkingBlock(Body):
    """A thought of an earlier answer, which is left out of the prompt."""

    INDIFFERENT: ClassVar[Collection[str]] = {"thinking", "signature", "data", "cache_control"}
    type: Literal["thinking", "redacted_thinking"]


class ToolUseBlock(Body):
    INDIFFERENT: ClassVar[Collection[str]] = {"cache_control", "caller", "toolset_name"}
    type: Literal["tool_use"]
    id: Annotated[Text, Field(min_length=1)]
    name: Annotated[Text, Field(min_length=1)]
    input: Json


Texts = Annotated[list[TextBlock], BeforeValidator(_known_blocks)]


class ToolResultBlock(Body):
    INDIFFERENT: ClassVar[Collection[str]] = {"cache_control", "is_error", "toolset_name"}
    type: Literal["tool_result"]
    tool_use_id: Text
    content: Annotated[Texts, Field(default_factory=list)]


AnyBlock = Annotated[TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock, Field(discriminator="type")]
Shown = Literal["thought", "place", "nothing"]  # of a thought: all, a block without its text, or no block either
BLOCKS = {"text", "thinking", "redacted_thinking", "tool_use", "tool_result"}


class Turn(Body):
    REFUSED: ClassVar[Refused] = {"clear_at": (None,), "output_config": (None,)}
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[AnyBlock], BeforeValidator(_known_blocks)]

    def messages(self) -> list[Message]:
        """Results of tools are messages of their own, in front of what the user says about them."""
        texts = GAP.join(block.text for block in self.content if isinstance(block, TextBlock))
        results = [
            Message("tool", GAP.join(text.text for text in block.content), call_id=block.tool_use_id)
            for block in self.content
            if isinstance(block, ToolResultBlock)
        ]
        calls = tuple(
            ToolCall(block.id, block.name, json.dumps(block.input, ensure_ascii=False))
            for block in self.content
            if isinstance(block, ToolUseBlock)
        )
        return [*results, Message(self.role, texts, calls)] if texts or calls or not results else results


def _custom(kind: Any) -> Any:
    """The client's own tools; others are refused by name."""
    if isinstance(kind, str) and kind != "custom":
        raise ValueError(f"tools of type {kind[:100]!r} run on Anthropic's own machines; this appliance has none of them")
    return kind


class OfferedTool(Body):
    INDIFFERENT: ClassVar[Collection[str]] = {
        *("cache_control", "strict", "eager_input_streaming", "defer_loading", "allowed_callers", "input_examples"),
    }
    type: Annotated[Literal["custom"] | None, BeforeValidator(_custom)] = None
    name: Annotated[Text, Field(min_length=1)]
    description: Text = ""
    input_schema: Annotated[Json, Field(default_factory=dict)]


class ToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: Text | None = None
    disable_parallel_tool_use: bool = False


class Thinking(Body):
    """`adaptive` leaves it to the model. `omitted`: the thought's text is not shown."""

    INDIFFERENT: ClassVar[Collection[str]] = {"block_binding"}
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class Format(Body):
    type: Literal["json_schema"]
    format_schema: Annotated[Json, Field(alias="schema")]


class OutputConfig(Body):
    REFUSED: ClassVar[Refused] = {"task_budget": (None,)}
    effort: Effort | None = None
    format: Format | None = None


class Metadata(Body):
    user_id: Text | None = None


class CountRequest(Body):
    """POST /v1/messages/count_tokens, and what the messages' request has in common with it."""

    REFUSED: ClassVar[Refused] = {
        "container": (None,),
        "context_management": (None,),
        "mcp_servers": (None, []),
        "output_format": (None,),  # the beta's name for output_config.format
        "speed": (None, "standard"),
        "diagnostics": (None,),
        "compaction": (None,),
        "fallbacks": (None, [], "default"),
        "thread": (None,),
    }
    # these say something about the client or about Anthropic's own operation
    INDIFFERENT: ClassVar[Collection[str]] = {
        *("cache_control", "inference_geo", "service_tier", "user_profile_id", "workspace_id", "billing_policy", "fallback_credit_token"),
    }
    model: Text
    messages: Annotated[list[Turn], Field(min_length=1)]
    system: Annotated[Texts, Field(default_factory=list)]
    tools: list[OfferedTool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    def conversation(self) -> Conversation:
        """The conversation, where turns of one role that follow each other are one.

        Raises:
            InvalidRequest: it ends with the assistant's turn.
        """
        if self.messages[-1].role == "assistant":
            raise InvalidRequest(
                "messages: the last one is the assistant's; to go on with a given beginning (prefill) is not supported by this version",
                param="messages",
                code="unsupported_parameter",
            )
        system = GAP.join(block.text for block in self.system)
        turns: list[Message] = [Message("system", system)] if system else []
        for message in (m for turn in self.messages for m in turn.messages()):
            before = turns[-1] if turns else None
            if before and before.role == message.role and message.role != "tool":
                text = GAP.join(text for text in (before.content, message.content) if text)
                turns[-1] = Message(message.role, text, before.calls + message.calls)
            else:
                turns.append(message)
        choice = self.tool_choice or ToolChoice(type="auto")
        named = {"any": "required", "tool": choice.name or ""}.get(choice.type, choice.type)
        if choice.type == "tool" and not choice.name:
            raise InvalidRequest("tool_choice.name: the name of a tool is missing", param="tool_choice.name")
        tools = tuple(Tool(tool.name, tool.description, tool.input_schema) for tool in self.tools or ())
        return Conversation(tuple(turns), tools, named, thinking=self.thought()[0], parallel_calls=not choice.disable_parallel_tool_use)

    def thought(self) -> tuple[bool | None, int | None]:
        """Whether to think (None: as the template has it) and how many tokens at most.

        Raises:
            InvalidRequest: no budget where one is needed.
        """
        config = self.thinking or Thinking(type="adaptive")
        if config.type == "disabled":
            return False, None
        if config.type == "enabled":
            if config.budget_tokens is None:
                raise InvalidRequest("thinking.budget_tokens is missing", param="thinking.budget_tokens")
            return True, config.budget_tokens
        return effort.thinking(self.output_config.effort if self.output_config else None)

    def shown(self) -> Shown:
        """What of the thought is told: nothing of it to those who do not name `thinking`, as with Anthropic. It is thought all the same."""
        if self.thinking is None:
            return "nothing"
        return "place" if self.thinking.display == "omitted" else "thought"


class MessagesRequest(CountRequest):
    """POST /v1/messages."""

    max_tokens: Annotated[int, Field(ge=1)]
    stream: bool = False
    stop_sequences: StopStrings = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    metadata: Metadata | None = None

    def schema_text(self) -> str | None:
        """What the answer must satisfy, as JSON text."""
        wanted = self.output_config.format if self.output_config else None
        return json.dumps(wanted.format_schema) if wanted else None
