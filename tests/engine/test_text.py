"""Whole characters only, nothing of a stop string, and the same text however it is cut into pieces."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from services.engine.text import TextStream

TEXT = "鸡兔同笼 🐔🐰 naïve 👨‍👩‍👧 ok\n"


def feed(pieces: list[bytes], stop: tuple[str, ...] = (), after: str | None = None) -> list[str]:
    """What is given out piece by piece and at the end; nothing is fed any more once the stream has stopped."""
    stream, given = TextStream(stop, after=after), []
    for piece in pieces:
        given.append(stream.push(piece))
        if stream.stopped:
            break
    return [*given, stream.flush()]


def cut(data: bytes, source: random.Random) -> list[bytes]:
    """Random pieces of 0 to 5 bytes."""
    places = sorted(source.choices(range(len(data) + 1), k=source.randint(0, len(data))))
    return [data[a:b] for a, b in pairwise([0, *places, len(data)])]


def stopped_naively(text: str, stop: tuple[str, ...]) -> str:
    """The text before the stop string that is complete first."""
    for end in range(1, len(text) + 1):
        if complete := [s for s in stop if text[:end].endswith(s)]:
            return text[: end - max(map(len, complete))]
    return text


@pytest.mark.parametrize("size", range(1, 5))
def test_characters_are_never_split(size: int) -> None:
    data = TEXT.encode()
    given = feed([data[at : at + size] for at in range(0, len(data), size)])
    assert "".join(given) == TEXT
    assert "\ufffd" not in "".join(given)


def test_a_character_comes_with_its_last_byte() -> None:
    a, b, c = (bytes([byte]) for byte in "鸡".encode())
    stream = TextStream()
    assert [stream.push(a), stream.push(b), stream.push(c)] == ["", "", "鸡"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"a\x80", "a\ufffd"),
        ("鸡".encode()[:2], "\ufffd"),  # the answer ends within a character
        ("鸡".encode()[:2] + b"x", "\ufffdx"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),  # half of a surrogate pair is no character
    ],
)
def test_broken_bytes_become_replacement_characters(data: bytes, text: str) -> None:
    for pieces in ([data], [bytes([byte]) for byte in data]):
        assert "".join(feed(pieces)) == text


@pytest.mark.parametrize("seed", range(50))
def test_any_cut_gives_the_same_text_and_stop(seed: int) -> None:
    source = random.Random(seed)
    text = "".join(source.choices("aab鸡🐔\n", k=source.randint(0, 40)))
    stop = tuple("".join(source.choices("aab鸡🐔", k=source.randint(1, 5))) for _ in range(source.randint(0, 4)))
    given = feed(cut(text.encode(), source), stop)
    assert "".join(given) == stopped_naively(text, stop), (seed, text, stop)


@pytest.mark.parametrize("seed", range(50))
def test_exactly_what_may_begin_a_stop_string_is_held_back(seed: int) -> None:
    source = random.Random(seed)
    text = "".join(source.choices("ab", k=30))
    stop = tuple("".join(source.choices("ab", k=6)) for _ in range(source.randint(1, 3)))
    stream, given = TextStream(stop), ""
    for end, character in enumerate(text, 1):
        given += stream.push(character.encode())
        if stream.stopped:
            break
        held = max(n for n in range(6) if any(s.startswith(text[end - n : end]) for s in stop if n <= end))
        assert given == text[: end - held], (seed, text, stop)


def test_the_stop_string_that_ended_it_is_told() -> None:
    stream = TextStream(["b", "abab", "bab"])
    stream.push(b"aa")
    assert not stream.stop
    stream.push(b"babab")
    assert stream.stop == "b"
    longest = TextStream(["bab", "abab"])
    longest.push(b"cabab")
    assert longest.stop == "abab"


def test_a_false_start_is_given_out_when_it_is_none() -> None:
    stream = TextStream(["STOP"])
    assert [stream.push(piece) for piece in (b"a ST", b"O", b"X", b" STO")] == ["a ", "", "STOX", " "]
    assert stream.flush() == "STO"


def test_after_the_stop_string_nothing_comes() -> None:
    stream = TextStream(["b"])
    assert stream.push(b"abc") == "a"
    assert stream.stopped and stream.flush() == ""


def test_the_first_complete_of_several_counts_and_of_those_the_longest() -> None:
    assert "".join(feed([b"xabcd"], ("abcd", "c"))) == "xab"
    assert "".join(feed([b"xabc"], ("c", "abc"))) == "x"


def test_stop_strings_do_not_count_where_nobody_watches() -> None:
    stream = TextStream(["stop"])
    assert stream.push(b"I stop", watch=False) == "I stop"
    assert stream.push(b"st") == ""
    assert stream.push(b"op", watch=False) == "stop"  # what was held back comes first
    assert stream.push(b"op") == "op"  # and is no beginning any more
    assert not stream.stopped


def test_a_flush_in_the_middle_separates() -> None:
    stream = TextStream(["ab"])
    assert stream.push(b"a") == ""
    assert stream.flush() == "a"
    assert stream.push(b"b") == "b"
    assert stream.push("鸡".encode()[:1]) == "" and stream.flush() == "\ufffd"
    assert stream.push(b"ab") == "" and stream.stopped


@pytest.mark.parametrize("seed", range(50))
def test_stop_strings_count_only_after_a_tag_that_is_spelled_out(seed: int) -> None:
    source = random.Random(seed)
    thought, answer = ("".join(source.choices("</think鸡 stop", k=source.randint(0, 20))) for _ in range(2))
    text = f"{thought}</think>{answer}stop and more"
    at = text.index("</think>") + len("</think>")
    given = feed(cut(text.encode(), source), ("stop",), "</think>")
    assert "".join(given) == text[:at] + stopped_naively(text[at:], ("stop",)), (seed, text)


def test_a_tag_that_never_comes_keeps_the_stop_strings_off() -> None:
    stream = TextStream(["stop"], after="</think>")
    assert stream.push(b"stop stop</thin") == "stop stop</thin" and stream.waiting
    assert stream.push(b"k>stop") == "k>" and stream.stopped and not stream.waiting


def test_a_huge_stop_string_costs_no_more_than_the_answer() -> None:
    """The worst case of a naive search: long beginnings of the stop string, over and over."""
    stop = "a" * 100_000 + "b"
    pieces = [b"a" * 50, b"c"] * 4000
    assert "".join(feed(pieces, (stop,) * 4)) == "".join(piece.decode() for piece in pieces)
    pieces = [b"a" * 30_000, b"c"] * 2
    assert "".join(feed(pieces, (stop,))) == "".join(piece.decode() for piece in pieces)
