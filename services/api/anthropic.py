"""Anthropic's dialect: POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from services.api import delivery, fields
from services.api.anthropic_schema import CountRequest, MessagesRequest, Shown
from services.api.completion import SILENCE, Alive, Closing, Completion
from services.api.conversation import Wanted
from services.api.errors import ApiError
from services.api.reasoning import Piece
from services.api.tools import Call
from services.shared import forms, wire

router = APIRouter()
# Anthropic signs thoughts to know them when they come back. Here they are left out then, so nothing is to be known; clients want a text.
SIGNATURE = "cloister"
PING: dict[str, Any] = {"type": "ping"}


@router.post("/v1/messages")
async def messages(request: Request, body: MessagesRequest) -> Response:
    """Answer a conversation, streamed or whole."""
    home = delivery.appliance(request)
    headers = fields.ignored(body.unknown(), strict=home.strict)
    wanted = Wanted(
        body.model,
        {"temperature": body.temperature, "top_p": body.top_p, "top_k": body.top_k},
        max_tokens=body.max_tokens,
        stop=tuple(body.stop_sequences or ()),
        json_schema=body.schema_text(),
        thought_limit=body.thought()[1],
        user=delivery.user(request, body.metadata.user_id if body.metadata else None),
    )
    model = home.model()
    name = model.accept(body.model) or model.manifest.name
    completion = await home.complete(body.conversation(), wanted)
    reply = Reply(name, body.max_tokens, body.shown())
    if body.stream:
        return delivery.Stream([completion], events(completion, reply), "text/event-stream", headers)
    done = await delivery.whole(request, completion)
    content: list[dict[str, Any]] = []
    if done.thinking and reply.shown != "nothing":
        content.append({"type": "thinking", "thinking": done.thinking if reply.shown == "thought" else "", "signature": SIGNATURE})
    if done.text or not (content or done.calls):  # clients look into the first block
        content.append({"type": "text", "text": done.text})
    content += [{"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments or "{}")} for call in done.calls]
    return JSONResponse(reply.message(content, usage(done.closing), **reply.stop(done.closing)), headers=headers)


@router.post("/v1/messages/count_tokens")
async def count_tokens(request: Request, body: CountRequest) -> JSONResponse:
    """How many tokens the prompt of a conversation has."""
    home = delivery.appliance(request)
    headers = fields.ignored(body.unknown(), strict=home.strict)
    home.model().accept(body.model)
    return JSONResponse({"input_tokens": await home.count(body.conversation())}, headers=headers)


class Reply:
    """What an answer says of itself. `shown`: what of its thought."""

    def __init__(self, model: str, max_tokens: int, shown: Shown) -> None:
        self.shown: Shown = shown
        self._id, self._model, self._max_tokens = f"msg_{uuid.uuid4().hex}", model, max_tokens

    def message(
        self, content: list[dict[str, Any]], usage: dict[str, Any], stop_reason: str | None = None, stop_sequence: str | None = None
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": stop_sequence,
            "usage": usage,
        }

    def stop(self, closing: Closing) -> dict[str, str | None]:
        """Why it ended, in Anthropic's words."""
        if closing.stop:
            return {"stop_reason": "stop_sequence", "stop_sequence": closing.stop}
        reason = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}[closing.reason]
        if reason == "max_tokens" and not closing.details.get("reason") and closing.usage["completion_tokens"] < self._max_tokens:
            reason = "model_context_window_exceeded"
        return {"stop_reason": reason, "stop_sequence": None}


def usage(closing: Closing) -> dict[str, Any]:
    """The figures: what came out of the KV cache does not count as input."""
    told = closing.usage
    return tokens(told["prompt_tokens"], told["prompt_tokens_details"]["cached_tokens"]) | {
        "output_tokens": told["completion_tokens"],
        "output_tokens_details": {"thinking_tokens": told["completion_tokens_details"]["reasoning_tokens"]},
    }


def tokens(prompt: int, cached: int) -> dict[str, Any]:
    """Usage before anything is answered."""
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": 0,
    }


async def events(completion: Completion, reply: Reply, silence: float = SILENCE) -> AsyncIterator[bytes]:
    """The answer as server-sent events. It begins when it is known how much of the prompt is cached, or has been silent for a while;
    a thought that is not shown is no silence either: it pings every so many seconds."""
    blocks, started, spoke = Blocks(reply), False, time.monotonic()
    try:
        async for event in completion.events():
            if not started and not isinstance(event, wire.Queued):
                started = True
                known = tokens(event.total, event.cached) if isinstance(event, wire.Prefill) else tokens(0, 0)
                yield delivery.sse({"type": "message_start", "message": reply.message([], known)})
            told: list[dict[str, Any]] = []
            match event:
                case Alive():
                    told = [PING]
                case wire.Queued() | wire.Prefill():
                    yield b": still working\n\n"
                    spoke = time.monotonic()
                case Piece(channel=channel, text=text):
                    told = list(blocks.text(channel, text)) or ([PING] if time.monotonic() - spoke >= silence else [])
                case Call():
                    told = list(blocks.call(event))
                case Closing() as closing:
                    told = [*blocks.last(), {"type": "message_delta", "delta": reply.stop(closing), "usage": usage(closing)}]
                    told.append({"type": "message_stop"})
            for one in told:
                yield delivery.sse(one)
                spoke = time.monotonic()
    except ApiError as error:
        yield delivery.sse(forms.anthropic(error))


class Blocks:
    """Content blocks of a stream: one is open at a time, and each has a start, deltas and a stop."""

    def __init__(self, reply: Reply) -> None:
        self._shown = reply.shown
        self._open: object = None  # thinking, answer, or the number of a call
        self._index = -1

    def text(self, channel: str, text: str) -> Iterator[dict[str, Any]]:
        """More of the thought or the answer."""
        if channel == "thinking" and self._shown == "nothing":
            return
        if self._open != channel:
            thought = {"type": "thinking", "thinking": "", "signature": ""}
            yield from self._begin(channel, thought if channel == "thinking" else {"type": "text", "text": ""})
        if channel == "answer":
            if text:
                yield self._delta({"type": "text_delta", "text": text})
        elif self._shown == "thought":
            yield self._delta({"type": "thinking_delta", "thinking": text})

    def call(self, part: Call) -> Iterator[dict[str, Any]]:
        """More of a tool call."""
        if self._open != part.index:
            yield from self._begin(part.index, {"type": "tool_use", "id": part.id, "name": part.name, "input": {}})
        if part.arguments:
            yield self._delta({"type": "input_json_delta", "partial_json": part.arguments})

    def last(self) -> Iterator[dict[str, Any]]:
        """The end of all. Where there was nothing to show, there is an empty text."""
        if self._index < 0:
            yield from self.text("answer", "")
        yield from self.end()

    def end(self) -> Iterator[dict[str, Any]]:
        """Close what is open."""
        if self._open == "thinking":
            yield self._delta({"type": "signature_delta", "signature": SIGNATURE})
        if self._open is not None:
            yield {"type": "content_block_stop", "index": self._index}
        self._open = None

    def _begin(self, what: object, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self.end()
        self._open = what
        self._index += 1
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}
