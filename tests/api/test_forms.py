"""Errors have the form of the dialect that was spoken, also those that happen before any dialect has a word."""

from __future__ import annotations

from pathlib import Path

import anthropic
import httpx
import ollama
import openai
import pytest

from services.shared import secret
from tests.api.scripted import stand

SECRET = "k" * 40


def test_keys_and_long_bodies(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"me {secret.digest(SECRET).hex()}\n")
    with stand(tmp_path / "home", API__KEYS=keys, API__MAX_BODY=2000) as api:
        with pytest.raises(ollama.ResponseError, match="API key") as refused:
            ollama.Client(host=api.url).list()
        assert refused.value.status_code == 401
        assert ollama.Client(host=api.url, headers={"Authorization": f"Bearer {SECRET}"}).list().models
        with pytest.raises(anthropic.AuthenticationError) as stranger:
            anthropic.Anthropic(base_url=api.url, api_key="wrong", max_retries=0).messages.count_tokens(
                model="scripted", messages=[{"role": "user", "content": "?"}]
            )
        assert stranger.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]
        with pytest.raises(openai.AuthenticationError) as unknown:
            openai.OpenAI(base_url=f"{api.url}/v1", api_key="wrong", max_retries=0).completions.create(model="scripted", prompt="?")
        assert unknown.value.code == "invalid_api_key"

        def long(path: str) -> httpx.Response:
            return httpx.post(api.url + path, content=b" " * 3000, headers={"Authorization": f"Bearer {SECRET}"}, timeout=30)

        assert "max_body" in long("/api/chat").json()["error"]
        told = long("/v1/messages").json()
        assert told["type"] == "error" and told["error"]["type"] == "request_too_large" and "max_body" in told["error"]["message"]
        assert long("/v1/responses").json()["error"]["code"] == "request_too_large"
        assert long("/v1/responses").status_code == 413


def test_a_model_that_is_not_ready(tmp_path: Path) -> None:
    with stand(tmp_path / "home", engine=False) as api:
        body = {"model": "scripted", "max_tokens": 5, "messages": [{"role": "user", "content": "?"}]}
        answers = {path: httpx.post(api.url + path, json=body, timeout=30) for path in ("/api/chat", "/v1/messages")}
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers.values()] == [(503, "2")] * 2
    assert "loaded" in answers["/api/chat"].json()["error"]
    assert answers["/v1/messages"].json()["error"]["type"] == "overloaded_error"
