"""An error as a response, in the form that clients of the path's dialect expect. Used before and outside of the dialects' own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import JSONResponse

from services.api.errors import ApiError

# Beginnings of paths whose dialect has a form of its own; OpenAI's is everybody else's.
FORMS: dict[str, Callable[[ApiError], dict[str, Any]]] = {}


def respond(error: ApiError, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response to a request of this path."""
    form = next((form for beginning, form in FORMS.items() if path.startswith(beginning)), ApiError.body)
    return JSONResponse(form(error), status_code=error.status, headers={**error.headers(), **(headers or {})})
