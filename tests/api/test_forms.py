"""Errors have the form of the dialect that was spoken, also those that happen before any dialect has a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import httpx
import ollama
import openai
import pytest

from services.api.anthropic_schema import CountRequest, MessagesRequest
from services.api.ollama_schema import GenerateRequest, OllamaChatRequest, Options
from services.api.openai_completions import CompletionRequest
from services.api.openai_responses_schema import ResponseRequest
from services.shared import secret
from tests.api.scripted import Stand, stand

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


DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]
NASTY: list[Any] = [
    "\ud800",
    {"\udfff": "\ud800"},
    ["\ud800"],
    10**40,
    -(10**40),
    1e308,
    DEEP,
    {"type": "\ud800"},
    [{"type": "\ud800"}],
    [{}],
    True,
]
QUESTION = [{"role": "user", "content": "?"}]
BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": dict.fromkeys(OllamaChatRequest.model_fields) | {"model": "scripted", "messages": QUESTION, "stream": False},
    "/api/generate": dict.fromkeys(GenerateRequest.model_fields) | {"model": "scripted", "prompt": "?", "stream": False},
    "/api/show": {"model": "scripted"},
    "/v1/messages": {"model": "scripted", "messages": QUESTION, "max_tokens": 5},
    "/v1/messages/count_tokens": {"model": "scripted", "messages": QUESTION},
    "/v1/completions": {"prompt": "?"},
    "/v1/responses": {"input": "?"},
}
FIELDS = {
    "/v1/messages": MessagesRequest.model_fields,
    "/v1/messages/count_tokens": CountRequest.model_fields,
    "/v1/completions": CompletionRequest.model_fields,
    "/v1/responses": ResponseRequest.model_fields,
}
NESTED: dict[str, list[tuple[str, ...]]] = {
    "/api/chat": [("options", name) for name in Options.model_fields],
    "/v1/messages": [("thinking", "budget_tokens"), ("output_config", "format"), ("metadata", "user_id"), ("tool_choice", "name")],
    "/v1/responses": [("reasoning", "effort"), ("text", "format"), ("tool_choice", "name"), ("metadata", "key")],
    "/v1/completions": [("logit_bias", "5"), ("stream_options", "include_usage")],
}


@pytest.mark.parametrize("path", BODIES)
def test_no_value_of_a_field_breaks_the_api(api: Stand, path: str) -> None:
    body = BODIES[path]
    places: list[tuple[str, ...]] = [(name,) for name in (*body, *FIELDS.get(path, ()))] + NESTED.get(path, [])
    with httpx.Client(timeout=30) as client:
        for place in dict.fromkeys(places):
            for value in NASTY:
                if place == ("stream",) and value is True:
                    continue
                inner = {"type": "enabled" if place[0] == "thinking" else "tool", place[1]: value} if len(place) == 2 else value
                sent = json.dumps({**body, place[0]: inner})
                response = client.post(api.url + path, content=sent, headers={"Content-Type": "application/json"})
                assert response.status_code < 500, (place, str(value)[:50], response.text)
