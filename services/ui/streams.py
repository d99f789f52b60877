"""Whose streams are whose: a session of Gradio (session_hash) belongs to the visit that named it first, and no other may touch it.

Where no password is asked for there are no visits, and a session is as secret as the random hash that its browser has made.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ui.visits import Visit

MOST = 100_000  # sessions that are remembered, also of visits that are over; beyond them the one that was unused longest is forgotten
_HEARTBEAT = re.compile(r"/gradio_api/heartbeat/(\w+)/?")


class Streams:
    """Inside of Access, which says whose request it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._owners: OrderedDict[str, Visit] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = scope.get("state", {}).get("visit") if scope["type"] == "http" else None
        if visit is None:
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        sessions = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])
        if heartbeat := _HEARTBEAT.fullmatch(path):
            sessions.append(heartbeat[1])
        if path.startswith("/gradio_api/") and scope["method"] == "POST":
            try:
                body = await Request(scope, receive).body()
            except ClientDisconnect:
                return
            sessions += _named(body)
            receive = _again(body, receive)
            del body
        if not all(self._owns(visit, session) for session in sessions):
            await PlainTextResponse("this is somebody else's\n", 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _owns(self, visit: Visit, session: str) -> bool:
        owner = self._owners.setdefault(session, visit)
        self._owners.move_to_end(session)
        if len(self._owners) > MOST:
            self._owners.popitem(last=False)
        return owner is visit


def _named(body: bytes) -> list[str]:
    """The session that a body names, read as Gradio reads it; none where it could not read it."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return []
    session = said.get("session_hash") if isinstance(said, dict) else None
    return [session] if isinstance(session, str) else []


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that has been read, for the next reader, and then no longer held."""
    unread = [body]

    async def receiver() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return receiver
