"""The form that an error has in each dialect, told by the path it happens on. Knows no requests and no answers."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from services.api.errors import ApiError


def response(path: str, error: ApiError) -> JSONResponse:
    """The error as the dialect of this path has it."""
    return JSONResponse(body(path, error), status_code=error.status, headers=error.headers())


def body(path: str, error: ApiError) -> dict[str, Any]:
    """The same, as a JSON object."""
    return error.body()
