"""Thinking and answer come apart, however the text is cut, with tags as tokens or spelled out, opened by the template, or missing."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from services.api.reasoning import END, START, ReasoningSplitter, strip_thought

Deltas = list[str | tuple[str]]  # text, or a special token as (text,)


def split(deltas: Deltas, *, in_thought: bool = False, by_token: bool = True) -> dict[str, str]:
    """The text of both channels, and that thinking never comes after the answer has begun unless a token says so."""
    splitter = ReasoningSplitter(in_thought=in_thought, by_token=by_token)
    pieces = []
    for delta in deltas:
        special = isinstance(delta, tuple)
        pieces += splitter.push(delta[0] if special else delta, special=special)  # type: ignore[arg-type]
    pieces += splitter.flush()
    assert all(piece.text for piece in pieces)
    return {channel: "".join(p.text for p in pieces if p.channel == channel) for channel in ("thinking", "answer")}


def both(thinking: str, answer: str) -> dict[str, str]:
    return {"thinking": thinking, "answer": answer}


def test_tokens_decide() -> None:
    assert split([(START,), "\nhm", "m\n", (END,), "\n\nso"]) == both("hmm", "so")


def test_the_template_has_opened_the_thought() -> None:
    assert split(["hmm", "\n", (END,), "\n\n", "so"], in_thought=True) == both("hmm", "so")


def test_a_thought_that_never_ends_is_a_thought() -> None:
    assert split([(START,), "hmm", " more \n"]) == both("hmm more", "")


def test_an_answer_without_a_thought() -> None:
    assert split(["just", " this"]) == both("", "just this")


def test_an_empty_thought() -> None:
    assert split([(START,), "\n\n", (END,), "\n\nso"]) == both("", "so")
    assert split(["\n", (END,), "so"], in_thought=True) == both("", "so")


def test_nothing_at_all() -> None:
    assert split([]) == both("", "")
    assert split(["\n", "  "]) == both("", "")


def test_a_tag_spelled_out_inside_a_thought_is_text_when_tokens_decide() -> None:
    deltas: Deltas = [(START,), "I write </think", "> and <think>", " here", (END,), "the tag </think> ends it"]
    assert split(deltas) == both("I write </think> and <think> here", "the tag </think> ends it")


def test_thinking_again_in_the_middle_of_an_answer() -> None:
    deltas: Deltas = ["one ", (START,), "wait", (END,), " two"]
    assert split(deltas) == both("wait", "one two") or split(deltas) == both("wait", "one  two")


def test_other_control_tokens_are_no_text() -> None:
    assert split(["a", ("<|im_end|>",), "b"], by_token=True) == both("", "ab")
    assert split(["a", ("<|im_end|>",), "b"], by_token=False) == both("", "ab")


def test_white_space_inside_is_kept_and_at_the_edges_is_not() -> None:
    assert split(["\n ", " a", " ", "\n", "\n", "b", " \n"]) == both("", "a \n\nb")


def test_white_space_is_given_out_as_soon_as_text_follows() -> None:
    splitter = ReasoningSplitter(in_thought=False, by_token=True)
    assert splitter.push("a \n", special=False)[0].text == "a"
    assert splitter.push("b", special=False)[0].text == " \nb"


@pytest.mark.parametrize(
    ("text", "in_thought", "wanted"),
    [
        ("<think>\nhm\n</think>\n\nso", False, both("hm", "so")),
        ("\n<think>hm</think>so", False, both("hm", "so")),
        ("hm</think>so", True, both("hm", "so")),
        ("hm <think> hm</think>so", True, both("hm <think> hm", "so")),
        ("hm", True, both("hm", "")),
        ("hm</thin", True, both("hm</thin", "")),
        ("hm</thinker", True, both("hm</thinker", "")),
        ("so", False, both("", "so")),
        ("<thin", False, both("", "<thin")),
        ("<thinking> so", False, both("", "<thinking> so")),
        ("a <think> b </think> c", False, both("", "a <think> b </think> c")),
        ("<think>a</think>b</think>c<think>d", False, both("a", "b</think>c<think>d")),
        ("<think></think>so", False, both("", "so")),
        ("<<think>", False, both("", "<<think>")),
        ("hm<</think>so", True, both("hm<", "so")),
        ("hm</</think>so", True, both("hm</", "so")),
        ("</think>so", True, both("", "so")),
        ("</think>so", False, both("", "</think>so")),
    ],
)
def test_text_decides_where_there_are_no_tokens_whatever_the_cut(text: str, in_thought: bool, wanted: dict[str, str]) -> None:
    assert split([text], in_thought=in_thought, by_token=False) == wanted
    assert split(list(text), in_thought=in_thought, by_token=False) == wanted
    source = random.Random(text)
    for _ in range(100):
        places = sorted(source.choices(range(len(text) + 1), k=3))
        deltas: Deltas = [text[a:b] for a, b in pairwise([0, *places, len(text)])]
        assert split(deltas, in_thought=in_thought, by_token=False) == wanted, deltas


def test_nothing_of_a_closing_tag_is_shown_before_it_is_decided() -> None:
    splitter = ReasoningSplitter(in_thought=True, by_token=False)
    shown = ""
    for character in "thought</think>answer":
        shown += "".join(piece.text for piece in splitter.push(character, special=False))
        assert "<" not in shown
    assert shown == "thoughtanswer"


def test_both_channels_never_lose_a_character() -> None:
    """Random text without tags comes out as it went in, white space at the edges apart."""
    for seed in range(200):
        source = random.Random(seed)
        text = "".join(source.choices(["a", "<", "/", "think", ">", " ", "\n", "鸡"], k=source.randint(0, 30)))
        if START in text or END in text:
            continue
        for in_thought in (True, False):
            for by_token in (True, False):
                channel = "thinking" if in_thought else "answer"
                assert split(list(text), in_thought=in_thought, by_token=by_token)[channel] == text.strip(), seed


def test_earlier_thoughts_are_stripped() -> None:
    assert strip_thought("<think>\nhm\n</think>\n\nso") == "so"
    assert strip_thought("hm</think>a</think>so") == "so"
    assert strip_thought("so") == "so"
    assert strip_thought("<think>never ended") == "<think>never ended"
    assert strip_thought("<think>hm</think>") == ""


def test_white_space_is_text_where_nothing_is_trimmed() -> None:
    splitter = ReasoningSplitter(in_thought=False, by_token=True, trim=False)
    pieces = splitter.push(" \n a ", special=False) + splitter.push("\n", special=False) + splitter.flush()
    assert [piece.text for piece in pieces] == [" \n a ", "\n"]


def test_special_tokens_that_are_kept() -> None:
    splitter = ReasoningSplitter(in_thought=False, by_token=True, kept=("<tool_call>",))
    pieces = splitter.push("<tool_call>", special=True) + splitter.push("<|im_end|>", special=True) + splitter.push("x", special=False)
    assert "".join(piece.text for piece in pieces) == "<tool_call>x"


def scored(deltas: Deltas, *, in_thought: bool = False, by_token: bool = True) -> dict[str, str]:
    """For each channel the texts of the tokens whose logprobs came with it."""
    splitter = ReasoningSplitter(in_thought=in_thought, by_token=by_token)
    pieces = []
    for delta in deltas:
        text, special = (delta[0], True) if isinstance(delta, tuple) else (delta, False)
        pieces += splitter.push(text, special=special, logprobs=((text.encode(), -1.0, ()),))
    pieces += splitter.flush()
    found = {
        channel: b"".join(token for p in pieces if p.channel == channel for token, _, _ in p.logprobs).decode() for channel in CHANNELS
    }
    assert {channel: "".join(p.text for p in pieces if p.channel == channel) for channel in CHANNELS} == split(
        deltas, in_thought=in_thought, by_token=by_token
    )
    return found


CHANNELS = ("thinking", "answer")


@pytest.mark.parametrize(
    ("deltas", "in_thought", "by_token", "wanted"),
    [
        (["So", " it", " is"], False, True, both("", "So it is")),
        (["hm", " m", (END,), "\n\n", "So", "\n", "it"], True, True, both("hm m", "So\nit")),
        ([(START,), "\n", "hm", "\n", (END,), "\n\n", "So", " ", "\n"], False, True, both("hm", "So")),
        (["hm", "m", "</", "think", ">", "\n\n", "So", "."], True, False, both("hmm", "So.")),
        (["hm", "m</thi", "nk>", "So", "."], True, False, both("hmm</thi", "So.")),
        (["So", " <", "b"], False, False, both("", "So <b")),
        (["<", "b"], False, False, both("", "<b")),
    ],
)
def test_logprobs_go_with_the_text_of_their_tokens(deltas: Deltas, in_thought: bool, by_token: bool, wanted: dict[str, str]) -> None:
    assert scored(deltas, in_thought=in_thought, by_token=by_token) == wanted
