"""What GBNF is translated into, and what is said about grammars that are none. What the translation means is test_grammar's to say."""

from __future__ import annotations

import pytest

from services.engine.gbnf import GrammarError, translate

ROOT_TWICE = 'root ::= "a"\nroot ::= "b"'
CHAIN = "root ::= a0\n" + "\n".join(f"a{i} ::= a{i + 1}" for i in range(3500)) + '\na3500 ::= "x"'


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("", "line 1: the grammar has no rule called root"),
        ('x ::= "x"', "line 1: the grammar has no rule called root"),
        ('root ::= "a"\n\n  | foo', "line 3: expected a rule's name, found |"),
        ('root ::= "a" |\n foo', "line 2: there is no rule called foo"),
        (ROOT_TWICE, "line 2: the rule root is defined twice"),
        ("root = x", "line 1: expected ::= after root"),
        ("root ::= )", "line 1: expected the end of the rule, found \\)"),
        ('root ::= ("a" | \n\n "b"', r"line 1: this \( is never closed"),
        ('root ::= "a', 'line 1: this " is never closed'),
        ("root ::= [a", r"line 1: this \[ is never closed"),
        ("root ::= []", "line 1: there is no character between these brackets"),
        ("root ::= [z-a]", r"line 1: the range from U\+007A to U\+0061 is upside down"),
        ("root ::= *", r"line 1: there is nothing before \* to repeat"),
        ('root ::= "a"*+', r"line 1: there is nothing before \+ to repeat"),
        ('root ::= "a"{2001}', "line 1: 2001 repetitions are too many: at most 2000"),
        ('root ::= "a"{1,100000}', "line 1: 100000 repetitions are too many: at most 2000"),
        ('root ::= "a"{99999999999999999999999999}', "repetitions are too many"),
        ('root ::= "a"{3,2}', "line 1: a repetition from 3 to 2 is upside down"),
        ('root ::= "a"{,2}', "line 1: expected a number"),
        ('root ::= "a"{2', "line 1: expected } after the repetition's numbers"),
        ('root ::= "\\q"', r"line 1: unknown escape \\q"),
        ('root ::= "\\u12"', r"line 1: unknown escape \\u"),
        ('root ::= "\\ud800"', r"line 1: there is no character U\+D800"),
        ('root ::= "\\U00110000"', r"line 1: there is no character U\+110000"),
        ('root ::= "\ud800"', "line 1: half a character"),
        ("root ::= <[5]>", r"line 1: tokens \(<...>\) can't be named in a grammar, only characters"),
        ("root ::= !<think>", r"line 1: tokens \(<...>\) can't be named in a grammar, only characters"),
        ("root ::= " + "(" * 100_000, "line 1: groups are nested deeper than 20"),
        (CHAIN, "line 2001: rules and groups are more than 2000"),
        ("root ::= " + "(.) " * 3000, "line 1: rules and groups are more than 2000"),
    ],
)
def test_a_bad_grammar_is_refused_and_told_why(grammar: str, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        translate(grammar)


def test_a_grammar_without_recursion_is_one_lexeme() -> None:
    regex, lark = translate('root ::= "a" item* # a comment\nitem ::= [^b-d\\n] | "é" {2} |\n "" ')
    assert regex == r"start: /[\x{61}](?:(?:[^\x{62}-\x{64}\x{A}]|(?:[\x{E9}]){2,2}|(?:))){0,}/"
    assert lark == 'start: /[\\x{61}]/ ( r1 ){0,}\nr1: /[^\\x{62}-\\x{64}\\x{A}]/ | ( /[\\x{E9}]/ ){2,2} | ""'


def test_rules_that_contain_themselves_are_read_character_by_character() -> None:
    (lark,) = translate('root ::= "(" root ")" | other\nother ::= "x" other | .')
    assert lark.splitlines()[0] == r"start: /[\x{28}]/ start /[\x{29}]/ | r1"


def test_rules_that_multiply_are_not_written_out() -> None:
    doubling = "root ::= a0\n" + "\n".join(f"a{i} ::= a{i + 1} a{i + 1}" for i in range(60)) + '\na60 ::= "x"'
    assert len(translate(doubling)) == 1


def test_all_escapes_and_odd_spacing() -> None:
    (regex, _) = translate('\n # first\n\troot::="\\x41\\u00e9\\U0001F414\\t\\r\\n\\\\\\"\\[\\]"[\\]\\-x-]\r\n\r\nunused ::= root')
    codes = ["41", "E9", "1F414", "9", "D", "A", "5C", "22", "5B", "5D"]
    assert regex == "start: /" + "".join(f"[\\x{{{code}}}]" for code in codes) + r"[\x{5D}\x{2D}\x{78}\x{2D}]/"
