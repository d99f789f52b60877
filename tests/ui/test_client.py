"""The client against a real server that says what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from services.ui.client import Answer, ApiError, Client, Event, Finished, Queued, Reading, Thought
from tests.conftest import free_port
from tests.ui import fake as say
from tests.ui.fake import FakeApi, Step

QUESTION = [{"role": "user", "content": "Can cats fly?"}]


def listen(api: FakeApi, steps: Sequence[Step], silence: float = 30) -> list[Event]:
    """All events of an answer that consists of these steps."""
    api.default = steps

    async def collect() -> list[Event]:
        async with Client(api.url, silence=silence) as client:
            return [event async for event in client.stream(QUESTION)]

    return asyncio.run(collect())


def refusal(api: FakeApi, steps: Sequence[Step], silence: float = 30) -> ApiError:
    with pytest.raises(ApiError) as caught:
        listen(api, steps, silence)
    return caught.value


def test_an_answer_comes_as_events_in_order(fake: FakeApi) -> None:
    steps = [say.queued(2), say.reading(128, 512), *say.thought("Hm", "m."), *say.answer("Yes."), *say.end(speed=12.5)]
    assert listen(fake, steps) == [
        Queued(2),
        Reading(128, 512),
        Thought("Hm"),
        Thought("m."),
        Answer("Yes."),
        Finished("stop", 20, 40, 12.5),
    ]
    assert fake.asked[0]["messages"] == QUESTION
    assert fake.asked[0]["stream_options"] == {"include_usage": True, "include_progress": True}


def test_the_rest_of_an_answer_is_asked_for_by_name(fake: FakeApi) -> None:
    async def collect(go_on: bool) -> list[Event]:
        async with Client(fake.url) as client:
            return [event async for event in client.stream([*QUESTION, {"role": "assistant", "content": "They"}], go_on=go_on)]

    for go_on in (True, False):
        asyncio.run(collect(go_on))
    options = {"continue_final_message": True, "add_generation_prompt": False}
    assert options.items() <= fake.asked[0].items() and not options.keys() & fake.asked[1].keys()


def test_comments_and_odd_separators_change_nothing(fake: FakeApi) -> None:
    odd = "line\u2028para\u2029next\x85form\x0c鸡🐔"
    assert listen(fake, [b": alive\n\n", *say.answer(odd), b": alive\n\n", *say.end()])[0] == Answer(odd)


def test_an_answer_in_single_bytes_is_the_same(fake: FakeApi) -> None:
    whole = b"".join(step for step in [*say.thought("想"), *say.answer("鸡兔"), *say.end()] if isinstance(step, bytes))
    assert listen(fake, [bytes([byte]) for byte in whole])[:2] == [Thought("想"), Answer("鸡兔")]


def test_an_answer_cut_by_length_says_so(fake: FakeApi) -> None:
    assert listen(fake, [*say.answer("Once upon"), *say.end("length")])[-1] == Finished("length", 20, 40, 21.5)


def test_an_error_in_the_middle_ends_the_answer(fake: FakeApi) -> None:
    error = refusal(fake, [*say.answer("The"), say.error("engine_failed", "the engine is gone")])
    assert (error.code, error.message, error.status) == ("engine_failed", "the engine is gone", None)


def test_a_connection_that_just_ends_is_an_error_too(fake: FakeApi) -> None:
    assert refusal(fake, say.answer("The")).code == "broken"


def test_an_unreadable_chunk_is_an_error(fake: FakeApi) -> None:
    assert refusal(fake, [b"data: {oops\n\n"]).code == "broken"


def test_refusals_carry_code_status_and_when_to_try_again(fake: FakeApi) -> None:
    error = refusal(fake, [say.refuse(503, "unavailable", "the model is loading", retry_after=3)])
    assert (error.code, error.status, error.retry_after, error.message) == ("unavailable", 503, 3.0, "the model is loading")
    error = refusal(fake, [say.refuse(400, "context_length_exceeded", "9000 tokens do not fit into 8192")])
    assert (error.code, error.status, error.retry_after) == ("context_length_exceeded", 400, None)


def test_a_refusal_that_is_not_ours_is_named_by_its_status(fake: FakeApi) -> None:
    page = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\nConnection: close\r\n\r\noops!"
    assert refusal(fake, [page]).code == "http_502"


def test_a_long_silence_is_an_error(fake: FakeApi) -> None:
    assert refusal(fake, [*say.answer("The"), say.wait("never")], silence=0.3).code == "silent"


def test_nobody_there(fake: FakeApi) -> None:
    async def both() -> tuple[str, str]:
        async with Client(f"http://127.0.0.1:{free_port()}") as client:
            with pytest.raises(ApiError) as caught:
                await anext(client.stream(QUESTION))
            return caught.value.code, (await client.status()).state

    assert asyncio.run(both()) == ("unreachable", "starting")


def test_leaving_cancels_the_answer(fake: FakeApi) -> None:
    fake.default = say.endless()

    async def leave() -> None:
        async with Client(fake.url) as client, contextlib.aclosing(client.stream(QUESTION)) as events:
            assert await anext(events) == Answer("word ")

    asyncio.run(leave())
    assert fake.cancelled.wait(20)


def test_the_status_is_read(fake: FakeApi) -> None:
    async def ask() -> None:
        async with Client(fake.url) as client:
            ready = await client.status()
            assert ready.state == "ready" and ready.model is not None
            assert (ready.model.title, ready.model.quant, ready.model.kind) == ("Cloister Demo", "q4_k_m", "demo")
            fake.status = say.preparing("fetch", 30, 100, rate=5.0, seconds_left=14.0, unknown="from a later version")
            preparing = await client.status()
            assert preparing.state == "preparing" and preparing.progress is not None
            assert (preparing.progress.step, preparing.progress.done, preparing.progress.seconds_left) == ("fetch", 30, 14.0)
            fake.status = {"state": "dancing"}
            assert (await client.status()).state == "starting"

    asyncio.run(ask())


def test_proxies_of_the_environment_are_not_used(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert listen(fake, say.THINKS)[0] == Thought("One cat. ")
