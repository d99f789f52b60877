"""The model's own chat template, rendered to marked parts: what the template wrote and what people wrote stay apart.

Each message's content is replaced by an unguessable marker, the template is rendered in Jinja's sandbox, and the result is split at the
markers. Whether that equals the plain rendering is checked every time. Knows nothing of tokens or HTTP. What a template may cost is
bounded by renderer.py, which runs this in a process of its own.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.api import reasoning
from services.api.conversation import Message
from services.api.errors import ApiError, InvalidRequest
from services.shared.wire import Part

MAX_RENDERED = 16 << 20  # characters; a template that writes more is broken or hostile


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
    """A compiled chat template.

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
        except Exception as error:  # also what the compiler makes of what Jinja made: SyntaxError, RecursionError, MemoryError
            raise TemplateError(f"the model's chat template is not valid: {type(error).__name__}: {error}") from None

    def render(self, messages: Sequence[Message]) -> Prompt:
        """The prompt for the next answer to a conversation.

        Raises:
            InvalidRequest: the template refuses this order of roles.
            TemplateError: it fails or changes the texts.
        """
        plain = [Message(m.role, reasoning.strip_thought(m.content) if m.role == "assistant" else m.content) for m in messages]
        # unguessable, so nobody can write one; empty contents stay empty, templates may look for that
        secret = secrets.token_hex(16)
        marked = self._run([Message(m.role, f"<{secret}:{number}>" if m.content else "") for number, m in enumerate(plain)])
        first, *rest = re.split(f"<{secret}:([0-9]+)>", marked)
        numbers = list(map(int, rest[::2]))
        for number in sorted({number for number, m in enumerate(plain) if m.content} - set(numbers)):
            raise InvalidRequest(
                f"the model's chat template drops message {number} (role {plain[number].role}): merge it with another or leave it out",
                param=f"messages.{number}",
            )
        contents = [plain[number].content for number in numbers]
        parts = _aligned(self._run(plain), first, list(zip(contents, rest[1::2], strict=True)))
        if parts is None:
            raise TemplateError("the model's chat template changes the texts in a way that can't be kept apart from its own")
        return Prompt(parts, _opens_thought(parts))

    def _run(self, messages: Sequence[Message]) -> str:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        size, chunks = 0, []
        try:
            for chunk in self._template.generate(messages=turns, add_generation_prompt=True, **self._tokens):
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
    """The parts whose texts together are the plain rendering: the template's first text, then each content with the template's text
    after it. Contents stand as they are or, as some templates do, trimmed. None when nothing fits."""
    if not wanted.startswith(first):
        return None
    parts, at = [(True, first)], len(first)
    for content, following in rest:
        for form in (content, content.strip(), content.strip("\n"), content.lstrip("\n"), content.lstrip(), content.rstrip()):
            if wanted.startswith(form, at) and wanted.startswith(following, at + len(form)):
                break
        else:
            return None
        parts += [(False, form), (True, following)]
        at += len(form) + len(following)
    return tuple(part for part in parts if part[1]) if at == len(wanted) else None


class _Refused(Exception):
    """The template called raise_exception."""


def _raise(message: str) -> None:
    raise _Refused(message)


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    """Like transformers' filter: no HTML escapes, which would change the prompt."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _opens_thought(parts: Sequence[Part]) -> bool:
    """Does the template's last word open a thought and leave it open?"""
    if not parts or not parts[-1][0]:
        return False
    tail = parts[-1][1]
    return tail.rfind(reasoning.START) > tail.rfind(reasoning.END)
