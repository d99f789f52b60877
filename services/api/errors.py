"""Every error a client can get, with its HTTP status and OpenAI's type and code.

ApiError
├── InvalidRequest        400  a field is wrong, or known but not supported
│   └── ContextExceeded   400  the prompt does not fit
├── Unauthorized          401  no API key, or one that is not known
├── Forbidden             403  nobody may do this here
├── NotFound              404  no such model or path
├── TooSlow               408  the body does not arrive
├── TooLarge              413  the body is longer than allowed
├── RateLimited           429  the key has used what it may use
├── Overloaded            429  the waiting line is full
├── Unavailable           503  preparing, loading, restarting: worth another try
├── TimedOut              504  no answer within the time that the request allowed
└── EngineFailed          500  the engine gave up on this request
"""

from __future__ import annotations

from services.shared import wire
from services.shared.errors import ApiError as ApiError
from services.shared.errors import EngineFailed as EngineFailed
from services.shared.errors import Unavailable as Unavailable


class InvalidRequest(ApiError):
    status, type = 400, "invalid_request_error"


class ContextExceeded(InvalidRequest):
    code = "context_length_exceeded"


class Unauthorized(ApiError):
    status, type, code = 401, "invalid_request_error", "invalid_api_key"

    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(ApiError):
    status, type, code = 403, "invalid_request_error", "forbidden"


class TooSlow(ApiError):
    status, type, code = 408, "invalid_request_error", "request_timeout"


class NotFound(ApiError):
    status, type, code = 404, "invalid_request_error", "not_found"


class TooLarge(ApiError):
    status, type, code = 413, "invalid_request_error", "request_too_large"


class RateLimited(ApiError):
    status, type, code, retry_after = 429, "rate_limit_error", "rate_limit_exceeded", 1


class Overloaded(ApiError):
    status, type, code, retry_after = 429, "rate_limit_error", "overloaded", 5


class TimedOut(ApiError):
    status, code = 504, "timeout"


def from_engine(failed: wire.Failed) -> ApiError:
    """The client's error for a failure that the engine tells."""
    message = failed.message
    match failed.code:
        case "context_length_exceeded":
            return ContextExceeded(message, param="messages")
        case "overloaded":
            return Overloaded(message, retry_after=failed.retry_after)
        case "invalid":
            return InvalidRequest(message)
        case "deadline":
            return TimedOut(message)
        case "shutdown":
            return Unavailable(message)
        case _:
            return EngineFailed(message)
