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


def problem(request: wire.Generate) -> str | None:
    """Why this request can't be answered, or None."""
    if not is_prompt(request.prompt):
        return "the prompt is not a sequence of marked texts"
    if not (_whole(request.max_tokens) and request.max_tokens >= 0):
        return "max_tokens must be a whole number from 0 on"
    if not (isinstance(request.stop, tuple) and all(isinstance(text, str) and text for text in request.stop)):
        return "stop must be texts that are not empty"
    if not (isinstance(request.ignore_eos, bool) and isinstance(request.in_thought, bool)):
        return "ignore_eos and in_thought must be true or false"
    if not (request.thought_limit is None or (_whole(request.thought_limit) and request.thought_limit >= 0)):
        return "thought_limit must be a whole number from 0 on"
    if not (isinstance(request.user, str) and isinstance(request.adapter, str)):
        return "user and adapter must be texts"
    if not (isinstance(request.seconds, float | int) and math.isfinite(request.seconds) and request.seconds >= 0):
        return "seconds must be a number from 0 on"
    return _sampling_problem(request.sampling)


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
        if not (isinstance(value, float) or _whole(value)) or not math.isfinite(value) or not low <= value <= high:
            return f"{name} must be a number from {low:g} to {high:g}"
    if not (_whole(sampling.top_k) and 0 <= sampling.top_k <= MAX_TOP_K):
        return f"top_k must be a whole number from 0 to {MAX_TOP_K}"
    if not (sampling.seed is None or _whole(sampling.seed)):
        return "seed must be a whole number"
    return None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
