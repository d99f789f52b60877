"""The desk where a visitor hands in a file: POST /read takes its bytes and tells its text, and how many tokens of the prompt it takes.

Nothing of a file stays here once it is answered, and none of it is logged. Knows nothing of how a file is read (reading), nor of the
conversation that it goes into.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from services.shared import logs
from services.ui.attachment import Attachment, named, told
from services.ui.client import ApiError, Client
from services.ui.reading import LARGEST, LONGEST, Reader, Unreadable, megabytes, too_large
from services.ui.status import Watch

log = logging.getLogger("ui")

UNKEPT = {"Cache-Control": "no-store"}


class Desk:
    """Behind the door, so a body announces its length, and behind the login where there is one."""

    def __init__(self, client: Client, watch: Watch) -> None:
        self._client, self._watch, self._reader = client, watch, Reader()

    async def take(self, request: Request) -> Response:
        """The answer to `POST /read`: the body is the file, the header X-File-Name its name (percent-encoded UTF-8), which no form of
        another page can send. `{"name", "text", "tokens", "context"}`, or `{"error": {"reason", "found", "most"}}`."""
        if "x-file-name" not in request.headers:
            return PlainTextResponse("which file is it?\n", 400)
        size, began = int(request.headers.get("content-length", 0)), time.monotonic()
        try:
            if size > LARGEST:
                raise too_large(size)
            answer = await self._read(named(unquote(request.headers["x-file-name"])), await request.body())
            outcome = "read"
        except ClientDisconnect:
            return Response()
        except Unreadable as error:
            answer = {"error": {"reason": error.reason, "found": error.found, "most": error.most}}
            outcome = error.reason
        log.info("file %s", logs.facts(outcome=outcome, bytes=size, seconds=round(time.monotonic() - began, 1)))
        return JSONResponse(answer, headers=UNKEPT)

    async def _read(self, name: str, data: bytes) -> dict[str, Any]:
        text = await self._reader.text(data)
        try:
            # The whole prompt that it would be alone, so that what the template adds is in it.
            tokens = await self._client.count([{"role": "user", "content": told("", [Attachment(name, text)])}])
        except ApiError as error:
            if error.status in (400, 413):
                raise Unreadable("too_long", megabytes(len(text.encode())), megabytes(LONGEST)) from None
            raise Unreadable("uncounted") from None
        model = (await self._watch.current()).model
        return {"name": name, "text": text, "tokens": tokens, "context": model.context if model else 0}
