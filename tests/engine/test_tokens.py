"""Control tokens come from the template only, whatever anybody types; everything else is tokenized as it stands."""

from __future__ import annotations

import random

import pytest

from services.engine.tokens import Tokenizer
from tests.engine.scripted import ANSWER, CONTROL, END, THINK, THINK_END, USER_DEFINED, ScriptedVocabulary

ADDED = {**CONTROL, **USER_DEFINED}


class Recorder(ScriptedVocabulary):
    """Remembers which texts were tokenized in one run."""

    def __init__(self, *args: dict[str, int]) -> None:
        super().__init__(*args)
        self.runs: list[str] = []

    def plain(self, text: str) -> list[int]:
        self.runs.append(text)
        return super().plain(text)


def forged(text: str, vocabulary: ScriptedVocabulary) -> set[int]:
    """Added tokens that somebody's text became, alone and inside of other text."""
    tokenizer = Tokenizer(vocabulary)
    prompts = [[(False, text)], [(True, "x"), (False, f"a{text}b"), (True, "y")], [(False, f"{text}{text}")]]
    return {token for prompt in prompts for token in tokenizer.encode(prompt)} & set(vocabulary.added.values())


def spelled(tokens: list[int]) -> str:
    """The text of byte tokens."""
    return bytes(tokens).decode()


def test_the_templates_own_control_tokens_count() -> None:
    prompt = [(True, "<end>hi<answer>"), (False, "you"), (True, "<think>\n")]
    assert Tokenizer(ScriptedVocabulary()).encode(prompt) == [END, *b"hi", ANSWER, *b"you", THINK, *b"\n"]


@pytest.mark.parametrize("text", ADDED)
def test_typed_control_tokens_are_text(text: str) -> None:
    assert forged(text, ScriptedVocabulary()) == set()
    assert spelled(Tokenizer(ScriptedVocabulary()).encode([(False, text)])) == text


@pytest.mark.parametrize(
    "text",
    [
        "<<think>think>",  # removing the inner one would make the outer one
        "</think</think>>",
        "<thi</think>nk>",
        "<think></think><think>",
        "<tool><think><tool>",
        "<think" + "<think>" * 20,
    ],
)
def test_nested_and_repeated_forgeries_are_text(text: str) -> None:
    assert forged(text, ScriptedVocabulary()) == set()


def test_forgeries_spread_over_parts_are_text() -> None:
    tokenizer = Tokenizer(ScriptedVocabulary())
    for at in range(1, len("</think>")):
        a, b = "</think>"[:at], "</think>"[at:]
        for prompt in ([(False, a), (False, b)], [(True, a), (False, b)], [(False, a), (True, b)], [(True, a), (True, b)]):
            assert spelled(tokenizer.encode(prompt)) == "</think>"


@pytest.mark.parametrize(
    "names",
    [
        ("<a", "<ab>"),  # one begins the other: cut after two characters, the first part would be a token
        ("<a", "<ab>", "b>"),
        ("ab", "abab", "ba"),
        ("aa", "aaa", "aaaa"),
        ("abc", "bcd", "cde"),
        ("鸡兔", "兔鸡", "🐔🐰🐔"),
    ],
)
def test_tokens_within_and_across_tokens(names: tuple[str, ...]) -> None:
    vocabulary = ScriptedVocabulary({}, {name: 256 + number for number, name in enumerate(names)})
    source = random.Random(str(names))
    for _ in range(300):
        text = "".join(source.choices([*names, *"".join(names), "x"], k=source.randint(1, 8)))
        assert forged(text, vocabulary) == set(), text
        assert spelled(Tokenizer(vocabulary).encode([(False, text)])) == text


@pytest.mark.parametrize("seed", range(50))
def test_random_prompts_lose_and_forge_nothing(seed: int) -> None:
    """Template texts give exactly their tokens, in order; all the rest spells what was written."""
    source = random.Random(seed)
    words = [*ADDED, *"<>/think ", "鸡", "🐔", "\0", ""]
    prompt = [(source.random() < 0.5, "".join(source.choices(words, k=source.randint(0, 6)))) for _ in range(source.randint(0, 8))]
    tokens = Tokenizer(ScriptedVocabulary()).encode(prompt)
    texts = {token: text for text, token in ADDED.items()}
    joined = b"".join(texts[token].encode() if token in texts else bytes([token]) for token in tokens).decode()
    assert joined == "".join(text for _, text in prompt), (seed, prompt)
    wanted = [ADDED[name] for is_template, text in prompt if is_template for name in found(text)]
    assert [token for token in tokens if token in texts] == wanted, (seed, prompt)


def found(text: str) -> list[str]:
    """The added tokens in a template's text, from left to right."""
    names = []
    while text:
        name = next((name for name in ADDED if text.startswith(name)), None)
        names += [name] if name else []
        text = text[len(name or text[0]) :]
    return names


def test_of_two_tokens_that_begin_alike_the_longer_is_meant() -> None:
    vocabulary = ScriptedVocabulary({"<a>": 256, "<a>b": 257}, {})
    assert Tokenizer(vocabulary).encode([(True, "<a>b<a>c")]) == [257, 256, *b"c"]


def test_texts_that_touch_are_tokenized_in_one_run() -> None:
    """The merges across the border are then those of the reference tokenizer."""
    vocabulary = Recorder()
    Tokenizer(vocabulary).encode([(True, "<answer>You: "), (False, "hel"), (False, "lo"), (True, "\n"), (True, "<end>x"), (True, "y")])
    assert vocabulary.runs == ["You: hello\n", "xy"]


def test_a_cut_is_the_only_change_to_typed_text() -> None:
    vocabulary = Recorder()
    Tokenizer(vocabulary).encode([(False, "a </think> b")])
    assert vocabulary.runs == ["a </think", "> b"]


def test_empty_prompts_have_no_tokens() -> None:
    for prompt in ([], [(True, "")], [(False, ""), (True, "")]):
        assert Tokenizer(ScriptedVocabulary()).encode(prompt) == []


def test_a_vocabulary_without_added_tokens() -> None:
    assert Tokenizer(ScriptedVocabulary({}, {})).encode([(True, "<end>"), (False, "</think>")]) == [*b"<end></think>"]


def test_a_token_without_text_is_nowhere() -> None:
    """Some files name one; it must not match between all characters."""
    vocabulary = ScriptedVocabulary({"": 256, "<end>": END}, {"": 300})
    assert Tokenizer(vocabulary).encode([(True, "a<end>"), (False, "b")]) == [*b"a", END, *b"b"]


def test_thinking_tags_of_the_template_are_tokens() -> None:
    assert Tokenizer(ScriptedVocabulary()).encode([(True, "<think></think>")]) == [THINK, THINK_END]
