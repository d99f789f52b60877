"""`python -m tests.engine.hostile_grammars MODEL SEED SECONDS`: random and malformed grammars and schemas, compiled and followed.

A program of its own, so that its death is an outcome too. Each must be followed or refused with a message. Prints how many were what.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import llama_cpp

from services.engine.grammar import Grammar, GrammarError, Grammars
from services.engine.native import NativeVocabulary
from services.shared import backend

SCRAPS = [
    "root",
    "::=",
    '"',
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "*",
    "+",
    "?",
    "|",
    ".",
    "^",
    "-",
    "\\",
    "x",
    '"a"',
    "[a-z]",
    "\n",
    " ",
    "a ::= ",
]
SCRAPS += ["root ::= ", "{2,3}", "{0,2000}", r"\x41", r"\u", "#", "鸡", "\0", "<think>", "!", ",", "9" * 20, "a", "root root", '( a | "" )']
KEYS = ["type", "properties", "items", "required", "enum", "const", "anyOf", "allOf", "oneOf", "$ref", "$defs", "pattern", "format", "a"]
KEYS += ["minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "multipleOf", "minItems", "maxItems", "prefixItems", "not"]
KEYS += ["additionalProperties", "patternProperties", "minProperties", "$id", "$anchor", "x-guidance"]
ATOMS: list[Any] = ["string", "object", "array", "integer", "number", "null", "#", "#/$defs/a", "^a{1,1000}$", "((a*)*)*b", "[", "email"]
ATOMS += ["date-time", "", "a", 0, 1, -1, 3, 1.5, 10**12, 10**30, -1e300, 5e-324, True, False, None, [], {}, "x" * 3000, r"\d{9999999}"]
ATOMS += [r"\p{L}{500}", 7919]
TYPES = ["string", "object", "array", "integer", "number", ["string", "null"]]


class Maker:
    """Makes grammars and schemas from a seed."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def text(self) -> str:
        return "".join(self._source.choices(SCRAPS, k=self._source.randint(1, 40)))

    def rules(self) -> str:
        return "\n".join(f"{name} ::= {self._alternatives(3)}" for name in ("root", *"abcde"))

    def _alternatives(self, depth: int) -> str:
        return " | ".join(self._items(depth) for _ in range(self._source.randint(1, 3)))

    def _items(self, depth: int) -> str:
        kinds = ['"ab"', '""', "[a-z ]", ".", "[^x]", "root", *"abcde"] + ([f"({self._alternatives(depth - 1)})"] if depth else [])
        marks = ["", "", "*", "?", "+", "{2}", "{0,2000}", "{3,}"]
        return " ".join(self._source.choice(kinds) + self._source.choice(marks) for _ in range(self._source.randint(1, 3)))

    def value(self, depth: int = 4) -> Any:
        """Any JSON, of words that schemas are made of."""
        kind = self._source.random()
        if depth == 0 or kind < 0.3:
            return self._source.choice(ATOMS)
        if kind < 0.5:
            return [self.value(depth - 1) for _ in range(self._source.randint(0, 4))]
        return {self._source.choice(KEYS): self.value(depth - 1) for _ in range(self._source.randint(0, 5))}

    def schema(self, depth: int = 4) -> dict[str, Any]:
        """Nearly a schema."""
        made: dict[str, Any] = {"type": self._source.choice(TYPES)}
        for key in self._source.sample(KEYS, self._source.randint(0, 4)):
            if depth and key in ("items", "additionalProperties"):
                made[key] = self.schema(depth - 1)
            elif depth and key in ("anyOf", "allOf", "oneOf", "prefixItems"):
                made[key] = [self.schema(depth - 1) for _ in range(2)]
            elif depth and key in ("properties", "$defs", "patternProperties"):
                made[key] = {name: self.schema(depth - 1) for name in "ab"}
            else:
                made[key] = self.value(1)
        return made


def follow(grammar: Grammar, vocabulary: NativeVocabulary, source: random.Random) -> None:
    """Take some of the tokens that it allows, and try others in between."""
    for _ in range(15):
        token = int(source.choice(grammar.allowed().nonzero()[0]))
        assert grammar.take(token), "allowed, but not taken"
        if token in vocabulary.ends:
            return
        grammar.take(source.randrange(vocabulary.size))


def main() -> None:
    path, seed, seconds = sys.argv[1:]
    backend.load(llama_cpp)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    vocabulary = NativeVocabulary(llama_cpp.llama_model_get_vocab(model))
    grammars = Grammars(vocabulary, vocabulary.control.values())
    source, outcomes, end = random.Random(int(seed)), Counter[str](), time.monotonic() + float(seconds)
    maker = Maker(source)
    while time.monotonic() < end:
        kind = source.choice(["text", "rules", "value", "schema"])
        made = getattr(maker, kind)()
        try:
            grammar = grammars.start(made, None) if kind in ("text", "rules") else grammars.start(None, json.dumps(made))
            assert grammar is not None
            follow(grammar, vocabulary, source)
            outcomes["followed"] += 1
        except GrammarError as error:
            assert str(error).startswith(("grammar ", "json_schema ", "the grammar ")), error
            outcomes["refused"] += 1
    memory = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    print(json.dumps({**outcomes, "memory": memory}))


if __name__ == "__main__":
    main()
