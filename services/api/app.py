"""The FastAPI app: its routes, what every request passes on its way to them, the engine connection's lifetime, the shape of errors."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from services.api import (
    anthropic,
    documentation,
    health,
    metrics,
    models,
    ollama,
    ollama_models,
    openai,
    openai_completions,
    openai_responses,
    screen,
)
from services.api.appliance import Appliance
from services.api.auth import Auth
from services.api.body import Body
from services.api.engine import Ended
from services.api.errors import ApiError, InvalidRequest, NotFound
from services.api.flags import Flags
from services.api.journal import Journal
from services.api.limits import RateLimit
from services.api.meters import Meters
from services.api.metrics import Metrics
from services.api.origin import EXPOSED, Origin
from services.api.screen import Screen
from services.shared import VERSION, forms
from services.shared.secret import Secrets
from services.shared.settings import Settings

if TYPE_CHECKING:
    from services.api.store import Store


def create_app(config: Settings) -> FastAPI:
    """The app for these settings.

    Raises:
        SecretError: the file of API keys can't be used.
        ScreenError: the file of patterns to screen by can't be used.
        SettingsError: the store's address is none.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with home.open(), store.open() if store else contextlib.nullcontext():
            yield

    home = Appliance(config, Screen(screen.read(config.api.screen) if config.api.screen else ()))
    counted = Metrics()
    keys = Secrets(config.api.keys)
    store = _store(config.api.store)
    meters = Meters(keys, store.meter) if store else Meters(keys)

    def ended(answer: Ended) -> None:
        counted.answer(answer)
        meters.spend(answer.key, answer.prompt_tokens + answer.generated_tokens)

    home.engine.on_ended = ended
    app = FastAPI(title="Cloister", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.appliance, app.state.metrics = home, counted
    dialects = (models, openai, openai_completions, openai_responses, anthropic, ollama, ollama_models)
    for part in (health, metrics, documentation, *dialects):
        app.include_router(part.router)
    documentation.describe(app)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    # the last one added comes first
    app.add_middleware(Flags)
    app.add_middleware(Body, limit=config.api.max_body)
    app.add_middleware(RateLimit, meters=meters)
    app.add_middleware(Auth, keys=keys)
    if config.api.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=config.api.origins, allow_methods=["*"], allow_headers=["*"], expose_headers=EXPOSED
        )
    address = [name for name in (config.api.host, config.api.published) if name]
    app.add_middleware(Origin, address=address, hosts=config.api.hosts, origins=config.api.origins, keys=keys)
    app.add_middleware(Journal, counted=counted.request)
    return app


def _store(url: str | None) -> Store | None:
    """The store that replicas share; on one machine there is none, nor its library."""
    if not url:
        return None
    from services.api.store import Store

    return Store(url)


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return forms.response(request.scope, error)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    """400 with the first problem's place and reason; the value itself is not repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"] if step != "body")
    if first["type"] == "json_invalid":
        return forms.response(request.scope, InvalidRequest(f"the body is not valid JSON: {first['ctx']['error']}"))
    return forms.response(request.scope, InvalidRequest(f"{place or 'body'}: {first['msg']}", param=place or None))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return forms.response(request.scope, NotFound(f"there is no {request.url.path} here"))
    wrong = InvalidRequest(f"{request.method} {request.url.path}: {error.detail}", code="http_error")
    wrong.status = error.status_code
    response = forms.response(request.scope, wrong)
    response.headers.update(error.headers or {})
    return response
