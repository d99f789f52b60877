"""What OpenAI's chat completions take: the fields we serve, those we know but refuse by name, and those that change nothing here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.api.errors import InvalidRequest
from services.api.prompt import Message

# known fields that would change the answer, with the values that change nothing
REFUSED: dict[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none"),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
    "reasoning_effort": (None,),
    "verbosity": (None,),
    "store": (None, False),
}
# known fields that say something about the client or about OpenAI's own operation, not about the answer
INDIFFERENT = {"user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls"}


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn. `reasoning_content` of earlier answers is accepted and left out of the prompt, as R1's template does."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    def message(self) -> Message:
        content = self.content
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        return Message("system" if self.role == "developer" else self.role, content or "")


class StreamOptions(BaseModel):
    """`include_progress` is ours: chunks that tell the place in the queue and how much of the prompt is read."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_progress: bool = False
    include_obfuscation: bool = False


class ChatRequest(BaseModel):
    """POST /v1/chat/completions. top_k, min_p, repeat_penalty and ignore_eos are the usual extensions."""

    model_config = ConfigDict(extra="allow")
    model: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[str, Field(min_length=1)] | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] | None = None
    ignore_eos: bool = False
    n: Literal[1] | None = None

    def check_extra(self) -> list[str]:
        """Names of unknown fields, which are ignored and listed in a response header.

        Raises:
            InvalidRequest: a known field that is not supported.
        """
        unknown = []
        for name, value in (self.model_extra or {}).items():
            if name in REFUSED:
                if value not in REFUSED[name]:
                    raise InvalidRequest(f"{name} is not supported by this version", param=name, code="unsupported_parameter")
            elif name not in INDIFFERENT:
                unknown.append(name)
        return unknown

    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
