"""GBNF, llama.cpp's notation for grammars, translated into the notation of the library that runs them.

Owns GBNF's syntax, its limits and what a client is told about its mistakes. Plain Python: knows nothing of tokens or of the library. The
library has a lexer that takes the longest match, GBNF has none; so that both mean the same, either the whole grammar is one lexeme,
which is also fast, or, where rules contain themselves, every character is. Syntax: llama.cpp, grammars/README.md.
"""

from __future__ import annotations

import re

MAX_DEPTH = 20  # groups within groups; the library takes 30
MAX_PARTS = 2000  # rules and groups; the library goes down by one call for each
MAX_REPEAT = 2000  # as in llama.cpp
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
MAX_REGEX = 1 << 16  # characters with all rules written out
MAX_REGEX_DEPTH = 100  # groups within groups of it; the library takes 250
_NUMBER = re.compile(r"[0-9]+")
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_ESCAPE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})")
_NAMED = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-", "^": "^"}


class GrammarError(ValueError):
    """A grammar that can't be used; says what is wrong and where."""


# A rule is a list of parts: "(", ")", "|", a repetition as "{1,2}", a class of characters as "[...]", a rule's name as "@name".
Rules = dict[str, list[str]]


def translate(text: str) -> list[str]:
    """A GBNF grammar as grammars of llguidance's Lark dialect, equivalent, best first.

    Raises:
        GrammarError: it is no GBNF, lacks a rule, or is beyond a limit.
    """
    rules = _Parser(text).grammar()
    regex = _regex(rules)
    return ([] if regex is None else [f"start: /{regex}/"]) + [_lark(rules)]


def _lark(rules: Rules) -> str:
    names = {name: "start" if name == "root" else f"r{number}" for number, name in enumerate(rules)}

    def rendered(part: str) -> str:
        return names[part[1:]] if part[0] == "@" else f"/{part}/" if part[0] == "[" else part

    return "\n".join(f"{names[name]}: {' '.join(map(rendered, parts)).replace(' {', '{')}" for name, parts in rules.items())


def _regex(rules: Rules) -> str | None:
    """The grammar as one regular expression; None if it is none, or a very long one."""
    done: dict[str, tuple[str, int]] = {}  # rule → its text and depth
    open_: list[str] = ["root"]
    while open_:
        name = open_[-1]
        missing = {part[1:] for part in rules[name] if part[0] == "@"} - done.keys()
        if missing & set(open_):
            return None  # it contains itself
        if missing:
            open_.append(missing.pop())
            continue
        open_.pop()
        texts, depth, deepest = [], 0, 0
        for part in rules[name]:
            depth += (part == "(") - (part == ")")
            text, inner = done[part[1:]] if part[0] == "@" else (part, -1)
            deepest = max(deepest, depth + inner + 1)
            texts.append(f"(?:{text})" if part[0] == "@" else {"(": "(?:", '""': "(?:)"}.get(part, part))
        done[name] = "".join(texts), deepest
        if len(done[name][0]) > MAX_REGEX or deepest > MAX_REGEX_DEPTH:
            return None
    return done["root"][0]


