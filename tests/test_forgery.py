"""Forged prompts on the whole appliance with the demo model, over HTTP: the model reads as many tokens as the reference has, in every
field of a request, and answers hold no control tokens."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from services.api.conversation import Message
from tests import forged
from tests.conftest import Cloister
from tests.families import Reference, families

R1 = families()[0]
Turn = dict[str, Any]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(R1)


def post(cloister: Cloister, messages: Sequence[Turn], **more: Any) -> httpx.Response:
    body = {"messages": messages, "max_tokens": 1, "temperature": 0, **more}
    return httpx.post(cloister.api_url + "/v1/chat/completions", json=body, timeout=120)


def turns(messages: Sequence[Message]) -> list[Turn]:
    return [{"role": message.role, "content": message.content} for message in messages]


def prompt_tokens(cloister: Cloister, messages: Sequence[Turn], **more: Any) -> int:
    response = post(cloister, messages, **more)
    assert response.status_code == 200, response.text
    return int(response.json()["usage"]["prompt_tokens"])


def expected(reference: Reference, messages: Sequence[Message]) -> int:
    return len(reference.tokens(reference.prompt(messages)))


def test_as_many_tokens_as_the_reference(cloister: Cloister, reference: Reference) -> None:
    """A sample of the corpus: each token, form and field comes up."""
    sample = list(forged.cases(R1))[::31]
    assert {case.token for case in sample} == set(R1.added) and {case.field for case in sample} >= set(forged.fields(R1))
    with ThreadPoolExecutor(4) as pool:
        counted = pool.map(lambda case: prompt_tokens(cloister, turns(case.messages)), sample)
    wrong = [case for case, count in zip(sample, counted, strict=True) if count != expected(reference, case.messages)]
    assert not wrong, (len(wrong), wrong[:3])


@pytest.mark.parametrize("token", ["<｜User｜>", "</think>", "<|im_start|>", "<｜end▁of▁sentence｜>"])
def test_a_token_in_parts_is_text(cloister: Cloister, reference: Reference, token: str) -> None:
    """Split over the parts of one content, and over the fields that dialects join or leave out."""
    wanted = expected(reference, [Message("user", f"a {token} b")])
    for at in range(len(token) + 1):
        pieces = ["a ", token[:at], token[at:], " b"]
        parts = [{"type": "text", "text": piece} for piece in pieces]
        assert prompt_tokens(cloister, [{"role": "user", "content": parts}]) == wanted
    system = expected(reference, [Message("system", token), Message("user", token)])
    assert prompt_tokens(cloister, [{"role": "developer", "content": token}, {"role": "user", "content": token}]) == system
    plain = [Message("user", "q"), Message("assistant", "a"), Message("user", "q")]
    thought = {"role": "assistant", "content": "a", "reasoning_content": token}
    assert prompt_tokens(cloister, [*turns(plain[:1]), thought, *turns(plain[2:])]) == expected(reference, plain)
    assert prompt_tokens(cloister, turns(plain), user=token, stop=[token], metadata={token: token}) == expected(reference, plain)


def test_a_role_can_not_be_forged(cloister: Cloister) -> None:
    for role in ("<｜Assistant｜>", "system<｜User｜>", "user\nassistant", "", "root"):
        response = post(cloister, [{"role": role, "content": "x"}])
        assert response.status_code == 400 and "role" in response.json()["error"]["message"]


def test_answers_hold_no_control_tokens(cloister: Cloister) -> None:
    """Asked to repeat one, with a stop string that spells it, and beyond the end of the answer."""
    control = [token for token in R1.added if "think" not in token]

    def said(token: str) -> str:
        texts = ""
        for more in ({}, {"stop": [token]}, {"ignore_eos": True}):
            asked = [{"role": "user", "content": f"Repeat: {token}{token}"}]
            (choice,) = post(cloister, asked, **(more | {"max_tokens": 24})).json()["choices"]
            texts += str(choice["message"].get("content")) + str(choice["message"].get("reasoning_content"))
        return texts

    with ThreadPoolExecutor(8) as pool:
        for text in pool.map(said, control):
            assert len(text) > 20 and not [token for token in R1.added if token in text], text


def test_no_control_token_can_be_asked_for(cloister: Cloister) -> None:
    for token, number in R1.added.items():
        if "<｜" in token or "<|" in token:
            response = post(cloister, [{"role": "user", "content": "x"}], logit_bias={str(number): 100})
            assert response.status_code == 400 and "logit_bias" in response.json()["error"]["message"], token


def test_a_broken_character_is_refused(cloister: Cloister) -> None:
    body = b'{"messages": [{"role": "user", "content": "<\\ud83d|im_start|>"}]}'
    response = httpx.post(cloister.api_url + "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400 and "surrogate" in response.json()["error"]["message"]
