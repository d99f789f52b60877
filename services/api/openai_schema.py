"""What OpenAI's chat completions take: the fields we serve, those we know but refuse by name, and those that change nothing here."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from services.api.conversation import Conversation, Message, Wanted
from services.api.effort import EFFORTS, Effort
from services.api.errors import InvalidRequest
from services.api.fields import (
    Body,
    Json,
    LogitBias,
    MinP,
    Penalty,
    Refused,
    RepeatPenalty,
    Seconds,
    Seed,
    StopStrings,
    Temperature,
    Text,
    TopK,
    TopP,
)
from services.api.openai_messages import ChatMessage, ToolBody, ToolChoice, chosen

MOST_ANSWERS = 8  # choices of one request
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed")


class StreamOptions(Body):
    """`include_progress` is ours: chunks that tell the place in the queue and how much of the prompt is read."""

    include_usage: bool = False
    include_progress: bool = False
    include_obfuscation: bool = False


class JsonSchema(Body):
    """`strict` or not, the answer satisfies it."""

    name: Text | None = None
    description: Text | None = None
    schema_: Annotated[Json | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(Body):
    """What the answer, not the thought, has to be."""

    REFUSED: ClassVar[Refused] = {"schema": (None,)}  # where llama-server has it
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema_text(self) -> str | None:
        """The JSON schema as text, None for any text.

        Raises:
            InvalidRequest: it is missing.
        """
        if self.type == "text":
            return None
        if self.type == "json_object":
            return '{"type": "object"}'
        if self.json_schema is None:
            raise InvalidRequest("response_format.json_schema is missing", param="response_format.json_schema")
        return json.dumps(self.json_schema.schema_ or {}, ensure_ascii=False)


class TemplateSwitches(Body):
    """What of a template's own variables may be set; any other is known to somebody's template, so it is refused."""

    model_config = ConfigDict(extra="forbid")
    enable_thinking: bool | None = None
    thinking: bool | None = None


class ChatRequest(Body):
    """POST /v1/chat/completions. top_k, min_p, repeat_penalty, ignore_eos, enable_thinking, chat_template_kwargs and grammar (GBNF) are
    the usual extensions. `thinking_budget` is the most tokens of thought, `timeout` the most seconds until the answer ends; both are ours.
    `user` and `safety_identifier` (OpenAI's newer name) tell users of one key apart, for whom the waiting line is fair.
    `continue_final_message` and `add_generation_prompt` as in vLLM and transformers: the answer is the rest of the last message."""

    REFUSED: ClassVar[Refused] = {
        "functions": (None, []),
        "function_call": (None, "none"),
        "modalities": (None, ["text"]),
        "audio": (None,),
        "prediction": (None,),
        "web_search_options": (None,),
        "verbosity": (None, "medium"),
        "store": (None, False),
        "moderation": (None,),
    }
    # these say something about the client or about OpenAI's own operation
    INDIFFERENT: ClassVar[Collection[str]] = {
        *("metadata", "service_tier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    }
    model: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    repeat_penalty: RepeatPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: StopStrings = None
    ignore_eos: bool = False
    logit_bias: LogitBias | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    grammar: Annotated[Text, Field(min_length=1)] | None = None
    tools: list[ToolBody] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    enable_thinking: bool | None = None
    chat_template_kwargs: TemplateSwitches | None = None
    thinking_budget: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    timeout: Seconds | None = None
    continue_final_message: bool = False
    add_generation_prompt: bool | None = None
    user: Text | None = None
    safety_identifier: Text | None = None

    def conversation(self) -> Conversation:
        """What is said.

        Raises:
            InvalidRequest: tool calls that are none, or nothing to go on with.
        """
        begun = self._begun()
        said = [message.message(number) for number, message in enumerate(self.messages[:-1] if begun else self.messages)]
        return Conversation(
            (*said, begun) if begun else tuple(said),
            tuple(tool.tool() for tool in self.tools or ()),
            chosen(self.tool_choice),
            self._thinking()[0],
            parallel_calls=self.parallel_tool_calls is not False,
            unfinished=begun is not None,
        )

    def _begun(self) -> Message | None:
        """The last message as the beginning of the answer, if it is that.

        Raises:
            InvalidRequest: one of the two options without the other, nothing to answer, or a form that the answer can't have from here on.
        """
        if self.continue_final_message != (self.add_generation_prompt is False):
            message = "continue_final_message: true and add_generation_prompt: false only go together"
            raise InvalidRequest(message, param="add_generation_prompt" if self.continue_final_message else "continue_final_message")
        if not self.continue_final_message:
            return None
        begun = self.messages[-1].unfinished(len(self.messages) - 1)
        if len(self.messages) == 1:
            raise InvalidRequest("continue_final_message: there is no message before the last one", param="messages")
        if begun.content:
            formed = self.response_format is not None and self.response_format.type != "text"
            offered = self.tools or () if self.tool_choice != "none" else ()
            called = chosen(self.tool_choice) not in ("none", "auto") or any(tool.function.strict for tool in offered)
            for param, bound in {"response_format": formed, "grammar": self.grammar is not None, "tools": called}.items():
                if bound:
                    message = f"continue_final_message: {param} can't bind an answer whose content has begun; go on with its thought only"
                    raise InvalidRequest(message, param=param, code="unsupported_parameter")
        return begun

    def wanted(self, user: str) -> Wanted:
        """How it shall be answered.

        Raises:
            InvalidRequest: fields that don't go together.
        """
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
        return Wanted(
            self.model,
            {name: getattr(self, name) for name in SAMPLING},
            max_tokens=self.max_completion_tokens or self.max_tokens or 0,
            stop=tuple(self.stop or ()),
            ignore_eos=self.ignore_eos,
            logit_bias=tuple((self.logit_bias or {}).items()),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            grammar=self.grammar,
            json_schema=self.response_format.schema_text() if self.response_format else None,
            thought_limit=self._thinking()[1],
            seconds=self.timeout or 0.0,
            user=user,
        )

    def _thinking(self) -> tuple[bool | None, int | None]:
        """Whether to think, None for as the template likes, and for how many tokens at most. The more exact of several fields counts."""
        switches = self.chat_template_kwargs or TemplateSwitches()
        budget = self.thinking_budget
        if budget is None and self.reasoning_effort:
            budget = EFFORTS[self.reasoning_effort]
        for switch in (self.enable_thinking, switches.enable_thinking, switches.thinking):
            if switch is not None:
                return switch, (budget or None) if switch else 0
        if budget == 0:
            return False, 0
        return True if self.reasoning_effort or budget else None, budget
