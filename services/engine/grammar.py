"""Which tokens may come next: GBNF grammars and JSON schemas over a model's vocabulary, run by llguidance.

llama.cpp's own grammars are no choice here: `root ::= " " root "y" | " " root "z" | "x"` keeps them busy for ever, deeply nested
groups overflow the stack, and a token that wasn't approved aborts the process (seen with 0.3.36). llguidance has a bound for every step,
and what is wrong comes back as a message. Knows nothing of logits or requests.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from typing import Any, Protocol

import llguidance
import numpy as np

from services.engine.gbnf import GrammarError as GrammarError
from services.engine.gbnf import translate

MAX_SIZE = 1 << 16  # bytes of a grammar or schema
MAX_DEPTH = 64  # of a schema
KEPT = 16  # compiled grammars
STACK = 64 << 20  # bytes for compiling: the library calls itself once for every rule on the way, some 3 kB each
MAX_MULTIPLE = 10_000  # the least common multiple of a schema's multipleOf, decimal points aside: a million take 11 s and 330 MB
LIMITS = llguidance.LLParserLimits(max_lexer_states=20_000, max_grammar_size=100_000, verbose_errors=False)
# Processor seconds that an answer's grammar may take, at once and with each token: nobody shall wait for somebody else's grammar.
PATIENCE, PATIENCE_PER_TOKEN = 1.0, 0.01
# As models write JSON, but without room to write nothing but white space for ever.
SPACE = r"( |\n[ \t]{0,32})"
Frame = tuple[str, str]
_starting = threading.Lock()  # the size of stacks is the process's


class Tokens(Protocol):
    """What a grammar needs of a vocabulary."""

    @property
    def size(self) -> int: ...

    @property
    def pieces(self) -> Sequence[bytes]: ...

    @property
    def ends(self) -> Collection[int]: ...

    def plain(self, text: str) -> list[int]: ...


class Grammar:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: llguidance.LLMatcher, size: int, ends: Collection[int]) -> None:
        self._matcher, self._size, self._ends = matcher, size, ends
        self._patience = PATIENCE

    def take(self, token: int) -> bool:
        """Go on with this token if it is allowed; if not, nothing changes.

        Raises:
            GrammarError: the grammar became too complex or too slow to go on with.
        """
        if token in self._ends:
            return bool(self._matcher.is_accepting())  # nothing follows
        self._patience += PATIENCE_PER_TOKEN
        return bool(self._run(self._matcher.try_consume_tokens, [token]))

    def allowed(self) -> np.ndarray:
        """A bool for each token of the vocabulary.

        Raises:
            GrammarError: the grammar became too complex or too slow to go on with.
        """
        mask = self._run(self._matcher.compute_bitmask)
        return np.unpackbits(np.frombuffer(mask, np.uint8), count=self._size, bitorder="little").view(np.bool_)

    def _run(self, method: Callable[..., Any], *arguments: Any) -> Any:
        began = time.thread_time()
        result = method(*arguments)
        self._patience -= time.thread_time() - began
        if self._matcher.is_error():
            raise GrammarError(f"the grammar can't be followed any further: {_first_line(self._matcher.get_error())}")
        if self._patience < 0:
            raise GrammarError("the grammar can't be followed any further: it takes too much time")
        return result


class Grammars:
    """Compiles grammars for one vocabulary and keeps those used last. From any thread.

    `special`: tokens that no grammar allows, whatever they print.
    """

    def __init__(self, tokens: Tokens, special: Collection[int]) -> None:
        self._tokens, self._special = tokens, special
        self._lock, self._building = threading.Lock(), threading.Lock()
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._compiled: OrderedDict[tuple[str | None, str | None, Frame, str | None], llguidance.LLMatcher] = OrderedDict()

    def start(self, gbnf: str | None, schema: str | None, frame: Frame = ("", ""), instead: str | None = None) -> Grammar | None:
        """The beginning of one of both; None for neither. `frame` and `instead` as in wire.Sampling.

        Raises:
            GrammarError: it can't be used; says why.
        """
        if gbnf is None and schema is None:
            return None
        key = gbnf, schema, frame, instead
        with self._lock:
            matcher = self._compiled.get(key)
        if matcher is None:
            matcher = self._compile(*key)  # not under the lock: it can take seconds
        with self._lock:
            self._compiled[key] = matcher
            self._compiled.move_to_end(key)
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        return Grammar(matcher.deep_copy(), self._tokens.size, self._tokens.ends)

    def _compile(self, gbnf: str | None, schema: str | None, frame: Frame, instead: str | None) -> llguidance.LLMatcher:
        name = "grammar" if schema is None else "json_schema"
        if not self._tokens.ends:
            raise GrammarError(f"{name} can't be used: this model has no token that ends an answer")
        if len(((gbnf or schema or "") + "".join(frame) + (instead or "")).encode("utf-8", "replace")) > MAX_SIZE:
            raise GrammarError(f"{name} is longer than {MAX_SIZE} bytes")
        try:
            if schema is not None:
                sources = [_from_schema(schema, frame, instead)]
            else:
                sources = [llguidance.LLMatcher.grammar_from_lark(source) for source in translate(gbnf or "")]
            return _on_large_stack(self._first, sources)
        except GrammarError as error:
            raise GrammarError(f"{name} can't be used: {error}") from None

    def _first(self, sources: list[str]) -> llguidance.LLMatcher:
        """The first of equivalent grammars that is not too complex."""
        for source in sources:
            matcher = llguidance.LLMatcher(self._library_tokenizer(), source, log_level=0, limits=LIMITS)
            begun = matcher.deep_copy()
            begun.compute_bitmask()
            if not begun.is_error() and (begun.is_accepting() or not begun.is_stopped()):
                return matcher
        reason = _first_line(begun.get_error())
        raise GrammarError("no text satisfies it" if not reason or reason.startswith("NoExtension") else reason)

    def _library_tokenizer(self) -> llguidance.LLTokenizer:
        """Built for the first grammar: half a second and 60 MB for 151,936 tokens."""
        with self._building:
            if self._tokenizer is None:
                self._tokenizer = self._build()
            return self._tokenizer

    def _build(self) -> llguidance.LLTokenizer:
        vocabulary = llguidance.TokenizerWrapper(_Vocabulary(self._tokens, self._special))
        return llguidance.LLTokenizer(vocabulary, n_vocab=self._tokens.size, eos_token=sorted(self._tokens.ends))


class _Vocabulary:
    """A vocabulary as the library wants to see it."""

    def __init__(self, tokens: Tokens, special: Collection[int]) -> None:
        self._plain = tokens.plain
        self.tokens = list(tokens.pieces)
        self.special_token_ids = sorted(special)
        self.eos_token_id, self.bos_token_id = min(tokens.ends), None

    def __call__(self, text: bytes | str) -> list[int]:
        return self._plain(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


def _on_large_stack(compile_: Callable[[list[str]], llguidance.LLMatcher], sources: list[str]) -> llguidance.LLMatcher:
    """What it returns or raises, run in a thread with a stack of STACK bytes."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(compile_(sources))
        except BaseException as error:  # a panic of the library's Rust code is no Exception
            outcome.append(error if isinstance(error, GrammarError) else GrammarError(_first_line(str(error))))

    thread = threading.Thread(target=run, name="grammar")
    with _starting:
        before = threading.stack_size(STACK)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if isinstance(outcome[0], GrammarError):
        raise outcome[0]
    matcher: llguidance.LLMatcher = outcome[0]
    return matcher


