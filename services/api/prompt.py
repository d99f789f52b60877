"""The model's own chat template, rendered to marked parts: what the template wrote and what people wrote stay apart.

Every text that people wrote is replaced by an unguessable marker, the template is rendered in Jinja's sandbox, and the result is split at
the markers. Whether that equals the plain rendering is checked every time. Knows nothing of tokens or HTTP; how a conversation looks to
templates stands in turns.py. What a template may cost is bounded by renderer.py, which runs this in a process of its own.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import meta
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.api import reasoning, turns
from services.api.conversation import Message, Tool
from services.api.errors import ApiError, InvalidRequest
from services.shared.wire import Part

MAX_RENDERED = 16 << 20  # characters; a template that writes more is broken or hostile
SWITCHES = ("enable_thinking", "thinking")  # variables by which templates let thoughts be switched on and off


class TemplateError(ApiError):
    """The model's chat template can't be used: the model's fault, not the client's."""

    code = "template_error"


@dataclass(frozen=True)
class Prompt:
    """What the engine gets. `in_thought`: the template has opened a thought that the model must close."""

    parts: tuple[Part, ...]
    in_thought: bool

    def beginning(self) -> tuple[Part, ...]:
        """What comes before the last text that is not the template's."""
        last = max((at for at, (own, _) in enumerate(self.parts) if not own), default=0)
        return self.parts[:last]


class ChatTemplate:
    """A compiled chat template. `variables` are those that it looks at, such as `tools`.

    Raises:
        TemplateError: its source is not valid Jinja.
    """

    def __init__(self, source: str, *, bos_token: str | None, eos_token: str | None) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        self._tokens = {"bos_token": bos_token or "", "eos_token": eos_token or ""}
        try:
            self._template = environment.from_string(source)
            self.variables = frozenset(meta.find_undeclared_variables(environment.parse(source)))
        except Exception as error:  # also what the compiler makes of what Jinja made: SyntaxError, RecursionError, MemoryError
            raise TemplateError(f"the model's chat template is not valid: {type(error).__name__}: {error}") from None

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] = (), thinking: bool | None = None) -> Prompt:
        """The prompt for the next answer to a conversation. `thinking` as in Conversation, where the template has a switch for it.

        Raises:
            InvalidRequest: the template refuses this order of roles, or leaves something out.
            TemplateError: it fails or changes the texts.
        """
        messages = [turns.without_thought(message) for message in messages]
        switches: dict[str, Any] = {} if thinking is None else {name: thinking for name in SWITCHES if name in self.variables}
        error: ApiError | None = None
        calls = any(message.calls for message in messages)
        for style in turns.STYLES:
            if (style.described and not tools) or ((style.empty or style.json) and not calls):
                continue  # the same as another
            try:
                return self._render(turns.Turns(messages, tools, style), switches)
            except RecursionError:
                raise InvalidRequest("tools or the arguments of calls are nested too deep", param="tools") from None
            except ApiError as reason:  # templates differ in how they want to have calls
                error = error or reason
        assert error is not None
        raise error

    def _render(self, wanted: turns.Turns, switches: dict[str, Any]) -> Prompt:
        secret = secrets.token_hex(16)  # unguessable, so nobody can write a marker
        texts: list[str] = []
        places: dict[int, turns.Place] = {}

        def mark(text: str, place: turns.Place | None = None) -> str:
            if not text:  # stays empty: templates may look for that
                return text
            if place is not None:
                places[len(texts)] = place
            texts.append(text)
            return f"<{secret}:{len(texts) - 1}>"

        marked = self._run(wanted.variables(mark) | switches)
        first, *rest = re.split(f"<{secret}:([0-9]+)>", marked)
        numbers = list(map(int, rest[::2]))
        for number in sorted(places.keys() - set(numbers)):
            what, param = places[number]
            raise InvalidRequest(f"the model's chat template drops {what}: merge it with another or leave it out", param=param)
        plain = self._run(wanted.variables(lambda text, place=None: text) | switches)
        parts = _aligned(plain, first, [(texts[number], after) for number, after in zip(numbers, rest[1::2], strict=True)])
        if parts is None:
            raise TemplateError("the model's chat template changes the texts in a way that can't be kept apart from its own")
        return Prompt(parts, _opens_thought(parts))

    def _run(self, variables: dict[str, Any]) -> str:
        size, chunks = 0, []
        try:
            for chunk in self._template.generate(**variables, add_generation_prompt=True, **self._tokens):
                size += len(chunk)
                if size > MAX_RENDERED:
                    raise TemplateError(f"the model's chat template writes more than {MAX_RENDERED} characters")
                chunks.append(chunk)
        except _Refused as error:
            raise InvalidRequest(f"the model's chat template refuses these messages: {error}", param="messages") from None
        except TemplateError:
            raise
        except Exception as error:
            raise TemplateError(f"the model's chat template failed: {type(error).__name__}: {error}") from None
        return "".join(chunks)


def _aligned(wanted: str, first: str, rest: Sequence[tuple[str, str]]) -> tuple[Part, ...] | None:
    """The parts whose texts together are the plain rendering: the template's first text, then each text of people with the
    template's text after it. None when nothing fits."""
    if not wanted.startswith(first):
        return None
    parts, at = [(True, first)], len(first)
    for text, following in rest:
        for form in _forms(text):
            if wanted.startswith(form, at) and wanted.startswith(following, at + len(form)):
                break
        else:
            return None
        parts += [(False, form), (True, following)]
        at += len(form) + len(following)
    return tuple(part for part in parts if part[1]) if at == len(wanted) else None


def _forms(text: str) -> Iterator[str]:
    """How a text may stand in a template's rendering: as it is, trimmed, as a string of JSON or of Python."""
    yield text
    yield from (text.strip(), text.strip("\n"), text.lstrip("\n"), text.lstrip(), text.rstrip())
    for kept in (text, text.strip()):
        yield from (json.dumps(kept, ensure_ascii=False)[1:-1], json.dumps(kept)[1:-1], repr(kept)[1:-1])


class _Refused(Exception):
    """The template called raise_exception."""


def _raise(message: str) -> None:
    raise _Refused(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    """Like transformers' filter: no HTML escapes, which would change the prompt."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _opens_thought(parts: Sequence[Part]) -> bool:
    """Does the template's last word open a thought and leave it open?"""
    if not parts or not parts[-1][0]:
        return False
    tail = parts[-1][1]
    return tail.rfind(reasoning.START) > tail.rfind(reasoning.END)
