"""OpenAI's dialect: POST /v1/chat/completions and GET /v1/models."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.api.appliance import Appliance
from services.api.completion import Alive, Closing, Completion
from services.api.conversation import Conversation, Wanted
from services.api.errors import ApiError
from services.api.openai_schema import ChatRequest
from services.api.reasoning import Piece
from services.shared import wire

router = APIRouter()
DISCONNECT_CHECK = 0.1  # seconds between two looks whether the client of a plain answer is still there
CHANNELS = {"thinking": "reasoning_content", "answer": "content"}


@router.get("/v1/models")
async def models(request: Request) -> JSONResponse:
    """The loaded model, and its adapters."""
    model = appliance(request).model()
    return JSONResponse({"object": "list", "data": [card(name, model.manifest.created, model.context) for name in model.names()]})


@router.get("/v1/models/{name:path}")
async def one_model(request: Request, name: str) -> JSONResponse:
    """The loaded model, by name."""
    model = appliance(request).model()
    adapter = model.accept(name)
    return JSONResponse(card(adapter or model.manifest.name, model.manifest.created, model.context))


@router.post("/v1/chat/completions")
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """Answer a conversation, streamed or whole."""
    unknown = body.check_extra()
    model = appliance(request).model()
    head = Head(model.accept(body.model) or model.manifest.name)
    completion = await start(request, body)
    headers = {"X-Cloister-Ignored": ", ".join(quote(name, errors="replace")[:100] for name in sorted(unknown)[:20])} if unknown else {}
    if body.stream:
        return EventStream(completion, stream(completion, head, body), headers)
    return JSONResponse(await whole(request, completion, head), headers=headers)


class EventStream(StreamingResponse):
    """Server-sent events of a completion, which is closed even when nobody has read the first one."""

    def __init__(self, completion: Completion, events: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **headers}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._completion = completion

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.closing(self._completion):
            await super().__call__(scope, receive, send)


class Head:
    """The id, time and model that all chunks of an answer share."""

    def __init__(self, model: str) -> None:
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.model = model

    def with_(self, kind: str, **fields: Any) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, **fields}


def appliance(request: Request) -> Appliance:
    """The appliance behind the app."""
    found: Appliance = request.app.state.appliance
    return found


async def start(request: Request, body: ChatRequest) -> Completion:
    """Send the request to the engine and wait until it is accepted.

    Raises:
        ApiError: no model, another model, a template that refuses, a prompt that does not fit, a full queue.
    """
    names = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed")
    wanted = Wanted(
        body.model,
        {name: getattr(body, name) for name in names},
        max_tokens=body.max_completion_tokens or body.max_tokens or 0,
        stop=body.stops(),
        ignore_eos=body.ignore_eos,
        thought_limit=body.thinking_budget,
        seconds=body.timeout or 0.0,
        user=user(request.scope.get("key", ""), body.safety_identifier or body.user or ""),
    )
    return await appliance(request).complete(Conversation(tuple(m.message() for m in body.messages)), wanted)


def user(key: str, name: str) -> str:
    """Who asks, as the waiting line knows them: the key's name, and what the client calls its user, by which nobody can be known."""
    return f"{key}/{hashlib.sha256(name.encode()).hexdigest()[:16]}" if name else key


async def whole(request: Request, completion: Completion, head: Head) -> dict[str, Any]:
    """The complete answer as one object; generation ends when the client hangs up."""
    texts = {"thinking": "", "answer": ""}
    closing = None
    with contextlib.closing(completion):
        async for event in completion.events(DISCONNECT_CHECK):
            if isinstance(event, Piece):
                texts[event.channel] += event.text
            elif isinstance(event, Closing):
                closing = event
            if await request.is_disconnected():
                break
    message = {"role": "assistant", "content": texts["answer"], "refusal": None}
    if texts["thinking"]:
        message["reasoning_content"] = texts["thinking"]
    choice: dict[str, Any] = {"index": 0, "message": message, "logprobs": None, "finish_reason": closing.reason if closing else None}
    if closing and closing.details:
        choice["finish_details"] = closing.details
    figures = {"usage": closing.usage, "timings": closing.timings} if closing else {}
    return head.with_("chat.completion", choices=[choice], **figures)


async def stream(completion: Completion, head: Head, body: ChatRequest) -> AsyncIterator[bytes]:
    """The answer as server-sent events; an error in mid-stream is an event too."""
    options = body.stream_options
    want_usage, want_progress = bool(options and options.include_usage), bool(options and options.include_progress)

    def chunk(delta: dict[str, Any], reason: str | None = None, details: dict[str, str] | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        if details:
            choice["finish_details"] = details
        return sse(head.with_("chat.completion.chunk", choices=[choice]))

    # all chunks of text are alike but for the text, and there is one for each token
    frames = {channel: chunk({key: ""}).rpartition(b'""') for channel, key in CHANNELS.items()}
    try:
        yield chunk({"role": "assistant", "content": ""})
        async for event in completion.events():
            match event:
                case Piece(channel=channel, text=text):
                    before, _, after = frames[channel]
                    yield before + json.dumps(text, ensure_ascii=False).encode() + after
                case wire.Queued(position=position) if want_progress:
                    yield sse(head.with_("chat.completion.chunk", choices=[], progress={"state": "queued", "position": position}))
                case wire.Prefill(done=done, total=total, cached=cached) if want_progress:
                    progress = {"state": "prefill", "done": done, "total": total, "cached": cached}
                    yield sse(head.with_("chat.completion.chunk", choices=[], progress=progress))
                case Alive() | wire.Queued() | wire.Prefill():
                    yield b": still working\n\n"
                case Closing() as closing:
                    yield chunk({}, closing.reason, closing.details)
                    if want_usage:
                        yield sse(head.with_("chat.completion.chunk", choices=[], usage=closing.usage, timings=closing.timings))
    except ApiError as error:
        yield sse(error.body())
        return
    yield b"data: [DONE]\n\n"


def sse(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def card(name: str, created: str, context: int) -> dict[str, Any]:
    """A model as /v1/models lists it."""
    seconds = int(datetime.fromisoformat(created).timestamp())
    return {"id": name, "object": "model", "created": seconds, "owned_by": "cloister", "context_length": context}