class _Parser:
    """Recursive descent over the text; each method reads one construct at `_at` and returns its parts."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = self._parts = 0
        self._rules: Rules = {}
        self._used: dict[str, int] = {"root": 0}  # name → where it was first used

    def grammar(self) -> Rules:
        self._skip(_BLANK_LINES)
        while self._next:
            self._rule()
        for name, at in self._used.items():
            if name not in self._rules:
                raise self._error("the grammar has no rule called root" if name == "root" else f"there is no rule called {name}", at)
        return self._rules

    @property
    def _next(self) -> str:
        """The next character, empty at the end."""
        return self._text[self._at : self._at + 1]

    def _rule(self) -> None:
        begin = self._at
        self._part()
        name = self._name()
        if name in self._rules:
            raise self._error(f"the rule {name} is defined twice", begin)
        self._skip(_BLANK)
        if not self._text.startswith("::=", self._at):
            raise self._error(f"expected ::= after {name}")
        self._at += 3
        self._skip(_BLANK_LINES)
        self._rules[name] = self._alternatives(_BLANK)
        if self._next not in ("", "\r", "\n"):
            raise self._error(f"expected the end of the rule, found {self._next}")
        self._skip(_BLANK_LINES)

    def _alternatives(self, blank: re.Pattern[str]) -> list[str]:
        parts = self._sequence(blank)
        while self._next == "|":
            self._at += 1
            self._skip(_BLANK_LINES)
            parts += ["|", *self._sequence(blank)]
        return parts

    def _sequence(self, blank: re.Pattern[str]) -> list[str]:
        parts: list[str] = []
        last: list[str] = []  # what a repetition would repeat
        while True:
            begin = self._next
            if begin == '"':
                last = self._literal()
            elif begin == "[":
                last = [self._class()]
            elif begin == ".":
                self._at += 1
                last = [r"[\x{0}-\x{10FFFF}]"]
            elif begin == "(":
                last = ["(", *self._group(), ")"]
            elif begin and begin in "*+?{":
                if not last:
                    raise self._error(f"there is nothing before {begin} to repeat")
                parts[len(parts) - len(last) :] = ["(", *last, ")", self._repetition()]
                last = []
                self._skip(blank)
                continue
            elif begin and begin in "<!":
                raise self._error("tokens (<...>) can't be named in a grammar, only characters")
            elif _NAME.match(begin):
                at = self._at
                name = self._name()
                self._used.setdefault(name, at)
                last = [f"@{name}"]
            else:
                return parts or ['""']
            parts += last
            self._skip(blank)

    def _group(self) -> list[str]:
        begin = self._at
        self._part()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"groups are nested deeper than {MAX_DEPTH}")
        self._at += 1
        self._skip(_BLANK_LINES)
        inner = self._alternatives(_BLANK_LINES)
        if self._next != ")":
            raise self._error("this ( is never closed", begin)
        self._at += 1
        self._depth -= 1
        return inner

    def _literal(self) -> list[str]:
        begin = self._at
        self._at += 1
        parts = []
        while self._next != '"':
            parts.append(f"[{_code(self._character(begin))}]")
        self._at += 1
        return parts or ['""']

    def _class(self) -> str:
        begin = self._at
        self._at += 1
        negated = self._next == "^"
        self._at += negated
        ranges = []
        while self._next != "]":
            low = high = self._character(begin)
            if self._next == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._character(begin)
            if low > high:
                raise self._error(f"the range from U+{ord(low):04X} to U+{ord(high):04X} is upside down", begin)
            ranges.append(_code(low) if low == high else f"{_code(low)}-{_code(high)}")
        self._at += 1
        if not ranges:
            raise self._error("there is no character between these brackets", begin)
        return f"[{'^' if negated else ''}{''.join(ranges)}]"

    def _character(self, begin: int) -> str:
        """One character of the literal or class that begins at `begin`."""
        character = self._next
        if not character:
            raise self._error(f"this {self._text[begin]} is never closed", begin)
        self._at += 1
        if character != "\\":
            if "\ud800" <= character <= "\udfff":
                raise self._error("half a character")
            return character
        if match := _ESCAPE.match(self._text, self._at):
            code = int(match.group(match.lastindex or 0), 16)
            if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
                raise self._error(f"there is no character U+{code:04X}")
            self._at = match.end()
            return chr(code)
        if (escaped := self._next) not in _NAMED:
            raise self._error(f"unknown escape \\{escaped}")
        self._at += 1
        return _NAMED[escaped]

    def _repetition(self) -> str:
        mark = self._next
        self._at += 1
        if mark != "{":
            return {"*": "{0,}", "+": "{1,}", "?": "{0,1}"}[mark]
        self._skip(_BLANK)
        least = most = self._number()
        self._skip(_BLANK)
        if self._next == ",":
            self._at += 1
            self._skip(_BLANK)
            most = self._number() if self._next != "}" else None
            self._skip(_BLANK)
        if self._next != "}":
            raise self._error("expected } after the repetition's numbers")
        self._at += 1
        if most is not None and least is not None and most < least:
            raise self._error(f"a repetition from {least} to {most} is upside down")
        return f"{{{least},{'' if most is None else most}}}"

    def _number(self) -> int | None:
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            raise self._error("expected a number")
        if len(match.group()) > 9 or int(match.group()) > MAX_REPEAT:
            raise self._error(f"{match.group()[:20]} repetitions are too many: at most {MAX_REPEAT}")
        self._at = match.end()
        return int(match.group())

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise self._error(f"expected a rule's name, found {self._next or 'the end'}")
        self._at = match.end()
        return match.group()

    def _part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise self._error(f"rules and groups are more than {MAX_PARTS}")

    def _skip(self, blank: re.Pattern[str]) -> None:
        match = blank.match(self._text, self._at)
        assert match is not None  # they match nothing as well
        self._at = match.end()

    def _error(self, text: str, at: int | None = None) -> GrammarError:
        line = self._text.count("\n", 0, self._at if at is None else at) + 1
        return GrammarError(f"line {line}: {text}")


def _code(character: str) -> str:
    return rf"\x{{{ord(character):X}}}"
