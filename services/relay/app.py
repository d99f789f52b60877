"""The relay: an ASGI app that passes requests on and answers back, both as they come. It balances nothing and keeps nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from urllib.parse import quote

import httpx
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from services.relay import words
from services.relay.asked import Asked, ClientGone, end_to_end
from services.relay.cluster import METRICS, STATUS, Cluster
from services.shared import forms, logs
from services.shared.errors import EngineFailed, Unavailable

log = logging.getLogger("relay")
ALIVE = "/relay/livez"  # asked by this container's health check; all others go to the api
PATIENCE = 8.0  # seconds that a balancer is waited for which is being restarted
RETRY = 0.25  # seconds between two tries
# Seconds. An answer may think for minutes.
TIMEOUTS = {"connect": 2.0, "read": None, "write": 60.0, "pool": None}
# A balancer on a node that falls silent is known to be gone within 4 seconds.
PROBES = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]
# Bytes of an answer that comes whole which are waited for before its head goes out: so far a break can still become an error.
MOST = 4 << 20
REPLICAS = "x-request-id"  # a header that every answer of a replica has
NOBODY = "nobody can answer now: try again in a moment"
CUT = "the machine that answered is gone, in the middle of this answer: ask again in a moment"


class Relay:
    """`upstream`: the balancer, such as http://balancer:8080. `inside`: where it tells of its replicas, if anywhere."""

    def __init__(self, upstream: str, inside: str = "", patience: float = PATIENCE) -> None:
        self._upstream, self._patience = httpx.URL(upstream), patience
        # No connection is used again: on an old one, a request could be lost to a balancer that is just stopping.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._transport = httpx.AsyncHTTPTransport(limits=limits, socket_options=PROBES)
        self._cluster = Cluster(inside, self._transport) if inside else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == ALIVE:
            await PlainTextResponse("alive")(scope, receive, send)
            return
        asked = Asked(scope, receive)
        passing = asyncio.create_task(self._pass(scope, asked, send))
        gone = asyncio.create_task(asked.gone())
        try:
            await asyncio.wait((passing, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            passing.cancel()
            gone.cancel()
            ended, _ = await asyncio.gather(passing, gone, return_exceptions=True)
        if isinstance(ended, Exception) and not isinstance(ended, ClientGone):
            raise ended

    async def _pass(self, scope: Scope, asked: Asked, send: Send) -> None:
        began = time.monotonic()
        try:
            answer = await self._ask(asked)
        except httpx.TransportError as error:
            await _refuse(scope, send, error)
            return
        try:
            if answer.status_code in (502, 503, 504) and REPLICAS not in answer.headers:  # the balancer's own
                await _refuse(scope, send, answer.status_code)
            elif stream := words.stream(scope, answer.headers):
                await _streamed(scope, send, answer, stream, began)
            elif self._cluster and answer.status_code == 200 and asked.method == "GET" and scope["path"] in (STATUS, METRICS):
                await _clustered(scope, send, answer, self._cluster, asked)
            else:
                await _whole(scope, send, answer)
        finally:
            await answer.aclose()

    async def _ask(self, asked: Asked) -> httpx.Response:
        """The head of the answer. As long as there is patience it is asked again where nothing was sent to a replica: no balancer could be
        reached, or the balancer reached nobody, which is what its 503 means (its 502 is that of a replica that got the request).

        Raises:
            httpx.TransportError: there is none.
            ClientGone: the client did not send all of its request.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                answer = await self._transport.handle_async_request(self._request(asked))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if time.monotonic() > deadline:
                    raise
            else:
                if answer.status_code != 503 or REPLICAS in answer.headers or time.monotonic() > deadline:
                    asked.forget()
                    return answer
                await answer.aclose()
            await asyncio.sleep(RETRY)

    def _request(self, asked: Asked) -> httpx.Request:
        return httpx.Request(
            asked.method,
            self._upstream,
            headers=asked.headers,
            content=asked.body() if asked.has_body else None,
            extensions={"timeout": TIMEOUTS, "target": asked.target},
        )


async def _refuse(scope: Scope, send: Send, reason: int | Exception) -> None:
    """Say that there is no answer."""
    said = reason if isinstance(reason, int) else type(reason).__name__
    log.warning("refused %s", logs.facts(path=quote(scope["path"]), reason=said))
    await forms.response(scope, Unavailable(NOBODY))(scope, _nothing, send)


async def _nothing() -> Message:
    raise AssertionError("an error reads nothing of its request")


async def _streamed(scope: Scope, send: Send, answer: httpx.Response, stream: words.Stream, began: float) -> None:
    """Pass on whole events until the end, or until the last words."""
    await send(_head(answer))
    try:
        async for data in answer.stream:  # type: ignore[union-attr]
            if events := stream.feed(data):
                await send(_body(events))
        end = stream.rest()
    except httpx.TransportError as error:
        facts = logs.facts(
            path=quote(scope["path"]),
            reason=type(error).__name__,
            after=f"{time.monotonic() - began:.2f}s",
            id=answer.headers.get("x-request-id"),
        )
        log.warning("stream cut %s", facts)
        end = stream.last_words(EngineFailed(CUT))
    await send(_body(end, more=False))


async def _whole(scope: Scope, send: Send, answer: httpx.Response) -> None:
    """Pass on when it has arrived, or, where it is long, from then on as it comes. Once its head is out, all that is left to do at a break
    is to break the connection, which is what the server does when there is no end."""
    kept, begun = b"", False
    try:
        async for data in answer.stream:  # type: ignore[union-attr]
            kept += data
            if begun or len(kept) > MOST:
                if not begun:
                    await send(_head(answer))
                begun = True
                await send(_body(kept))
                kept = b""
    except httpx.TransportError as error:
        if not begun:
            await _refuse(scope, send, error)
        return
    if not begun:
        await send(_head(answer))
    await send(_body(kept, more=False))


async def _clustered(scope: Scope, send: Send, answer: httpx.Response, cluster: Cluster, asked: Asked) -> None:
    """What one replica says of itself, and the others."""
    try:
        body = await answer.aread()
    except httpx.TransportError as error:
        await _refuse(scope, send, error)
        return
    body = await cluster.told(scope["path"], body, asked.headers)
    head = _head(answer)
    others = [(name, value) for name, value in head["headers"] if name != b"content-length"]
    await send({**head, "headers": [*others, (b"content-length", str(len(body)).encode())]})
    await send(_body(body, more=False))


def _head(answer: httpx.Response) -> Message:
    return {"type": "http.response.start", "status": answer.status_code, "headers": end_to_end(answer.headers.raw)}


def _body(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}
