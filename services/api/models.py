"""GET /v1/models, which two dialects have: Anthropic's clients, who name their version, get its shape, everybody else OpenAI's."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from services.api.delivery import appliance
from services.api.errors import InvalidRequest
from services.api.fields import Text
from services.api.model import ServedModel
from services.shared import forms

router = APIRouter()
PAGE = 20  # models that Anthropic lists when a client names no limit


@router.get("/v1/models")
async def models(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = PAGE,
    after_id: Text | None = None,
    before_id: Text | None = None,
) -> JSONResponse:
    """The loaded model, and its adapters. `limit`, `after_id` and `before_id` are Anthropic's, and mean nothing to OpenAI's clients."""
    model = appliance(request).model()
    names = model.names()
    if not forms.speaks_anthropic(request.scope):
        return JSONResponse({"object": "list", "data": [openai_card(model, name) for name in names]})
    shown, more = page(names, limit, after_id, before_id)
    ends = {"first_id": shown[0] if shown else None, "last_id": shown[-1] if shown else None}
    return JSONResponse({"data": [anthropic_card(model, name) for name in shown], "has_more": more, **ends})


@router.get("/v1/models/{name:path}")
async def one_model(request: Request, name: str) -> JSONResponse:
    """The loaded model, by name."""
    model = appliance(request).model()
    found = model.accept(name) or model.manifest.name
    return JSONResponse(anthropic_card(model, found) if forms.speaks_anthropic(request.scope) else openai_card(model, found))


def page(names: tuple[str, ...], limit: int, after: str | None, before: str | None) -> tuple[tuple[str, ...], bool]:
    """Those after one of the names, or before it, and whether there are more in that direction.

    Raises:
        InvalidRequest: there is no such name.
    """
    for param, named in (("after_id", after), ("before_id", before)):
        if named is not None and named not in names:
            raise InvalidRequest(f"{param}: there is no model {named[:100]!r}", param=param)
    first = names.index(after) + 1 if after is not None else 0
    last = names.index(before) if before is not None else len(names)
    found = names[first:last]
    shown = found[-limit:] if before is not None else found[:limit]
    return shown, len(shown) < len(found)


def openai_card(model: ServedModel, name: str) -> dict[str, Any]:
    """A model as OpenAI lists it."""
    seconds = int(datetime.fromisoformat(model.manifest.created).timestamp())
    return {"id": name, "object": "model", "created": seconds, "owned_by": "cloister", "context_length": model.context}


def anthropic_card(model: ServedModel, name: str) -> dict[str, Any]:
    """A model as Anthropic lists it; an adapter has no title but its name."""
    title = model.manifest.title if name == model.manifest.name else name
    limits = {"max_input_tokens": model.context, "max_tokens": model.context}
    return {
        "id": name,
        "type": "model",
        "display_name": title,
        "created_at": model.manifest.created,
        "lifecycle": "active",
        **limits,
    }
