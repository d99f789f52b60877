"""The form that an error has in each dialect, told by the path it happens on. Knows no requests and no answers."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from services.api.errors import ApiError

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


def response(path: str, error: ApiError) -> JSONResponse:
    """The error as the dialect of this path has it."""
    return JSONResponse(body(path, error), status_code=error.status, headers=error.headers())


def body(path: str, error: ApiError) -> dict[str, Any]:
    """The same, as a JSON object."""
    if path.startswith("/api/"):
        return ollama(error)
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return anthropic(error)
    return error.body()


def ollama(error: ApiError) -> dict[str, Any]:
    """Ollama's form: the message alone."""
    return {"error": error.message}


def anthropic(error: ApiError) -> dict[str, Any]:
    """Anthropic's form, whose types go by the HTTP status."""
    kind = ANTHROPIC_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}}
