"""Answers on their way: pace, clock, stopping, waiting for a model, and what is kept when something breaks."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Awaitable, Callable

import pytest

from services.ui import chat as chats
from services.ui.chat import Chat
from services.ui.client import Client, Status
from services.ui.conversation import Conversation, Turn
from services.ui.status import Watch
from tests.conftest import free_port
from tests.ui import fake as say
from tests.ui.fake import FakeApi


def with_chat(url: str, play: Callable[[Chat], Awaitable[None]]) -> None:
    """Play with a chat in front of that API."""

    async def run() -> None:
        async with Client(url) as client:
            await play(Chat(client, Watch(client, age=0).current))

    asyncio.run(run())


async def watch(chat: Chat, talk: Conversation, session: str = "me") -> list[Turn]:
    """The last turn at each showing."""
    return [dataclasses.replace(moment.turns[-1]) async for moment in chat.answer(session, talk)]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_an_answer_grows_and_ends(fake: FakeApi) -> None:
    fake.default = [
        *[say.queued(2), say.wait("a"), say.reading(1, 4), say.wait("b"), *say.thought("Hm."), say.wait("c")],
        *[*say.answer("Yes"), say.wait("d"), *say.answer("."), *say.end(speed=12.5)],
    ]

    async def play(chat: Chat) -> None:
        talk, seen = Conversation([Turn("q")]), []
        gates = iter("abcd")
        async for moment in chat.answer("me", talk):
            turn = dataclasses.replace(moment.turns[-1])
            seen.append((turn.stage, turn.number, turn.thought, turn.answer))
            fake.open(next(gates, "d"))
        assert [key for key, _ in groups(seen)] == [
            ("queued", 2, "", ""),
            ("reading", 25, "", ""),
            ("thinking", 25, "Hm.", ""),
            ("answering", 25, "Hm.", "Yes"),
            ("done", 25, "Hm.", "Yes."),
        ]
        assert talk.turns[-1].speed == 12.5 and chat.running("me") is None

    with_chat(fake.url, play)


def groups(items: list[tuple[str, int, str, str]]) -> list[tuple[tuple[str, int, str, str], int]]:
    found: list[tuple[tuple[str, int, str, str], int]] = []
    for item in items:
        if found and found[-1][0] == item:
            found[-1] = (item, found[-1][1] + 1)
        else:
            found.append((item, 1))
    return found


def test_a_fast_answer_is_shown_a_few_times_a_second_only(fake: FakeApi) -> None:
    fake.default = [*[step for _ in range(300) for step in (*say.answer("x"), say.pause(0.003))], *say.end()]

    async def play(chat: Chat) -> None:
        turns = await watch(chat, Conversation([Turn("q")]))
        assert 3 <= len(turns) < 60
        assert turns[-1].answer == "x" * 300 and turns[-1].stage == "done"

    with_chat(fake.url, play)


def test_the_clock_runs_while_nothing_comes(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "TICK", 0.05)
    fake.default = [*say.thought("Hm"), say.wait("long"), *say.answer("Yes"), *say.end()]

    async def play(chat: Chat) -> None:
        clock = []
        async for moment in chat.answer("me", Conversation([Turn("q")])):
            clock.append(moment.turns[-1].seconds)
            if len(clock) == 8:
                fake.open("long")
        assert clock == sorted(clock) and clock[7] > 0.3

    with_chat(fake.url, play)


def test_stopping_keeps_what_is_there_and_cancels_the_model(fake: FakeApi) -> None:
    fake.default = [*say.thought("Hm."), *say.endless()]

    async def play(chat: Chat) -> None:
        talk = Conversation([Turn("q")])
        watching = asyncio.create_task(watch(chat, talk))
        await until(lambda: talk.turns[-1].answer)
        running = chat.running("me")
        assert running is not None and chat.running("somebody else") is None
        running.stop()
        turns = await watching
        assert turns[-1].stage == "stopped" and turns[-1].answer.startswith("word") and turns[-1].thought == "Hm."
        assert await asyncio.to_thread(fake.cancelled.wait, 20)

    with_chat(fake.url, play)


def test_a_discarded_answer_is_not_shown_any_more(fake: FakeApi) -> None:
    fake.default = say.endless()

    async def play(chat: Chat) -> None:
        watching = asyncio.create_task(watch(chat, Conversation([Turn("q")])))
        await until(lambda: fake.asked and chat.running("me"))
        running = chat.running("me")
        assert running is not None
        running.stop(None)
        await asyncio.wait_for(running.finished.wait(), 20)
        assert "stopped" not in [turn.stage for turn in await watching]

    with_chat(fake.url, play)


def test_leaving_cancels_the_model(fake: FakeApi) -> None:
    fake.default = say.endless()

    async def play(chat: Chat) -> None:
        async with contextlib.aclosing(chat.answer("me", Conversation([Turn("q")]))) as moments:
            await anext(moments)
        assert await asyncio.to_thread(fake.cancelled.wait, 20)
        assert chat.running("me") is None

    with_chat(fake.url, play)


def test_what_had_come_stays_when_the_engine_dies(fake: FakeApi) -> None:
    fake.default = [*say.thought("Hm."), *say.answer("Half"), say.error("engine_failed", "signal 6")]

    async def play(chat: Chat) -> None:
        last = (await watch(chat, Conversation([Turn("q")])))[-1]
        assert (last.stage, last.error, last.detail, last.thought, last.answer) == ("failed", "engine_failed", "signal 6", "Hm.", "Half")

    with_chat(fake.url, play)


@pytest.mark.parametrize(("status", "code"), [(400, "context_length_exceeded"), (429, "overloaded"), (413, "request_too_large")])
def test_a_refusal_is_shown_at_once(fake: FakeApi, status: int, code: str) -> None:
    fake.default = [say.refuse(status, code, "no")]

    async def play(chat: Chat) -> None:
        last = (await watch(chat, Conversation([Turn("q")])))[-1]
        assert (last.stage, last.error) == ("failed", code)
        assert len(fake.asked) == 1

    with_chat(fake.url, play)


def test_a_question_waits_for_a_model_that_is_not_ready(fake: FakeApi) -> None:
    fake.status, fake.default = say.LOADING, [say.refuse(503, "unavailable", "loading", retry_after=1)]

    async def play(chat: Chat) -> None:
        talk, stages = Conversation([Turn("q")]), []
        async for moment in chat.answer("me", talk):
            stages.append(moment.turns[-1].stage)
            if stages[-1] == "waiting":
                fake.status, fake.default = say.READY, say.THINKS
        assert "waiting" in stages and stages[-1] == "done"
        assert talk.turns[-1].answer == "It **can** fly."

    with_chat(fake.url, play)


def test_it_does_not_wait_for_a_model_that_will_not_come(fake: FakeApi) -> None:
    fake.status, fake.default = say.failed("no such model"), [say.refuse(503, "unavailable", "no such model", retry_after=1)]

    async def play(chat: Chat) -> None:
        last = (await watch(chat, Conversation([Turn("q")])))[-1]
        assert (last.stage, last.error) == ("failed", "unavailable")

    with_chat(fake.url, play)


def test_it_gives_up_when_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chats, "UNREACHABLE_PATIENCE", 0.5)

    async def play(chat: Chat) -> None:
        turns = await watch(chat, Conversation([Turn("q")]))
        assert "waiting" in [turn.stage for turn in turns]
        assert (turns[-1].stage, turns[-1].error) == ("failed", "unreachable")

    with_chat(f"http://127.0.0.1:{free_port()}", play)


def test_earlier_thoughts_are_not_sent(fake: FakeApi) -> None:
    async def play(chat: Chat) -> None:
        await watch(chat, Conversation([Turn("one?", "SECRET THOUGHT", "One.", "done"), Turn("two?")]))

    with_chat(fake.url, play)
    assert [message["content"] for message in fake.asked[0]["messages"]] == ["one?", "One.", "two?"]
    assert "SECRET" not in str(fake.asked)


def test_no_text_reaches_the_log(fake: FakeApi, caplog: pytest.LogCaptureFixture) -> None:
    fake.default = [*say.thought("INNER"), *say.answer("OUTER"), say.error("engine_failed", "signal 6")]

    async def play(chat: Chat) -> None:
        await watch(chat, Conversation([Turn("QUESTION")]))

    with caplog.at_level(logging.DEBUG):
        with_chat(fake.url, play)
    assert "outcome=engine_failed" in caplog.text
    assert not any(word in caplog.text for word in ("INNER", "OUTER", "QUESTION"))


def test_many_visitors_ask_for_the_status_once(fake: FakeApi) -> None:
    asked = 0

    class Counting(Client):
        async def status(self) -> Status:
            nonlocal asked
            asked += 1
            return await super().status()

    async def play() -> None:
        async with Counting(fake.url) as client:
            watch = Watch(client, age=60)
            assert {status.state for status in await asyncio.gather(*(watch.current() for _ in range(20)))} == {"ready"}

    asyncio.run(play())
    assert asked == 1
