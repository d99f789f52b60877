"""The screening list: patterns by which the operator has requests refused or flagged. Off unless [api] screen names a file.

Owns the file's form, what of a request is looked at, and the matching. A regular expression and a text that suit each other badly
compute for ever, so matching is done in a child process (child.py), which is stopped after SECONDS: then the request is refused. A
list like this is a weak measure, see docs/security.md. Never tells what a text said.
"""

from __future__ import annotations

import json
import logging
import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from services.api import flags
from services.api.child import Child, TooMuch, serve
from services.api.conversation import Conversation
from services.api.errors import InvalidRequest
from services.shared import logs
from services.shared.settings import SettingsError

log = logging.getLogger("api")
SECONDS = 1.0  # of computing for one request; a megabyte takes some 50 ms, and 10 ms more a pattern
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Action = Literal["refuse", "flag"]


class ScreenError(SettingsError):
    """The file of patterns can't be used. The message is one line for the person who starts Cloister."""


@dataclass(frozen=True)
class Pattern:
    """`regex` is searched in texts in NFKC, in small letters (casefold), without characters that nobody sees; its own case is ignored."""

    name: str
    regex: str
    action: Action


def read(file: Path) -> tuple[Pattern, ...]:
    """The patterns of a TOML file: [[pattern]] with name, regex and action.

    Raises:
        ScreenError: it can't be read, or says something else.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScreenError(f"[api] screen: {file} can't be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScreenError(f"[api] screen: {file} is not valid TOML: {error}") from None
    entries = table.get("pattern")
    if set(table) != {"pattern"} or not isinstance(entries, list) or not entries:
        raise ScreenError(f"[api] screen: {file} must hold [[pattern]] tables and nothing else; found {', '.join(table) or 'nothing'}")
    patterns = [_pattern(f"[api] screen: {file}: pattern {number}", entry) for number, entry in enumerate(entries, 1)]
    for number, pattern in enumerate(patterns):
        if pattern.name in {other.name for other in patterns[:number]}:
            raise ScreenError(f"[api] screen: {file}: two patterns are named {pattern.name}")
    return tuple(patterns)


def _pattern(place: str, entry: Any) -> Pattern:
    if not isinstance(entry, dict) or set(entry) != {"name", "regex", "action"}:
        found = ", ".join(entry) if isinstance(entry, dict) else repr(entry)
        raise ScreenError(f"{place} must have name, regex and action; found {found or 'nothing'}")
    name, regex, action = entry["name"], entry["regex"], entry["action"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ScreenError(
            f"{place}: name must be up to 64 letters, digits, dots, dashes and low lines, as it becomes a header; found {name!r}"
        )
    if action not in get_args(Action):
        raise ScreenError(f"{place} ({name}): action must be refuse or flag; found {action!r}")
    try:
        matches_all = _compiled(regex).search("") if isinstance(regex, str) and regex else True
    except (re.error, RecursionError, OverflowError) as error:
        raise ScreenError(f"{place} ({name}): regex is not a regular expression: {error}") from None
    if matches_all:
        raise ScreenError(f"{place} ({name}): regex must be text that does not match everything; found {regex!r}")
    return Pattern(name, regex, action)


def _compiled(regex: str) -> re.Pattern[str]:
    return re.compile(regex, re.IGNORECASE)


class Screen:
    """`patterns`: none screens nothing. Close it in the end."""

    def __init__(self, patterns: Sequence[Pattern] = (), *, seconds: float = SECONDS) -> None:
        self._patterns = {pattern.name: pattern for pattern in patterns}
        self._seconds = seconds
        self._child = Child(__name__, [pattern.regex for pattern in patterns], seconds=seconds)

    async def check(self, conversation: Conversation) -> None:
        """Look at all that people wrote in it; what flags is told to flags.py.

        Raises:
            InvalidRequest: a pattern refuses it, or it can't be looked at in time. Its code is `screened`.
        """
        await self.check_texts(list(texts(conversation)))

    async def check_texts(self, found: Sequence[str]) -> None:
        """The same for texts of no conversation."""
        if not self._patterns:
            return
        try:
            hits = await self._child.ask([text.encode("utf-8", "replace") for text in found])
        except TooMuch:
            log.warning("screened %s", logs.facts(action="refuse", reason="too long"))
            raise InvalidRequest(
                f"the request could not be screened in {self._seconds:g} s of computing: shorten its texts", code="screened"
            ) from None
        patterns = [list(self._patterns.values())[number] for number in hits]
        for pattern in patterns:
            log.warning("screened %s", logs.facts(action=pattern.action, pattern=pattern.name))
        for pattern in patterns:
            if pattern.action == "refuse":
                raise InvalidRequest(f"the request is refused by this appliance's screening list ({pattern.name})", code="screened")
            flags.add(pattern.name)

    async def close(self) -> None:
        """End the child."""
        await self._child.close()


def texts(conversation: Conversation) -> Iterator[str]:
    """All that people wrote: contents of every role, tools' names and arguments, descriptions and schemas."""
    for message in conversation.messages:
        yield message.content
        if message.thought:
            yield message.thought
        for call in message.calls:
            yield call.name
            yield call.arguments
    for tool in conversation.tools:
        yield tool.name
        yield tool.description
        yield json.dumps(dict(tool.parameters), ensure_ascii=False)


# --- in the child ---


def _invisible() -> re.Pattern[str]:
    """Characters that nobody sees: of format (zero width, direction, soft hyphens, tags), and selectors of variants."""
    letters = map(chr, range(0x110000))
    formats = "".join(letter for letter in letters if unicodedata.category(letter) == "Cf")
    return re.compile(f"[{formats}\u034f\u115f\u1160\u180b-\u180d\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def matcher(regexes: Sequence[str]) -> Callable[[Sequence[bytes]], list[int]]:
    """What gives the numbers of those that are found in any of some texts."""
    patterns, invisible = [_compiled(regex) for regex in regexes], _invisible()

    def plain_form(text: str) -> str:
        folded = unicodedata.normalize("NFKC", invisible.sub("", text)).casefold()
        return unicodedata.normalize("NFKC", folded)  # which casefold may undo

    def search(found: Sequence[bytes]) -> list[int]:
        plain = [plain_form(text.decode()) for text in found]
        return [number for number, pattern in enumerate(patterns) if any(pattern.search(text) for text in plain)]

    return search


if __name__ == "__main__":
    serve(lambda regexes: (None, matcher(regexes)))
