"""What a conversation tells the model, and what it makes of JSON that a browser sends."""

from __future__ import annotations

from typing import Any

import pytest

from services.ui.attachment import Attachment
from services.ui.conversation import Conversation, Turn, parse


def test_the_model_is_told_questions_and_answers_but_no_thoughts() -> None:
    talk = Conversation([Turn("one?", thought="hm", answer="One.", stage="done"), Turn("two?")])
    assert talk.messages() == [
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "two?"},
    ]


def test_a_question_that_never_got_an_answer_is_not_told_again() -> None:
    talk = Conversation([Turn("lost?", thought="hm", stage="failed"), Turn("cut?", answer="Half", stage="stopped"), Turn("now?")])
    assert [message["content"] for message in talk.messages()] == ["cut?", "Half", "now?"]


def test_answering_again_and_editing_drop_what_came_after() -> None:
    talk = Conversation([Turn("one?", answer="One.", stage="done"), Turn("two?", answer="Two.", stage="done", error="x")])
    talk.again()
    assert talk.turns[-1] == Turn("two?")
    talk.edit(0, "three?")
    assert talk.turns == [Turn("three?")]


def test_files_stay_with_their_question() -> None:
    files = [Attachment("a.txt", "alpha", 2)]
    talk = Conversation([])
    talk.ask("one?", files)
    talk.again()
    talk.edit(0, "another?")
    assert talk.turns == [Turn("another?", files=files)]
    assert talk.messages()[0]["content"] == "a.txt:\n```\nalpha\n```\n\nanother?"


def test_json_there_and_back() -> None:
    files = [Attachment("a.csv", "x,y\n1,2", 7)]
    talk = Conversation([Turn("鸡?", "想", "答", "failed", 3, 1.5, 20.0, "engine_failed", "gone", files, 99)])
    assert parse(talk.dump()) == talk


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        "text",
        5,
        [5],
        [{}],
        [{"question": 1}],
        [{"question": "a", "stage": "flying"}],
        [{"question": "a", "seconds": "long"}],
        [{"x": 1}],
        [{"question": "a", "tokens": "many"}],
    ],
)
def test_nonsense_is_an_empty_conversation(nonsense: Any) -> None:
    assert parse(nonsense) == Conversation()
