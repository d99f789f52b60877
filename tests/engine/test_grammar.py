"""Grammars and schemas over real vocabularies: the texts they allow are those they should, and nothing that is asked kills the process."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from llama_cpp import llama_grammar

from services.engine.grammar import Grammar, GrammarError, Grammars
from services.engine.native import NativeVocabulary
from services.shared import backend
from tests import vocabularies
from tests.conftest import ROOT

# makes a grammar recursive, so that it is read character by character, without new texts of ordinary characters
RECURSIVE = ' | "\\x01" loop\nloop ::= "\\x01" loop "\\x01" | "\\x02"'


@pytest.fixture(scope="module", params=["demo", "smollm2"])
def vocabulary(request: pytest.FixtureRequest, demo_volume: Path) -> Iterator[NativeVocabulary]:
    backend.load(llama_cpp)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    path = demo_volume / "current/model.gguf" if request.param == "demo" else vocabularies.smollm2_gguf()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    yield NativeVocabulary(llama_cpp.llama_model_get_vocab(model))
    llama_cpp.llama_model_free(model)


@pytest.fixture(scope="module")
def grammars(vocabulary: NativeVocabulary) -> Grammars:
    return Grammars(vocabulary, vocabulary.control.values())


def allows(grammar: Grammar | None, vocabulary: NativeVocabulary, text: str, *, split: bool = False) -> bool:
    """Is it all allowed, and may the answer end there? `split`: each character in tokens of its own."""
    assert grammar is not None
    tokens = [token for piece in (text if split else [text]) for token in vocabulary.plain(piece)]
    for token in tokens:
        mask = grammar.allowed() if split else None
        taken = grammar.take(token)
        assert mask is None or mask[token] == taken
        if not taken:
            return False
    return grammar.take(min(vocabulary.ends))


@pytest.mark.parametrize(
    ("gbnf", "regex"),
    [
        ('root ::= "a"', "a"),
        ('root ::= "ab"* [a-c]+ "c"', "(ab)*[abc]+c"),
        ('root ::= ("abc" | [a-c])* "."', r"(abc|[abc])*\."),
        ('root ::= word "a" word?\nword ::= [a-b]+', "[ab]+a([ab]+)?"),
        ('root ::= ("a" | "ab") ("c" | "bc" | "")', "(a|ab)(c|bc|)"),
        ("root ::= [^a] .{2} | .", r"(?s)[^a]..|."),
        ('root ::= "a"{2} "b"{1,3} "c"{2,}', "a{2}b{1,3}c{2,}"),
        ('root ::= (("a" "b"?)+ "."){0,2}', r"((ab?)+\.){0,2}"),
        ('root ::= "" | "鸡" [一-龥]* "é"', "|鸡[一-龥]*é"),
        ("root ::= [\\x61-\\x62\\u9e21\\U0001F414]{2}", "[ab鸡🐔]{2}"),
    ],
)
def test_gbnf_means_the_same_as_the_regular_expression(grammars: Grammars, vocabulary: NativeVocabulary, gbnf: str, regex: str) -> None:
    source, expected = random.Random(gbnf), re.compile(regex)
    first, *rest = gbnf.split("\n")
    recursive = "\n".join([first.replace("::= ", "::= (") + ")" + RECURSIVE, *rest])
    texts = {"".join(source.choices("aabbcc.é鸡🐔一\n", k=source.randint(0, 6))) for _ in range(60)}
    # texts that match are rare among random ones
    texts |= {text for text in map("".join, ("abc.", "abcc", "aabab", "aabbcc", "ab.a.", "鸡鸡", "鸡一é", "🐔a", "ab", "a", "")) if text}
    for text in texts:
        for grammar in (gbnf, recursive):
            for split in (False, True):
                got = allows(grammars.start(grammar, None), vocabulary, text, split=split)
                assert got == bool(expected.fullmatch(text)), (grammar, text, split)


def test_recursive_grammars(grammars: Grammars, vocabulary: NativeVocabulary) -> None:
    nested = 'root ::= "(" root ")" root | ""'
    sums = 'root ::= term ([-+] term)*\nterm ::= num | "(" root ")"\nnum ::= [0-9]+'
    left = 'root ::= root "," item | item\nitem ::= [a-z]+'
    for grammar, right, wrong in (
        (nested, ["", "()", "(()())()"], ["(", ")", "(()", "())"]),
        (sums, ["1", "12+(3-4)", "((7))"], ["", "+1", "(1", "1+"]),
        (left, ["a", "ab,c,def"], ["", ",", "a,", "a,,b"]),
    ):
        for text in right:
            assert allows(grammars.start(grammar, None), vocabulary, text), text
        for text in wrong:
            assert not allows(grammars.start(grammar, None), vocabulary, text), text


@pytest.mark.parametrize("name", ["ARITHMETIC", "C", "CHESS", "JAPANESE", "JSON_ARR", "JSON", "LIST"])
def test_published_grammars_can_be_used(grammars: Grammars, name: str) -> None:
    grammar = grammars.start(getattr(llama_grammar, f"{name}_GBNF"), None)
    assert grammar is not None and grammar.allowed().any()


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["x", "鸡", 'q"']}, "minItems": 1, "maxItems": 3},
        "boss": {"$ref": "#/$defs/boss"},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
    "$defs": {"boss": {"anyOf": [{"type": "null"}, {"type": "boolean"}]}},
}


def is_person(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"name", "age"} <= value.keys() <= PERSON["properties"].keys()  # type: ignore[attr-defined]
        and isinstance(value["name"], str)
        and 1 <= len(value["name"]) <= 12
        and type(value["age"]) is int
        and 0 <= value["age"] <= 150
        and (tags := value.get("tags", ["x"])) == [tag for tag in tags if tag in ("x", "鸡", 'q"')]
        and 1 <= len(tags) <= 3
        and value.get("boss") in (None, True, False)
    )


def test_a_schema_allows_what_it_describes(grammars: Grammars, vocabulary: NativeVocabulary) -> None:
    schema = json.dumps(PERSON)
    for value in (
        {"name": "鸡", "age": 0},
        {"name": "Ann", "age": 150, "tags": ["x", "鸡", 'q"'], "boss": None},
        {"name": 'a"b\\', "age": 7, "boss": True},
    ):
        assert is_person(value)
        for separators, indent in (((",", ":"), None), ((", ", ": "), None), ((",", ": "), 2)):
            text = json.dumps(value, ensure_ascii=False, separators=separators, indent=indent)
            assert allows(grammars.start(None, schema), vocabulary, text), text
    for value in (
        {},
        {"name": "x"},
        {"name": "", "age": 1},
        {"name": "x", "age": 151},
        {"name": "x", "age": 1.5},
        {"age": 1, "name": "x", "z": 1},
        [1],
    ):
        assert not allows(grammars.start(None, schema), vocabulary, json.dumps(value)), value
    for text in ('{"name":"x","age":1}}', ' {"name":"x","age":1}', '{"name":"x","age":1} ', '{"name":"x","age":1', '{"name":"x","age":1,}'):
        assert not allows(grammars.start(None, schema), vocabulary, text), text


@pytest.mark.parametrize("seed", range(10))
def test_random_walks_through_a_schema_satisfy_it(grammars: Grammars, vocabulary: NativeVocabulary, seed: int) -> None:
    """Whatever a model may say: any token that is allowed, at each step."""
    source, grammar, said = random.Random(seed), grammars.start(None, json.dumps(PERSON)), b""
    assert grammar is not None
    for _ in range(400):
        allowed = grammar.allowed().nonzero()[0]
        token = int(source.choice(allowed))
        assert grammar.take(token)
        if token in vocabulary.ends:
            break
        assert vocabulary.pieces[token] and token not in vocabulary.control.values()
        said += vocabulary.pieces[token]
    assert is_person(json.loads(said)), said


def test_a_refused_token_changes_nothing(grammars: Grammars, vocabulary: NativeVocabulary) -> None:
    grammar = grammars.start('root ::= "abcdef"', None)
    assert grammar is not None
    before = grammar.allowed()
    for token in (*vocabulary.plain("x"), *vocabulary.ends, *vocabulary.control.values()):
        assert not grammar.take(token)
    assert (grammar.allowed() == before).all()
    assert allows(grammar, vocabulary, "abcdef")
    assert set(grammar.allowed().nonzero()[0]) == set(vocabulary.ends), "nothing but the end may follow"


def test_each_answer_has_its_own_place(grammars: Grammars, vocabulary: NativeVocabulary) -> None:
    first, second = (grammars.start('root ::= "ab"', None) for _ in range(2))
    assert first is not None and first.take(vocabulary.plain("a")[0])
    assert not allows(first, vocabulary, "ab")
    assert allows(second, vocabulary, "ab")


def test_many_grammars_are_not_kept_for_ever(grammars: Grammars) -> None:
    for number in range(50):
        assert grammars.start(f'root ::= "{number}"', None)
    assert len(grammars._compiled) == 16


def test_no_grammar(grammars: Grammars) -> None:
    assert grammars.start(None, None) is None


BAD_SCHEMAS: list[tuple[Any, str]] = [
    ("{", "it is no JSON"),
    ("[]", "a schema must be a JSON object"),
    ('{"minimum": NaN}', "NaN is no JSON value"),
    ("[" * 100_000, "longer than 65536 bytes"),
    ("[" * 60_000, "nested deeper than 64"),
    ('{"items":' * 65 + "{}" + "}" * 65, "nested deeper than 64"),
    ({"not": {}}, r'Unimplemented keys: \["not"\]'),
    ({"type": "array", "uniqueItems": True}, r'Unimplemented keys: \["uniqueItems"\]'),
    ({"if": {}, "then": {}}, r'Unimplemented keys: \["if", "then"\]'),
    ({"type": "string", "format": "phone"}, "Unknown format: phone"),
    ({"type": "strin"}, "Invalid type: strin"),
    ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
    ({"type": "string", "pattern": "("}, "regex parse error"),
    ({"$ref": "https://example.com/x"}, "does not fetch"),
    ({"$ref": "file:///etc/passwd"}, "does not fetch"),
    ({"$ref": "#/nowhere"}, "nowhere"),
    ({"$ref": "#"}, "no text satisfies it"),
    ({"x-guidance": {"lenient": True}}, "unknown keyword x-guidance"),
    ({"type": "integer", "multipleOf": 999983}, "multipleOf: 10000 is the most"),
    ({"allOf": [{"type": "integer", "multipleOf": 997}, {"multipleOf": 991}]}, "multipleOf: 10000 is the most"),
    ({"type": "number", "multipleOf": 0.98304}, "multipleOf: 10000 is the most"),
    ({"type": "number", "multipleOf": 10**400}, "multipleOf: 10000 is the most"),
    ({"type": "number", "multipleOf": 1e300}, "multipleOf: 10000 is the most"),
    ({"type": "integer", "multipleOf": 0}, "invalid multiple"),
    ({"type": "integer", "multipleOf": True}, "multipleOf"),
    ('{"multipleOf": 1e999}', "."),
    ({"type": "string", "minLength": 5, "maxLength": 3}, "minLength"),
    ({"const": "\ud800"}, "hex escape"),
]


@pytest.mark.parametrize(("schema", "message"), BAD_SCHEMAS)
def test_a_bad_schema_is_refused_and_told_why(grammars: Grammars, schema: Any, message: str) -> None:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    with pytest.raises(GrammarError, match=rf"(?s)json_schema (can't be used: |is ).*{message}"):
        grammars.start(None, text)


CALL = json.dumps({"type": "object", "properties": {"n": {"enum": [1, 22]}}, "required": ["n"], "additionalProperties": False})
TAGS = ("<call>", "</call>")
ONE, TWO, NONE = '<call>\n{"n": 1}\n</call>', '<call>{"n":22}</call>', '<call>{"n": 3}</call>'


@pytest.mark.parametrize(
    ("frame", "instead", "fine", "wrong"),
    [
        (TAGS, None, [ONE, TWO], [ONE + TWO, "x" + ONE, ONE + "x", '{"n": 1}', NONE, "", "x"]),
        (
            TAGS,
            "",
            [ONE, "x" + ONE, ONE + " y\n" + TWO + "z", "", "x <cal", "</call>", '{"n": 3}'],
            [NONE, "x" + NONE, ONE + NONE, "<call>", "<call>x"],
        ),
        (TAGS, '{"enum": ["a"]}', [ONE, ONE + "\n" + TWO, '"a"'], [NONE, "a", '"a"' + ONE, ONE + '"a"', "x"]),
        (("", ""), "", ['{"n": 1}', "x {", "鸡", ""], ['{"n": 3}', "{", '{"n": 1} x']),
        (("", ""), '{"enum": ["a"]}', ['{"n": 1}', '"a"'], ['{"n": 3}', '"b"', "x"]),
        (("[/(x)*]", "$"), "", ['[/(x)*]{"n":1}$', "a"], ['[/(x)*]{"n":3}$', "[/(x)*]"]),
    ],
)
def test_framed_json_and_what_may_come_instead(
    grammars: Grammars, vocabulary: NativeVocabulary, frame: tuple[str, str], instead: str | None, fine: list[str], wrong: list[str]
) -> None:
    end = min(vocabulary.ends)
    for text in fine + wrong:
        assert allows(grammars.start(None, CALL, frame, instead), vocabulary, text) == (text in fine), text
        # character by character: of a text that must come the mask has the usual tokens only, but others are taken as well
        grammar = grammars.start(None, CALL, frame, instead)
        assert grammar is not None
        assert (all(grammar.take(token) for one in text for token in vocabulary.plain(one)) and grammar.take(end)) == (text in fine), text
    assert allows(grammars.start(None, CALL), vocabulary, '{"n": 1}')


def test_what_may_come_instead_is_checked_too(grammars: Grammars) -> None:
    with pytest.raises(GrammarError, match="nested deeper"):
        grammars.start(None, CALL, TAGS, '{"items":' * 70 + "{}" + "}" * 70)
    with pytest.raises(GrammarError, match="Unimplemented keys"):
        grammars.start(None, CALL, TAGS, '{"not": {}}')
    with pytest.raises(GrammarError, match="longer than"):
        grammars.start(None, CALL, TAGS, json.dumps({"enum": ["x" * 70_000]}))


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("root ::= root", "no text satisfies it"),
        ("root ::= [^\\x00-\\U0010FFFF]", "no text satisfies it"),
        ("root ::= (", r"line 1: this \( is never closed"),
        ('root ::= "' + "x" * 70_000 + '"', "longer than 65536 bytes"),
    ],
)
def test_a_grammar_that_allows_nothing_is_refused(grammars: Grammars, grammar: str, message: str) -> None:
    with pytest.raises(GrammarError, match=rf"grammar (can't be used: |is ).*{message}"):
        grammars.start(grammar, None)


def test_what_hangs_llama_cpp_does_not_hang_this(grammars: Grammars, vocabulary: NativeVocabulary) -> None:
    began = time.thread_time()
    grammar = grammars.start('root ::= " " root "y" | " " root "z" | "x"', None)
    assert allows(grammar, vocabulary, " " * 40 + "x" + "yz" * 20)
    branches = "\n".join(f"a{i} ::= a{i + 1} | a{i + 1}" for i in range(200))
    assert allows(grammars.start(f'root ::= a0\n{branches}\na200 ::= "x"', None), vocabulary, "x")
    assert time.thread_time() - began < 5


def test_a_grammar_that_takes_too_long_ends(grammars: Grammars, vocabulary: NativeVocabulary) -> None:
    """Each step is bounded, and so is their sum."""
    began = time.thread_time()
    grammar = grammars.start("root ::= root root | [a-z ]", None)
    assert grammar is not None
    with pytest.raises(GrammarError, match="the grammar can't be followed any further"):
        for token in vocabulary.plain("one two three four five six seven eight nine ten " * 30):
            grammar.allowed()
            assert grammar.take(token)
    assert time.thread_time() - began < 10


# --- in a process of its own, in case it dies ---


def test_whatever_is_asked_is_followed_or_refused(demo_volume: Path) -> None:
    command = [sys.executable, "-m", "tests.engine.hostile_grammars", str(demo_volume / "current/model.gguf"), "1", "8"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert outcomes["followed"] > 5 and outcomes["refused"] > 5 and outcomes["memory"] < 1e9, outcomes
