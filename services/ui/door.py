"""The page's own door: which of Gradio's paths are open, what the browser may fetch, and what stands in the page's head.

Gradio brings upload, file, proxy, API and monitoring routes that a chat does not need: they are closed. The policy header
makes the browser refuse any request beyond the page's own origin, also one that a model writes into its answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASSETS = Path(__file__).parent / "assets"
ASSETS_PATH = "/look"

OPEN = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/robots\.txt|/livez|/read|/log(?:in|out)|/(?:assets|static|look)/.*"
    r"|/gradio_api/(?:app_id|queue/join|queue/data|run/predict|cancel|reset|startup-events|theme\.css|heartbeat/\w+)/?"
)

# Gradio's page holds inline scripts and styles, and compiles the templates of its components.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "media-src 'none'",
        "frame-src 'none'",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)
# Ours have no version in their names: the browser is to ask whether they have changed. A page of somebody's is not kept at all.
FRESH = ((b"cache-control", b"no-cache"),)
UNKEPT = ((b"cache-control", b"no-store"),)

# In Gradio's head: addresses of its makers for link previews, a manifest, and a viewport that we set ourselves.
_FOREIGN = re.compile(r'<meta\s+(?:property="og:|name="(?:twitter:|viewport"))[^>]*>\s*|<link rel="manifest"[^>]*>\s*')


class Door:
    """Wraps the whole app. `limit` is the most bytes that a request's body may have. The page's head gets the id of the person whom
    Access has let in, from scope["state"]."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit
        self._head = (ASSETS / "head.html").read_text(encoding="utf-8")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if not OPEN.fullmatch(path):
            await PlainTextResponse("there is nothing here\n", 404)(scope, receive, send)
            return
        if self._too_long(scope):
            await PlainTextResponse("the request is too long\n", 413)(scope, receive, send)
            return
        page, ours = path == "/", path.startswith(ASSETS_PATH)
        state = scope.setdefault("state", {})
        await self._app(_uncompressed(scope) if page else scope, receive, self._sender(send, state, page=page, ours=ours))

    def _too_long(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        return b"transfer-encoding" in headers or not length.isdigit() or int(length) > self._limit

    def _sender(self, send: Send, state: dict[str, Any], *, page: bool, ours: bool) -> Send:
        """Adds the headers; of the page itself the head is rewritten, which needs the whole body."""
        start: Message = {}
        body = b""

        async def sender(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                cache = UNKEPT if page and state.get("person") else FRESH if page or ours else ()
                start = {**message, "headers": [*message["headers"], *HEADERS, *cache]}
                if not page:
                    await send(start)
            elif page and message["type"] == "http.response.body":
                body += message.get("body", b"")
                if not message.get("more_body"):
                    whole = self._with_head(body, state.get("person", ""))
                    await send({**start, "headers": _with_length(start["headers"], len(whole))})
                    await send({"type": "http.response.body", "body": whole})
            else:
                await send(message)

        return sender

    def _with_head(self, body: bytes, person: str) -> bytes:
        text = body.decode("utf-8")
        head, found, rest = text.partition("</head>")
        if not found:
            return body
        # Ours goes first, so that the colours are there before anything is painted.
        whose = f'<meta name="cloister-person" content="{person}">' if person else ""
        head = _FOREIGN.sub("", head).replace("<head>", f"<head>{whose}{self._head}", 1)
        return (head + found + rest).encode()


def _uncompressed(scope: Scope) -> Scope:
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]}


def _with_length(headers: Iterable[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    return [*kept, (b"content-length", str(length).encode())]


def guard(app: FastAPI, limit: int) -> None:
    """Put the door before everything else that the app has."""
    app.add_middleware(Door, limit=limit)
