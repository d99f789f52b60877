"""The tree of turns: what the model is told of it, its versions, and what is made of JSON that a browser sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.ui import conversation as conversations
from services.ui.attachment import Attachment
from services.ui.conversation import Conversation, Turn, Versions, parse


def answered(*questions: str) -> Conversation:
    """A conversation of these questions, each with the answer "QUESTION!"."""
    return Conversation([Turn(question, answer=question + "!", stage="done") for question in questions])


def shown(talk: Conversation) -> list[str]:
    return [turn.question for turn in talk.turns]


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


def test_answering_again_is_another_version_and_loses_nothing() -> None:
    talk = answered("one", "two")
    first = talk.turns[-1]
    talk.again()
    assert talk.turns[-1] == Turn("two") and talk.find(first.id) is first
    assert talk.ways() == {talk.turns[-1].id: {"answer": Versions((first.id, talk.turns[-1].id), 1)}}
    talk.again(talk.turns[0])  # not only the last
    assert shown(talk) == ["one"] and [message["content"] for message in talk.messages()] == ["one"]
    talk.show(first)
    assert shown(talk) == ["one", "two"] and talk.turns[-1] is first


def test_editing_a_question_begins_a_branch() -> None:
    talk = answered("one", "two", "three")
    old = talk.turns
    talk.edit(old[1], "zwei")
    assert shown(talk) == ["one", "zwei"]
    assert talk.ways() == {talk.turns[1].id: {"question": Versions((old[1].id, talk.turns[1].id), 1)}}
    talk.show(old[1])  # and with it all that followed
    assert talk.turns == old
    assert [message["content"] for message in talk.messages()] == ["one", "one!", "two", "two!", "three"]


def test_versions_of_a_question_lead_to_their_last_answers() -> None:
    talk = answered("one")
    first = talk.turns[0]
    talk.again()
    second = talk.turns[0]
    talk.edit(second, "eins")
    edited = talk.turns[0]
    assert talk.ways() == {edited.id: {"question": Versions((second.id, edited.id), 1)}}
    talk.show(first)
    assert talk.ways() == {first.id: {"question": Versions((second.id, edited.id), 0), "answer": Versions((first.id, second.id), 0)}}


def test_going_to_a_version_shows_what_was_begun_last_after_it() -> None:
    talk = answered("one", "two")
    one, two = talk.turns
    talk.again(two)
    again = talk.turns[-1]
    talk.edit(one, "eins")
    talk.show(one)
    assert talk.turns == [one, again] and talk.turns[-1] is again


def test_news_hold_the_last_turn_only() -> None:
    talk = answered(*(f"question {number}" for number in range(100)))
    talk.id, before = "abc", talk.turns[-1]
    talk.again()
    news, last = json.loads(json.dumps(talk.news())), talk.turns[-1]
    assert (news["id"], news["head"], news["turn"]["question"]) == ("abc", last.id, "question 99")
    assert news["ways"] == {last.id: {"answer": {"turns": [before.id, last.id], "shown": 1}}}
    assert len(json.dumps(news)) < 1000
    assert Conversation().news() == {"id": "", "head": "", "turn": None, "ways": {}}


def test_files_stay_with_their_question() -> None:
    files = [Attachment("a.txt", "alpha", 2)]
    talk = Conversation([])
    talk.ask("one?", files)
    talk.again()
    talk.edit(talk.turns[0], "another?")
    assert talk.turns == [Turn("another?", files=files)]
    assert talk.messages()[0]["content"] == "a.txt:\n```\nalpha\n```\n\nanother?"


def test_json_there_and_back() -> None:
    files = [Attachment("a.csv", "x,y\n1,2", 7)]
    talk = Conversation([Turn("鸡?", "想", "答", "failed", 3, 1.5, 20.0, "engine_failed", "gone", files, 99), Turn("兔?")], id="abc")
    talk.again()
    back = parse(json.loads(json.dumps(talk.dump())))
    assert back == talk and back.turns == talk.turns and back.id == "abc"


def test_a_list_of_turns_as_it_was_kept_earlier_is_read() -> None:
    kept = [
        {"question": "one", "answer": "One.", "stage": "done", "thought": "", "number": 0, "seconds": 1, "speed": 2.5},
        {"question": "two"},
    ]
    assert parse(kept).turns == [Turn("one", answer="One.", stage="done", seconds=1, speed=2.5), Turn("two")]


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
        [{"question": "a", "seconds": float("inf")}],
        [{"question": "a", "number": 10**400}],
        [{"question": "a", "number": True}],
        [{"question": "a" * (conversations.LONGEST + 1)}],
        [{"question": "a"}] * (conversations.MOST_TURNS + 1),
        [{"x": 1}],
        [{"question": "a", "tokens": "many"}],
        {"turns": 5},
        {"turns": [{"question": "a"}], "id": 5},
        {"turns": [{"question": "a"}], "head": "not there"},
        {"turns": [{"question": "a", "id": "<b>", "parent": ""}]},
        {"turns": [{"question": "a", "id": "x", "parent": "x"}]},
        {"turns": [{"question": "a", "id": "x", "parent": "y"}, {"question": "b", "id": "y", "parent": "x"}]},
        {"turns": [{"question": "a", "id": "x"}, {"question": "b", "id": "x"}]},
    ],
)
def test_nonsense_is_an_empty_conversation(nonsense: Any) -> None:
    assert parse(nonsense).turns == []
