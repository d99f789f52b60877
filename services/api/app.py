"""The FastAPI app: routes, the engine connection's lifetime, the shape of errors, the body limit, and the request log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api import health, openai
from services.api.appliance import Appliance
from services.api.auth import Auth
from services.api.errors import ApiError, InvalidRequest, NotFound, TooLarge
from services.shared import VERSION, logs
from services.shared.secret import Secrets
from services.shared.settings import Settings

log = logging.getLogger("api")
QUIET = {"/livez", "/readyz", "/v1/status"}  # asked every few seconds by health checks and the page


def create_app(config: Settings) -> FastAPI:
    """The app for these settings.

    Raises:
        SecretError: the file of API keys can't be used.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connection = asyncio.create_task(home.engine.run())
        yield
        connection.cancel()

    home = Appliance(config)
    app = FastAPI(title="Cloister", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.appliance = home
    app.include_router(health.router)
    app.include_router(openai.router)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(BodyLimit, limit=config.api.max_body)
    app.add_middleware(Auth, keys=Secrets(config.api.keys))
    app.add_middleware(RequestLog)
    return app


def _response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers())


async def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return _response(error)


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    """400 with the first problem's place and reason; the value itself is not repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"] if step != "body")
    if first["type"] == "json_invalid":
        return _response(InvalidRequest(f"the body is not valid JSON: {first['ctx']['error']}"))
    return _response(InvalidRequest(f"{place or 'body'}: {first['msg']}", param=place or None))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _response(NotFound(f"there is no {request.url.path} here"))
    wrong = InvalidRequest(f"{request.method} {request.url.path}: {error.detail}", code="http_error")
    return JSONResponse(wrong.body(), status_code=error.status_code, headers=error.headers)


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error %s", logs.facts(type=type(error).__name__), exc_info=error)
    return _response(ApiError("an internal error: the log of the api has the details", code="internal"))


class BodyLimit:
    """Refuses bodies longer than `limit` bytes, announced or not, before they fill the memory."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        error = TooLarge(f"the body is longer than [api] max_body, {self._limit} bytes")
        if announced.isdigit() and int(announced) > self._limit:
            await _response(error)(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise error
            return message

        await self._app(scope, limited, send)


class RequestLog:
    """One line a request: method, path, status, seconds. Never what was asked or answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in QUIET:
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = f"{time.monotonic() - began:.2f}"
            log.info(
                "request %s", logs.facts(method=scope["method"], path=quote(scope["path"]), status=status or "aborted", seconds=seconds)
            )