def _from_schema(text: str, frame: Frame, instead: str | None) -> str:
    """A JSON schema as a grammar of the library. What it can't express it names when it compiles."""
    schema = _checked(text)
    try:
        if any(frame) or instead is not None:
            return str(llguidance.LLMatcher.grammar_from_lark(_framed(schema, frame, _checked(instead) if instead else instead)))
        return str(llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides={"whitespace_pattern": SPACE}))
    except ValueError as error:
        raise GrammarError(_first_line(str(error))) from None


def _checked(text: str) -> dict[str, Any]:
    """The schema in this text, if it is one that may be compiled."""
    try:
        schema = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise GrammarError(f"it is nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        raise GrammarError(f"it is no JSON: {error}") from None
    if not isinstance(schema, dict):
        raise GrammarError("a schema must be a JSON object")
    if sum(1 for _ in _levels(schema)) > MAX_DEPTH:
        raise GrammarError(f"it is nested deeper than {MAX_DEPTH}")
    if "x-guidance" in schema:
        raise GrammarError("unknown keyword x-guidance")
    if _multiple(schema) > MAX_MULTIPLE:
        raise GrammarError(f"multipleOf: {MAX_MULTIPLE} is the most, decimal points aside, also for the least common multiple of several")
    return schema


def _framed(schema: dict[str, Any], frame: Frame, instead: dict[str, Any] | str | None) -> str:
    """JSON between two tags as a grammar in the library's own language: once, or with `instead` as often as it comes, or that."""
    before, after = map(json.dumps, frame)
    framed = f"{before} WS value WS {after}" if any(frame) else "value"
    rules = [f"value: {_embedded(schema)}", r"WS: /\n?/"]
    if instead is None:
        rules.append(f"start: {framed}")
    elif isinstance(instead, dict):
        rules += ["start: call (WS call)* | answer", f"answer: {_embedded(instead)}", f"call: {framed}"]
    elif frame[0]:  # a tag ends the text before it at once, and what comes last holds none
        tag = re.escape(frame[0]).replace("/", r"\/")
        rules += [f"start: (text WS value WS {after})* TAIL", f"text[lazy]: /(?s:.*){tag}/", f"TAIL: /(?s:.*)/ & ~/(?s:.*){tag}(?s:.*)/"]
    else:
        rules += ["start: value | TEXT", r"TEXT: /([^{ \t\r\n](?s:.*))?/"]
    return "\n".join([*rules, ""])


def _embedded(schema: dict[str, Any]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": {"whitespace_pattern": SPACE}})


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _levels(value: Any) -> Iterator[list[Any]]:
    """The objects and arrays in it level by level, outermost first; without recursion."""
    level = [value]
    while level := [inner for inner in level if isinstance(inner, dict | list)]:
        yield level
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]


def _multiple(schema: Any) -> int:
    """The least common multiple of all numbers under the key multipleOf, without their decimal points: 0.25 counts as 25."""
    multiple = 1
    for level in _levels(schema):
        for value in (outer.get("multipleOf") for outer in level if isinstance(outer, dict)):
            number = Decimal(str(value)) if type(value) in (int, float) else Decimal(0)
            if number and number.is_finite() and multiple <= MAX_MULTIPLE:
                multiple = math.lcm(multiple, int(number.scaleb(-min(int(number.normalize().as_tuple().exponent), 0))))
    return multiple


def _first_line(text: str) -> str:
    return " ".join(text.replace("<non-verbose/>", "").split())[:300]
