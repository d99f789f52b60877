"""What OpenAI's chat completions take: the fields we serve, those we know but refuse by name, and those that change nothing here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from services.api.conversation import Message
from services.api.errors import InvalidRequest

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
INDIFFERENT = {"metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls"}


# the same for a message's fields
REFUSED_IN_MESSAGES: dict[str, tuple[Any, ...]] = {"tool_calls": (None, []), "function_call": (None,), "audio": (None,)}


def _joined(content: Any) -> Any:
    """The text of a message's content: a text, a list of text parts, or nothing."""
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content):
        raise ValueError("this version reads text only, no images, sounds or files")
    return "".join(part["text"] for part in content)


def _characters(text: str) -> str:
    """JSON can spell half of a surrogate pair, which is no character."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("the text holds half of a surrogate pair, which is no character")
    return text


def _listed(stop: Any) -> Any:
    """One stop string is a list of one."""
    return [stop] if isinstance(stop, str) else stop


Text = Annotated[str, AfterValidator(_characters)]
StopString = Annotated[Text, Field(min_length=1)]


class ChatMessage(BaseModel):
    """One turn. `reasoning_content` of earlier answers is accepted and left out of the prompt, as R1's template does."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Text, BeforeValidator(_joined)] = ""

    def message(self) -> Message:
        return Message("system" if self.role == "developer" else self.role, self.content)


class StreamOptions(BaseModel):
    """`include_progress` is ours: chunks that tell the place in the queue and how much of the prompt is read."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_progress: bool = False
    include_obfuscation: bool = False


class ChatRequest(BaseModel):
    """POST /v1/chat/completions. top_k, min_p, repeat_penalty and ignore_eos are the usual extensions. `thinking_budget` is the most
    tokens of thought, `timeout` the most seconds until the answer ends; both are ours. `user` and `safety_identifier` (OpenAI's newer
    name) tell users of one key apart, for whom the waiting line is fair."""

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
    stop: Annotated[Annotated[list[StopString], Field(max_length=16)] | None, BeforeValidator(_listed)] = None
    ignore_eos: bool = False
    thinking_budget: Annotated[int, Field(ge=0)] | None = None
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    user: Text | None = None
    safety_identifier: Text | None = None
    n: Literal[1] | None = None

    def check_extra(self) -> list[str]:
        """Names of unknown fields, which are ignored and listed in a response header.

        Raises:
            InvalidRequest: a known field that is not supported.
        """
        extra = self.model_extra or {}
        refuse(extra, REFUSED)
        for number, message in enumerate(self.messages):
            refuse(message.model_extra or {}, REFUSED_IN_MESSAGES, f"messages.{number}.")
        return [name for name in extra if name not in REFUSED and name not in INDIFFERENT]

    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return tuple(self.stop or ())


def refuse(fields: Mapping[str, Any], refused: Mapping[str, tuple[Any, ...]], place: str = "") -> None:
    """Check fields against those that are known but not supported.

    Raises:
        InvalidRequest: one of them has a value that would change something.
    """
    for name in fields.keys() & refused.keys():
        if fields[name] not in refused[name]:
            raise InvalidRequest(f"{place}{name} is not supported by this version", param=place + name, code="unsupported_parameter")
