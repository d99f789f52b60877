"""What Ollama's /api/chat and /api/generate take: the fields we serve, those we know but refuse by name, and those that change nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StrictBool

from services.api import effort
from services.api.conversation import Conversation, Message, Tool, ToolCall, Wanted
from services.api.effort import Effort
from services.api.errors import InvalidRequest
from services.api.fields import Body, Json, MinP, Penalty, Refused, RepeatPenalty, StopStrings, Temperature, Text, TopK, TopP


def _text(content: Any) -> Any:
    """No text is an empty one."""
    return "" if content is None else content


def _said(content: Any) -> Any:
    """`"format": ""` asks for nothing."""
    return None if content == "" else content


OptionalText = Annotated[Text, BeforeValidator(_text)]


class CalledFunction(Body):
    """`arguments` is an object, not JSON text as OpenAI has it."""

    name: Text
    arguments: Annotated[Json, Field(default_factory=dict)]


class OllamaCall(Body):
    id: Text | None = None
    function: CalledFunction


class OllamaMessage(Body):
    """One turn. `thinking` of earlier answers is accepted and left out of the prompt."""

    REFUSED: ClassVar[Refused] = {"images": (None, [])}
    role: Literal["system", "user", "assistant", "tool"]
    content: OptionalText = ""
    thinking: str | None = None
    tool_calls: list[OllamaCall] | None = None
    tool_name: Text | None = None
    tool_call_id: Text | None = None


class OfferedFunction(Body):
    name: Annotated[Text, Field(min_length=1)]
    description: OptionalText = ""
    parameters: Json | None = None


class OllamaTool(Body):
    type: Literal["function"] = "function"
    function: OfferedFunction


class Options(Body):
    """`num_predict` below 1 is no limit, `seed` below 0 is any."""

    REFUSED: ClassVar[Refused] = {
        "mirostat": (None, 0),
        "tfs_z": (None, 1, 1.0),
        "typical_p": (None, 1, 1.0),
        "repeat_last_n": (None, -1),  # penalties see the whole text
        "penalize_newline": (None, True),
    }
    # how the model is run, which is the appliance's business, or what counts only with options that are refused
    INDIFFERENT: ClassVar[Collection[str]] = {
        *("numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mmap", "use_mlock"),
        *("embedding_only", "num_thread", "num_keep", "num_gqa", "mirostat_tau", "mirostat_eta"),
    }
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    repeat_penalty: RepeatPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    num_predict: Annotated[int, Field(ge=-2)] | None = None
    num_ctx: Annotated[int, Field(ge=0)] | None = None
    stop: StopStrings = None

    def sampling(self) -> dict[str, float | int | None]:
        """With wire.Sampling's names."""
        names = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
        return {**{name: getattr(self, name) for name in names}, "seed": None if self.seed == -1 else self.seed}


class OllamaRequest(Body):
    """What both have in common. `think` is a switch or how much. `keep_alive` changes nothing: the model stays in memory."""

    REFUSED: ClassVar[Refused] = {
        "images": (None, []),
        "suffix": (None, ""),
        "template": (None, ""),
        "context": (None, []),
        "width": (None, 0),
        "height": (None, 0),
        "steps": (None, 0),
        "truncate": (None, False),  # a prompt that is too long is an error, not a shorter prompt
        "shift": (None, False),
    }
    model: Text
    stream: bool | None = None
    format: Annotated[Literal["json"] | Json | None, BeforeValidator(_said)] = None
    options: Options | None = None
    keep_alive: float | str | None = None
    think: StrictBool | Effort | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def name(self) -> str:
        """The model's name without the tag that Ollama's clients add."""
        return self.model.removesuffix(":latest")

    def settings(self) -> Options:
        """The options, given or not."""
        return self.options or Options()

    def thinking(self) -> tuple[bool | None, int | None]:
        """Whether to think (None: as the template has it) and how many tokens at most."""
        return effort.thinking(self.think) if isinstance(self.think, str) else (self.think, None)

    def schema_text(self) -> str | None:
        """What the answer must satisfy, as JSON text; `json` is any object."""
        if self.format is None:
            return None
        return json.dumps({"type": "object"} if self.format == "json" else self.format)

    def wanted(self, user: str) -> Wanted:
        """How it shall be answered."""
        options = self.settings()
        return Wanted(
            self.name(),
            options.sampling(),
            max_tokens=max(0, options.num_predict or 0),
            stop=tuple(options.stop or ()),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            json_schema=self.schema_text(),
            thought_limit=self.thinking()[1],
            user=user,
        )

    def check_extra(self, context: int) -> list[str]:
        """Names of fields and options that are ignored; `context` is how many tokens the model can be given.

        Raises:
            InvalidRequest: a known field that is not supported.
        """
        names = self.unknown()
        return [*names, "options.num_ctx"] if (self.settings().num_ctx or 0) > context else names


class OllamaChatRequest(OllamaRequest):
    """POST /api/chat."""

    messages: Annotated[list[OllamaMessage], Field(default_factory=list)]
    tools: list[OllamaTool] | None = None

    def asked(self) -> Conversation | None:
        """The conversation, if there is one."""
        return Conversation(self.turns(), self.offered(), thinking=self.thinking()[0]) if self.messages else None

    def turns(self) -> tuple[Message, ...]:
        """The messages. Calls get ids where the client names none, and a tool's result goes to the call that it answers."""
        turns: list[Message] = []
        open_calls: list[ToolCall] = []
        for place, m in enumerate(self.messages):
            calls = [
                ToolCall(call.id or f"call_{place}_{number}", call.function.name, json.dumps(call.function.arguments, ensure_ascii=False))
                for number, call in enumerate(m.tool_calls or ())
            ]
            open_calls += calls
            turns.append(Message(m.role, m.content, tuple(calls), _answered(m, open_calls) if m.role == "tool" else ""))
        return tuple(turns)

    def offered(self) -> tuple[Tool, ...]:
        """The tools."""
        return tuple(Tool(t.function.name, t.function.description, t.function.parameters or {}) for t in self.tools or ())


def _answered(m: OllamaMessage, open_calls: list[ToolCall]) -> str:
    """The id of the call that a tool's result belongs to: the one it names, the first of that name, or the first at all."""
    if m.tool_call_id:
        return m.tool_call_id
    named: Sequence[ToolCall] = [call for call in open_calls if not m.tool_name or call.name == m.tool_name]
    if not named:
        return ""
    open_calls.remove(named[0])
    return named[0].id


class GenerateRequest(OllamaRequest):
    """POST /api/generate. `raw`: the prompt is the model's whole input, without a template."""

    prompt: OptionalText = ""
    system: OptionalText = ""
    raw: bool | None = None

    def check_extra(self, context: int) -> list[str]:
        if self.raw and self.system:
            raise InvalidRequest("raw takes the prompt as it is: system can't be used with it", param="system")
        return super().check_extra(context)

    def asked(self) -> Conversation | str | None:
        """The prompt as a conversation, or raw, if there is one."""
        if self.raw or not self.prompt:
            return self.prompt or None
        system = (Message("system", self.system),) if self.system else ()
        return Conversation((*system, Message("user", self.prompt)), thinking=self.thinking()[0])
