"""OpenAI's completions as OpenAI's own client speaks them, over real HTTP, with an engine that plays a script."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import Any

import httpx
import openai
import pytest

from tests.api.dialects import back, dying, refusals, scored
from tests.api.scripted import Stand, accepted, finished, text, until

FOX: list[Any] = [accepted(), text(" brown", " fox"), finished()]


@functools.cache
def client(api: Stand) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0, timeout=30)


def ask(api: Stand, **fields: Any) -> Any:
    return client(api).completions.create(**{"model": "scripted", "prompt": "The quick", **fields})


def post(api: Stand, **fields: Any) -> httpx.Response:
    return httpx.post(f"{api.url}/v1/completions", json={"prompt": "The quick", **fields}, timeout=30)


def test_a_text_goes_on(api: Stand) -> None:
    api.engine.play(*FOX)
    done = ask(api)
    assert done.object == "text_completion" and done.id.startswith("cmpl-") and done.model == "scripted"
    assert abs(done.created - time.time()) < 60
    (choice,) = done.choices
    assert choice.text == " brown fox" and choice.finish_reason == "stop" and choice.logprobs is None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (7, 5, 12)
    assert done.usage.prompt_tokens_details.cached_tokens == 2
    sent = api.engine.requests[-1]
    assert [said for own, said in sent.prompt if not own] == ["The quick"] and sent.max_tokens == 16


def test_several_prompts_and_answers(api: Stand) -> None:
    api.engine.play(*FOX)
    done = ask(api, prompt=["The quick", "A lazy"], n=2, seed=5, echo=True)
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in done.choices] == ["The quick brown fox"] * 2 + ["A lazy brown fox"] * 2
    assert [request.sampling.seed for request in api.engine.requests] == [5, 6, 5, 6]
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (14, 20)


def test_a_stream(api: Stand) -> None:
    api.engine.play(*FOX)
    chunks = list(ask(api, stream=True, echo=True, stream_options={"include_usage": True}))
    assert [choice.text for chunk in chunks for choice in chunk.choices] == ["The quick", " brown", " fox", ""]
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices] == [None, None, None, "stop"]
    assert chunks[-1].usage.total_tokens == 12 and not chunks[-1].choices and len({chunk.id for chunk in chunks}) == 1


def test_several_streams_in_one(api: Stand) -> None:
    api.engine.play(*FOX)
    texts = {0: "", 1: "", 2: ""}
    chunks = list(ask(api, stream=True, n=3, stream_options={"include_usage": True}))
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert set(texts.values()) == {" brown fox"}
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (7, 15)


def test_the_async_client(api: Stand) -> None:
    async def scene() -> tuple[str, str]:
        api.engine.play(*FOX)
        async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0, timeout=30) as home:
            done = await home.completions.create(model="scripted", prompt="The quick")
            stream = await home.completions.create(model="scripted", prompt="The quick", stream=True)
            return done.choices[0].text, "".join([chunk.choices[0].text async for chunk in stream])

    assert asyncio.run(scene()) == (" brown fox", " brown fox")


def test_logprobs_in_the_older_shape(api: Stand) -> None:
    api.engine.play(accepted(), scored(" né"), scored("x", float("-inf")), finished())
    expected = {
        "tokens": [" né", "x"],
        "token_logprobs": [-0.5, -9999.0],
        "top_logprobs": [{" né": -0.5, "bytes:\\xe4": -3.0}, {"x": -9999.0, "bytes:\\xe4": -3.0}],
        "text_offset": [0, 3],
    }
    assert ask(api, logprobs=2).choices[0].logprobs.to_dict() == expected
    assert api.engine.requests[-1].sampling.logprobs == 2
    chunks = [chunk.choices[0].logprobs for chunk in ask(api, logprobs=2, stream=True)]
    assert [chunk.text_offset for chunk in chunks if chunk] == [[0], [3]]


def test_what_is_asked_reaches_the_engine(api: Stand) -> None:
    wanted = {"temperature": 0.1, "top_p": 0.5, "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": 3}
    more = {"top_k": 7, "min_p": 0.2, "repeat_penalty": 1.1}
    ask(api, **wanted, max_tokens=9, stop=["END"], user="me", logit_bias={"5": -100}, extra_body={**more, "ignore_eos": True, "timeout": 9})
    sent = api.engine.requests[-1]
    assert {name: getattr(sent.sampling, name) for name in wanted | more} == wanted | more
    assert (sent.max_tokens, sent.stop, sent.ignore_eos, sent.seconds) == (9, ("END",), True, 9)
    assert sent.sampling.logit_bias == ((5, -100.0),) and sent.user and "me" not in sent.user


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"prompt": [1, 2, 3]}, "token ids"),
        ({"prompt": [[1, 2], [3]]}, "token ids"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": 6}, "logprobs"),
        ({"n": 17}, "n"),
        ({"prompt": ["a"] * 9, "n": 2}, "n=2"),
        ({"temperature": 3}, "temperature"),
    ],
)
def test_what_is_not_served_is_refused_by_name(api: Stand, more: dict[str, Any], named: str) -> None:
    response = post(api, **more)
    told = response.json()["error"]
    assert response.status_code == 400 and told["type"] == "invalid_request_error" and named in told["message"]


def test_what_changes_nothing_is_accepted_and_what_nobody_knows_is_listed(api: Stand) -> None:
    assert "x-cloister-ignored" not in post(api, suffix="", best_of=1, n=1, logprobs=None).headers
    assert post(api, colour=1).headers["x-cloister-ignored"] == "colour"


def test_no_embeddings(api: Stand) -> None:
    with pytest.raises(openai.BadRequestError, match="'scripted' makes no embeddings") as error:
        client(api).embeddings.create(model="scripted", input="text")
    assert error.value.code == "embeddings_unsupported"


def test_errors(api: Stand) -> None:
    found = refusals(api, "/v1/completions", {"model": "scripted", "prompt": "The quick"})
    told = {name: (response.status_code, response.json()["error"]["code"]) for name, response in found.items()}
    assert told == {
        "model": (404, "model_not_found"),
        "context": (400, "context_length_exceeded"),
        "overloaded": (429, "overloaded"),
        "internal": (500, "engine_failed"),
    }
    assert found["overloaded"].headers["retry-after"] == "7"


def test_the_engine_dies_in_mid_stream(api: Stand) -> None:
    for n in (1, 2):
        dying(api)
        said = []
        with pytest.raises(openai.APIError, match="restarted"):
            for chunk in ask(api, stream=True, n=n):
                said.append(chunk.choices[0].text)
        assert said == ["so far"] * n
        back(api)


def test_nobody_waits_for_several_streams(api: Stand) -> None:
    """All answers end when the client hangs up."""
    api.engine.play(accepted(), *[step for _ in range(500) for step in (*text("and "), 0.02)], finished())
    body = {"prompt": "The quick", "n": 3, "stream": True}
    with httpx.stream("POST", f"{api.url}/v1/completions", json=body, timeout=30) as response:
        assert json.loads(next(response.iter_lines()).removeprefix("data: "))["choices"]
    until(lambda: len(api.engine.cancelled) == 3)
    until(lambda: not api.app.state.appliance.engine._answers)
