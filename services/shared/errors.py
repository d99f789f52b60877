"""The error that a client gets, and those kinds of it that both the API and the relay tell. All kinds: services/api/errors.py."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error with the shape `{"error": {"message", "type", "param", "code"}}`."""

    status = 500
    type = "server_error"
    code: str | None = None
    retry_after: int | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message, self.param = message, param
        self.code = code or self.code
        self.retry_after = retry_after or self.retry_after

    def body(self) -> dict[str, Any]:
        """The JSON object that a client gets."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Extra response headers: Retry-After in seconds where another try makes sense."""
        return {"Retry-After": str(self.retry_after)} if self.retry_after else {}


class Unavailable(ApiError):
    status, type, code, retry_after = 503, "server_error", "unavailable", 2


class EngineFailed(ApiError):
    code = "engine_failed"
