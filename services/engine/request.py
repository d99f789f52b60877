"""What a request may ask. The socket's messages carry any type and value; what would break the loop or native code stops here.

Knows nothing of tokens: whether a prompt fits is the engine's to say.
"""

from __future__ import annotations

import math
from typing import Any

from services.shared import wire

RANGES = {  # inclusive; wider than any dialect allows, narrow enough for 32-bit floats
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (0.01, 100.0),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
}
MAX_TOP_K = 2**31 - 1
MAX_BIAS = 100.0
MAX_BIASED = 300  # tokens
MAX_LOGPROBS = 20


def problem(request: wire.Generate) -> str | None:
    """Why this request can't be answered, or None."""
    if not is_prompt(request.prompt):
        return "the prompt is not a sequence of marked texts"
    if not (_whole(request.max_tokens) and request.max_tokens >= 0):
        return "max_tokens must be a whole number from 0 on"
    if not (isinstance(request.stop, tuple) and all(isinstance(text, str) and text for text in request.stop)):
        return "stop must be texts that are not empty"
    if not all(isinstance(flag, bool) for flag in (request.ignore_eos, request.in_thought, request.may_think)):
        return "ignore_eos, in_thought and may_think must be true or false"
    if not (request.thought_limit is None or (_whole(request.thought_limit) and request.thought_limit >= 0)):
        return "thought_limit must be a whole number from 0 on"
    if not (isinstance(request.user, str) and isinstance(request.adapter, str)):
        return "user and adapter must be texts"
    if not (isinstance(request.seconds, float | int) and math.isfinite(request.seconds) and request.seconds >= 0):
        return "seconds must be a number from 0 on"
    if reason := _sampling_problem(request.sampling):
        return reason
    if request.ignore_eos and (request.sampling.grammar or request.sampling.json_schema):
        return "ignore_eos does not go with grammar or json_schema: where they end, nothing can follow"
    return None


def is_prompt(prompt: Any) -> bool:
    """Is it a sequence of wire.Part?"""
    return isinstance(prompt, tuple) and all(
        isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], bool) and isinstance(part[1], str) for part in prompt
    )


def _sampling_problem(sampling: Any) -> str | None:
    if not isinstance(sampling, wire.Sampling):
        return "sampling is missing"
    for name, (low, high) in RANGES.items():
        value = getattr(sampling, name)
        if not _number(value) or not low <= value <= high:
            return f"{name} must be a number from {low:g} to {high:g}"
    if not (_whole(sampling.top_k) and 0 <= sampling.top_k <= MAX_TOP_K):
        return f"top_k must be a whole number from 0 to {MAX_TOP_K}"
    if not (sampling.seed is None or _whole(sampling.seed)):
        return "seed must be a whole number"
    if not (sampling.logprobs is None or (_whole(sampling.logprobs) and 0 <= sampling.logprobs <= MAX_LOGPROBS)):
        return f"logprobs must be a whole number from 0 to {MAX_LOGPROBS}"
    for name in ("grammar", "json_schema"):
        value = getattr(sampling, name)
        if not (value is None or (isinstance(value, str) and value)):
            return f"{name} must be text that is not empty"
    frame = sampling.frame
    if not (isinstance(frame, tuple) and len(frame) == 2 and all(isinstance(text, str) for text in frame)):
        return "frame must be two texts"
    if not (sampling.instead is None or isinstance(sampling.instead, str)):
        return "instead must be text"
    if (any(frame) or sampling.instead is not None) and sampling.json_schema is None:
        return "frame and instead need a json_schema"
    if sampling.grammar is not None and sampling.json_schema is not None:
        return "grammar and json_schema can't both be set"
    return _bias_problem(sampling.logit_bias)


def _bias_problem(bias: Any) -> str | None:
    if not (isinstance(bias, tuple) and all(isinstance(entry, tuple) and len(entry) == 2 for entry in bias)):
        return "logit_bias must be pairs of a token and a number"
    if len(bias) > MAX_BIASED:
        return f"logit_bias has {len(bias)} entries: at most {MAX_BIASED}"
    for token, value in bias:
        if not (_whole(token) and token >= 0):
            return "logit_bias: a token is a whole number from 0 on"
        if not _number(value) or not -MAX_BIAS <= value <= MAX_BIAS:
            return f"logit_bias of token {token} must be a number from {-MAX_BIAS:g} to {MAX_BIAS:g}"
    if len({token for token, _ in bias}) < len(bias):
        return "logit_bias names a token twice"
    return None


def _number(value: Any) -> bool:
    return (isinstance(value, float) or _whole(value)) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
