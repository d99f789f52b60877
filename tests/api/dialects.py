"""What the tests of all dialects need: scripts, a client's own types, and the four ways in which a request goes wrong."""

from __future__ import annotations

from typing import Any

import httpx

from services.shared import wire
from tests.api.scripted import Stand, Step, accepted, die, failed, finished, tag, text, until

THOUGHT: list[Any] = [accepted(), text("hm", "mm"), tag("</think>"), text("\n\nBe", "cause."), finished()]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALL = ['<tool_call>\n{"name": "weather", "arg', 'uments": {"city": "Köln"}}\n</tool_call>']
CALLED: list[Any] = [accepted(), text("I look.", *CALL), finished()]
TWO_CALLS: list[Any] = [accepted(), text(*CALL, "\n", *CALL), finished()]


def scored(said: str, score: float = -0.5, special: bool = False) -> Step:
    """A delta of one token with its logprob and that of another one."""
    top = ((said.encode(), score), (b"\xe4", -3.0))
    return lambda name: wire.Delta(name, said, special, 1, ((said.encode(), score, top),))


def prompt(stand: Stand, number: int = -1) -> str:
    """The whole prompt of a request that the engine got."""
    return "".join(said for _, said in stand.engine.requests[number].prompt)


def refusals(stand: Stand, path: str, body: dict[str, Any]) -> dict[str, httpx.Response]:
    """What a valid request gets when things go wrong: the model, the prompt's length, the load."""
    found = {"model": httpx.post(stand.url + path, json=body | {"model": "gpt-5"}, timeout=30)}
    for name, step in {
        "context": failed("context_length_exceeded", "the prompt has 5000 tokens, 4096 fit", 5000, 4096),
        "overloaded": failed("overloaded", "the line is full", retry_after=7),
        "internal": failed("internal", "it broke"),
    }.items():
        stand.engine.play(step)
        found[name] = httpx.post(stand.url + path, json=body, timeout=30)
    return found


def dying(stand: Stand) -> None:
    """From now on the engine dies in the middle of an answer."""
    stand.engine.play(accepted(), tag("</think>"), text("so far"), 0.5, die)


def back(stand: Stand) -> None:
    """Wait until the engine is there again."""
    until(lambda: stand.app.state.appliance.state() == "ready")
