"""The FastAPI app: routes, the engine connection's lifetime, the shape of errors, the body limit, and the request log."""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import AsyncIterator
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api import health, openai, screen
from services.api.appliance import Appliance
from services.api.auth import Auth
from services.api.errors import ApiError, InvalidRequest, NotFound, TooLarge
from services.api.flags import Flags
from services.api.screen import Screen
from services.shared import VERSION, logs
from services.shared.secret import Secrets
from services.shared.settings import Settings

log = logging.getLogger("api")
QUIET = {"/livez", "/readyz", "/v1/status"}  # asked every few seconds by health checks and the page


def create_app(config: Settings) -> FastAPI:
    """The app for these settings.

    Raises:
        SecretError: the file of API keys can't be used.
        ScreenError: the file of patterns to screen by can't be used.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with home.open():
            yield

    home = Appliance(config, Screen(screen.read(config.api.screen) if config.api.screen else ()))
    app = FastAPI(title="Cloister", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.appliance = home
    app.include_router(health.router)
    app.include_router(openai.router)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(Flags)
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


class BodyLimit:
    """Reads the body, and refuses one that is longer than `limit` bytes, announced or not, before it fills the memory."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        length, body, more = int(announced) if announced.isdigit() else 0, bytearray(), True
        while more and max(length, len(body)) <= self._limit:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if max(length, len(body)) > self._limit:
            error = TooLarge(f"the body is longer than [api] max_body, {self._limit} bytes")
            await _response(error)(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]
        await self._app(scope, lambda: _ready(whole.pop()) if whole else receive(), send)


async def _ready(message: Message) -> Message:
    return message


class RequestLog:
    """One line a request: method, path, status, seconds. Never what was asked or answered, not even by an unexpected error's message."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
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
        except Exception as error:
            places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            log.error("unexpected error %s", logs.facts(type=type(error).__name__, at=" < ".join(places[:-7:-1])))
            if not status:
                internal = ApiError("an internal error: the log of the api has the details", code="internal")
                await _response(internal)(scope, receive, watched)
        finally:
            if scope["path"] not in QUIET:
                seconds = f"{time.monotonic() - began:.2f}"
                facts = logs.facts(method=scope["method"], path=quote(scope["path"]), status=status or "aborted", seconds=seconds)
                log.info("request %s", facts)
