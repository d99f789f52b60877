"""The form that an error has in each dialect, told by the path it happens on, or by a header. Knows no requests and no answers."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Scope

from services.shared.errors import ApiError

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def response(scope: Scope, error: ApiError) -> JSONResponse:
    """The error as the dialect of this request has it."""
    return JSONResponse(body(scope, error), status_code=error.status, headers=error.headers())


def body(scope: Scope, error: ApiError) -> dict[str, Any]:
    """The same, as a JSON object."""
    path: str = scope["path"]
    if path.startswith("/api/"):
        return ollama(error)
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return anthropic(error)
    if (path == "/v1/models" or path.startswith("/v1/models/")) and speaks_anthropic(scope):
        return anthropic(error)
    return error.body()


def speaks_anthropic(scope: Scope) -> bool:
    """Anthropic's clients say which version of its API they mean: so they are known where OpenAI has the same path."""
    return any(name == b"anthropic-version" for name, _ in scope["headers"])


def ollama(error: ApiError) -> dict[str, Any]:
    """Ollama's form: the message alone."""
    return {"error": error.message}


def anthropic(error: ApiError) -> dict[str, Any]:
    """Anthropic's form, whose types go by the HTTP status."""
    kind = ANTHROPIC_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}}
