"""Ollama's dialect: what is here (tags, show, ps, version), and what can't be done here: models come in through init only."""

from __future__ import annotations

from typing import Any, ClassVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from services.api import delivery, fields, reasoning, tools
from services.api.errors import Forbidden, InvalidRequest
from services.api.fields import Body, Refused, Text
from services.api.model import ServedModel
from services.api.ollama import JsonByDefault
from services.shared import VERSION

router = APIRouter(route_class=JsonByDefault)
SPOKEN = "0.12.11"  # the version of Ollama whose API this is: clients look at it before they use `think` or logprobs
NEVER = "2318-01-01T00:00:00Z"  # when the model leaves memory
UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


class ShowRequest(Body):
    """`name` is what older clients call the model."""

    REFUSED: ClassVar[Refused] = {"system": (None, ""), "template": (None, ""), "options": (None, {})}  # what it would be like with these
    model: Text | None = None
    name: Text | None = None
    verbose: bool | None = None


@router.get("/")
@router.head("/", include_in_schema=False)
async def root() -> PlainTextResponse:
    """What Ollama's clients look for before they ask anything."""
    return PlainTextResponse("Ollama is running")


@router.get("/api/version")
async def version() -> JSONResponse:
    """The version of the API that is spoken, and ours."""
    return JSONResponse({"version": SPOKEN, "cloister": VERSION})


@router.get("/api/tags")
async def tags(request: Request) -> JSONResponse:
    """The loaded model, and its adapters."""
    model = delivery.appliance(request).model()
    return JSONResponse({"models": [card(model, name) for name in model.names()]})


@router.get("/api/ps")
async def ps(request: Request) -> JSONResponse:
    """The same: what is here is in memory."""
    model = delivery.appliance(request).model()
    more = {"expires_at": NEVER, "size_vram": 0, "context_length": model.context}
    return JSONResponse({"models": [card(model, name) | more for name in model.names()]})


@router.post("/api/show")
async def show(request: Request, body: ShowRequest) -> JSONResponse:
    """Everything about the model."""
    home = delivery.appliance(request)
    headers = fields.ignored(body.unknown(), strict=home.strict)
    model = home.model()
    model.accept((body.model or body.name or "").removesuffix(":latest"))
    manifest = model.manifest
    family = manifest.architecture
    facts = {
        "general.architecture": family,
        "general.basename": manifest.title,
        "general.parameter_count": manifest.parameters,
        f"{family}.context_length": manifest.context_length,
    }
    return JSONResponse(
        {
            "modelfile": f"# {manifest.title}: prepared by Cloister's init, not from a Modelfile\nFROM {manifest.name}\n",
            "parameters": "\n".join(f"{name} {value}" for name, value in manifest.generation.items()),
            "template": manifest.chat_template or "",
            "details": details(model),
            "model_info": facts,
            "capabilities": capabilities(model),
            "modified_at": manifest.created,
        },
        headers=headers,
    )


def card(model: ServedModel, name: str) -> dict[str, Any]:
    """A model as /api/tags lists it: with a tag, without which clients can't ask for it by name and tag."""
    manifest, tagged = model.manifest, f"{name}:latest"
    return {
        "name": tagged,
        "model": tagged,
        "modified_at": manifest.created,
        "size": manifest.model.size,
        "digest": manifest.model.sha256,
        "details": details(model),
    }


def details(model: ServedModel) -> dict[str, Any]:
    """The facts that all lists show."""
    manifest = model.manifest
    return {
        "parent_model": "",
        "format": "gguf",
        "family": manifest.architecture,
        "families": [manifest.architecture],
        "parameter_size": _size(manifest.parameters),
        "quantization_level": manifest.quant.upper(),
    }


def capabilities(model: ServedModel) -> list[str]:
    """What clients may ask for."""
    template = model.manifest.chat_template or ""
    called = "tools" in template and tools.form(template) is not None
    return ["completion", *(["tools"] if called else []), *(["thinking"] if reasoning.START in template or model.by_token else [])]


def _size(parameters: int) -> str:
    for unit, letter in UNITS:
        if parameters >= unit:
            return f"{parameters / unit:.1f}{letter}"
    return str(parameters)


@router.post("/api/pull")
@router.post("/api/create")
@router.post("/api/push")
@router.post("/api/copy")
@router.delete("/api/delete")
@router.post("/api/blobs/{digest}")
@router.head("/api/blobs/{digest}", include_in_schema=False)
async def refused() -> None:
    """The models of an appliance are its owner's business."""
    raise Forbidden(
        "models come in and go only through init, on the appliance itself (`scripts/up --model NAME`): this API can't pull, create, push, "
        "copy or delete any"
    )


@router.post("/api/embed")
@router.post("/api/embeddings")
async def embed(request: Request) -> None:
    """No model here makes embeddings."""
    name = delivery.appliance(request).model().manifest.name
    raise InvalidRequest(f"the model {name!r} makes no embeddings: it is a language model", code="embeddings_unsupported")
