"""Marked prompt parts to tokens, such that nobody's text ever becomes a control token.

llama.cpp's parse_special=False keeps CONTROL tokens out, but still matches USER_DEFINED ones such as `</think>`
(ggml-org/llama.cpp#26309); so every literal occurrence of such a token in plain text is cut in two before tokenizing, where that changes
nothing else. The template's own control tokens are looked up directly. Template text and user text that touch are tokenized in one run:
the merges across the border are those of the reference tokenizer. Knows nothing of templates or of llama_cpp.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol
from unicodedata import category

from services.shared.wire import Part


class Vocabulary(Protocol):
    """What the tokenizer needs of a vocabulary."""

    @property
    def added(self) -> Mapping[str, int]:
        """Text → id of every CONTROL and USER_DEFINED token."""
        ...

    @property
    def user_defined(self) -> Mapping[str, int]:
        """Those that plain tokenization would match."""
        ...

    def plain(self, text: str) -> list[int]:
        """Tokens of text, control tokens not parsed, nothing added."""
        ...


class Tokenizer:
    """Turns prompts into tokens for one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._added = _any_of(vocabulary.added)
        self._user_defined = _any_of(vocabulary.user_defined)
        self._cuts = {text: _cut_of(text, vocabulary.user_defined) for text in vocabulary.user_defined}

    def encode(self, prompt: Iterable[Part]) -> list[int]:
        """Token ids of a prompt of marked parts; (True, text) is the template's, (False, text) is somebody's."""
        tokens: list[int] = []
        run: list[str] = []
        for is_template, text in prompt:
            if not is_template or self._added is None:
                run.append(text)
                continue
            at = 0
            for match in self._added.finditer(text):
                run.append(text[at : match.start()])
                tokens += self._plain("".join(run))
                tokens.append(self._vocabulary.added[match.group()])
                run, at = [], match.end()
            run.append(text[at:])
        return tokens + self._plain("".join(run))

    def _plain(self, text: str) -> list[int]:
        if not text:
            return []
        tokens: list[int] = []
        for piece in self._cut(text):
            tokens += self._vocabulary.plain(piece)
        return tokens

    def _cut(self, text: str) -> list[str]:
        """Pieces of `text` of which none holds a USER_DEFINED token's text (one of a single character can't be cut)."""
        if self._user_defined is None:
            return [text]
        pieces, at = [], 0
        while match := self._user_defined.search(text, at):
            # what follows the cut is searched again, so tokens nested in the rest are cut as well
            middle = match.start() + self._cuts[match.group()]
            pieces.append(text[at:middle])
            at = middle
        return [*pieces, text[at:]]


def _cut_of(text: str, others: Collection[str]) -> int:
    """Where to cut this text so that the first part holds none of the others, nor itself.

    Between a letter and a sign, "</think" and ">", where there is such a place: byte-level BPE never joins these, so the tokens are those
    of a vocabulary that has no such token.
    """
    borders = [at for at in range(1, len(text)) if text[at - 1].isalpha() and category(text[at])[0] in "PS" and text[at] not in "'’"]
    return next((at for at in [*borders, 2, 1] if at < len(text) and not any(other in text[:at] for other in others if other)), 1)


def _any_of(texts: Mapping[str, int]) -> re.Pattern[str] | None:
    """What finds the leftmost of the texts, of several that begin there the longest. Some files name a token without any text."""
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
