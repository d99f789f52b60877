"""What the chat shows of a conversation."""

from __future__ import annotations

from typing import Any

import pytest

from services.ui import markdown
from services.ui.conversation import Conversation, Stage, Turn
from services.ui.texts import EN, ZH, Words
from services.ui.transcript import above, messages, turn_at


def fold(turn: Turn) -> dict[str, Any]:
    found: dict[str, Any] = messages(Conversation([turn]), EN)[1]["metadata"]
    return found


def texts(turn: Turn) -> list[str]:
    return [message["content"][0]["text"] for message in messages(Conversation([turn]), EN)]


@pytest.mark.parametrize(
    ("stage", "number", "seconds", "title"),
    [
        ("waiting", 0, 7.2, "Waiting for the model · 7 s"),
        ("queued", 1, 0, "Waiting: you are next"),
        ("queued", 3, 0, "Waiting: 2 before you"),
        ("reading", 0, 0, "Reading your question"),
        ("reading", 25, 0, "Reading your question: 25 %"),
        ("thinking", 0, 75, "Thinking · 1 min 15 s"),
    ],
)
def test_the_fold_says_what_is_going_on_and_is_open(stage: Stage, number: int, seconds: float, title: str) -> None:
    assert fold(Turn("q", stage=stage, number=number, seconds=seconds)) == {"title": title, "status": "pending"}


def test_the_fold_closes_when_the_answer_begins() -> None:
    assert fold(Turn("q", "hm", "A", "answering", seconds=12.3)) == {"title": "Thought for 12 s", "status": "done"}
    assert messages(Conversation([Turn("q", "hm", "A", "done", seconds=12.3)]), ZH)[1]["metadata"]["title"] == "思考了 12 秒"


def test_stopped_in_the_thinking_it_stays_open() -> None:
    assert fold(Turn("q", "hm", "", "stopped", seconds=3)) == {"title": "Thought for 3 s"}


def test_without_a_thought_there_is_no_fold() -> None:
    assert texts(Turn("q", answer="A", stage="done")) == ["q", "A"]


def test_text_is_kept_letter_by_letter() -> None:
    question = "    def f():\n        return 1\n"
    assert texts(Turn(question, answer="    x\n", stage="done")) == [question, "    x\n"]


def test_an_error_names_what_to_do_and_offers_it() -> None:
    shown = messages(Conversation([Turn("q", "hm", "Half", "failed", error="engine_failed", detail="signal <6>")]), EN)
    note = shown[-1]["content"][0]["text"]
    assert EN.troubles["engine_failed"].todo in note and "signal &lt;6&gt;" in note
    assert shown[-1]["options"] == [{"value": "again", "label": "Try again"}]
    assert "Half" in [message["content"][0]["text"] for message in shown]


def test_an_unknown_error_has_words_too() -> None:
    assert ZH.troubles[""].what in messages(Conversation([Turn("q", stage="failed", error="new_code")]), ZH)[-1]["content"][0]["text"]


def test_an_answer_that_was_cut_or_stopped_says_so() -> None:
    assert EN.cut in texts(Turn("q", answer="A", stage="cut"))[-1]
    assert EN.stopped in texts(Turn("q", answer="A", stage="stopped"))[-1]
    assert EN.stopped_before in texts(Turn("q", stage="stopped"))[-1]
    assert EN.lost in texts(Turn("q", answer="A", stage="lost"))[-1]


def test_a_message_belongs_to_its_turn() -> None:
    talk = Conversation([Turn("one", "hm", "A", "cut"), Turn("two", "hm", "B", "done")])
    roles = [message["role"] for message in messages(talk, EN)]
    assert [turn_at(talk, EN, index) for index, role in enumerate(roles) if role == "user"] == [0, 1]


@pytest.mark.parametrize("words", [EN, ZH])
def test_finished_turns_are_prepared_once_while_an_answer_grows(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    def moment(answer: str, stage: Stage) -> Conversation:
        return Conversation([Turn("one", "hm", "**A**", "cut"), Turn("two", "", "$x$", "stopped"), Turn("three", "so", answer, stage)])

    moments = [moment("", "thinking"), moment("**B", "answering"), moment("**B**", "done"), moment("**B", "failed"), moment("", "lost")]
    wanted = [messages(each, words) for each in moments]
    prepared, real = [], markdown.prepared
    monkeypatch.setattr(markdown, "prepared", lambda text, **more: prepared.append(text) or real(text, **more))  # type: ignore[func-returns-value]
    finished = above(moments[0], words)
    assert [messages(each, words, finished) for each in moments] == wanted
    assert [text for text in prepared if text in ("hm", "**A**", "$x$")] == ["hm", "**A**", "$x$"]
    assert prepared.count("so") == len(moments)
    assert finished == above(moments[0], words), "the finished turns got something of the last"


def test_nothing_stands_above_the_first_turn() -> None:
    assert above(Conversation(), EN) == above(Conversation([Turn("q")]), EN) == messages(Conversation(), EN, []) == []
