"""Which models there are, as OpenAI's and Anthropic's own clients read it."""

from __future__ import annotations

import anthropic
import httpx
import openai
import pytest
from anthropic.types import ModelInfo

from services.api.errors import InvalidRequest
from services.api.models import page
from tests.api.scripted import Stand


def client(api: Stand) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=api.url, api_key="none", max_retries=0, timeout=30)


def test_anthropics_client_lists_models(api: Stand) -> None:
    listed = client(api).models.list()
    assert (listed.has_more, listed.first_id, listed.last_id) == (False, "scripted", "poet")
    for model in listed.data:
        ModelInfo.model_validate(model.to_dict())  # the client itself takes anything
    assert [(model.id, model.type, model.display_name) for model in listed.data] == [
        ("scripted", "model", "Scripted Model"),
        ("poet", "model", "poet"),
    ]
    assert listed.data[0].created_at.isoformat() == "2026-11-24T07:00:00+00:00" and listed.data[0].max_input_tokens == 4096
    assert [model.id for model in client(api).models.list(limit=1)] == ["scripted", "poet"]  # page by page
    assert [model.id for model in client(api).models.list(limit=1, before_id="poet").data] == ["scripted"]


def test_anthropics_client_asks_for_one_model(api: Stand) -> None:
    assert client(api).models.retrieve("scripted").display_name == "Scripted Model"
    assert client(api).models.retrieve("some/scripted").id == "scripted" and client(api).models.retrieve("poet").id == "poet"
    with pytest.raises(anthropic.NotFoundError) as error:
        client(api).models.retrieve("claude")
    assert error.value.body["type"] == "error" and error.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        client(api).models.list(limit=0)
    with pytest.raises(anthropic.BadRequestError, match="after_id"):
        client(api).models.list(after_id="claude")


def test_everybody_else_gets_openais_shape(api: Stand) -> None:
    listed = httpx.get(api.url + "/v1/models").json()
    assert set(listed) == {"object", "data"} and [model["object"] for model in listed["data"]] == ["model", "model"]
    home = openai.OpenAI(base_url=api.url + "/v1", api_key="none", max_retries=0)
    assert [model.id for model in home.models.list()] == ["scripted", "poet"] and home.models.retrieve("poet").owned_by == "cloister"
    assert httpx.get(api.url + "/v1/models/gpt-5").json()["error"]["code"] == "model_not_found"


def test_pages() -> None:
    names = ("a", "b", "c", "d")
    assert page(names, 2, None, None) == (("a", "b"), True)
    assert page(names, 2, "b", None) == (("c", "d"), False)
    assert page(names, 2, None, "d") == (("b", "c"), True)
    assert page(names, 2, "d", None) == ((), False)
    with pytest.raises(InvalidRequest, match="before_id"):
        page(names, 2, None, "e")
