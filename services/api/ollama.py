"""Ollama's dialect: POST /api/chat and /api/generate, answered as lines of JSON or whole."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from services.api import delivery, fields
from services.api.completion import Alive, Closing, Completion
from services.api.conversation import ToolCall
from services.api.errors import ApiError
from services.api.ollama_schema import GenerateRequest, OllamaChatRequest
from services.api.reasoning import Piece
from services.api.tools import Call
from services.shared import forms, wire


class JsonByDefault(APIRoute):
    """Reads JSON whatever it is called, as Ollama does: `curl -d` calls it a form, litellm a text. Not so from web pages, which name their
    origin: those can send forms and texts to anybody without asking whether they may."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if "origin" not in request.headers:
                others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
                headers = [*others, (b"content-type", b"application/json")]
                request = Request({**request.scope, "headers": headers}, request.receive)
            return await handler(request)

        return handle


router = APIRouter(route_class=JsonByDefault)
Said = Callable[[str, str, Sequence[ToolCall]], dict[str, Any]]  # answer, thinking and calls, as one of the two routes names them


@router.post("/api/chat")
async def chat(request: Request, body: OllamaChatRequest) -> Response:
    """Answer a conversation."""
    return await answer(request, body, as_message)


@router.post("/api/generate")
async def generate(request: Request, body: GenerateRequest) -> Response:
    """Answer a prompt, with the model's template or raw."""
    return await answer(request, body, as_response)


async def answer(request: Request, body: OllamaChatRequest | GenerateRequest, said: Said) -> Response:
    """Streamed unless the client wants it whole. Where nothing is asked, the client wants the model in memory, where it is.

    Raises:
        ApiError: no model, another one, a field that is not supported, or whatever keeps it from being answered.
    """
    home, reply = delivery.appliance(request), Reply(body.model, said)
    model = home.model()
    names = body.check_extra(model.context)
    model.accept(body.name())
    headers = fields.ignored(names, strict=home.strict)
    asked, wanted = body.asked(), body.wanted(delivery.user(request, None))
    if asked is None:
        return JSONResponse(reply.loaded(), headers=headers)
    completion = await (home.complete_text(asked, wanted) if isinstance(asked, str) else home.complete(asked, wanted))
    if body.stream is not False:
        return delivery.Stream([completion], lines(completion, reply), "application/x-ndjson", headers)
    done = await delivery.whole(request, completion)
    figures = reply.figures(done.closing, done.logprobs)
    return JSONResponse(reply.part(done.text, done.thinking, done.calls) | figures, headers=headers)


class Reply:
    """What all parts of an answer share, under the names of one of the two routes."""

    def __init__(self, model: str, said: Said) -> None:
        self._model, self._said, self._began = model, said, time.monotonic_ns()

    def part(self, text: str = "", thinking: str = "", calls: Sequence[ToolCall] = ()) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {"model": self._model, "created_at": now, **self._said(text, thinking, calls), "done": False}

    def loaded(self) -> dict[str, Any]:
        """The answer to no question."""
        return {**self.part(), "done": True, "done_reason": "load"}

    def figures(self, closing: Closing, logprobs: Sequence[wire.TokenLogprob] = ()) -> dict[str, Any]:
        """The end of an answer; durations in nanoseconds. What passed before the prompt was read stands as load_duration."""
        seconds = {name: int(closing.timings[f"{name}_seconds"] * 1e9) for name in ("queue", "prefill", "decode")}
        return {
            "done": True,
            "done_reason": "length" if closing.reason == "length" else "stop",
            "total_duration": max(time.monotonic_ns() - self._began, sum(seconds.values())),
            "load_duration": seconds["queue"],
            "prompt_eval_count": closing.usage["prompt_tokens"],
            "prompt_eval_duration": seconds["prefill"],
            "eval_count": closing.usage["completion_tokens"],
            "eval_duration": seconds["decode"],
        } | scores(logprobs)


async def lines(completion: Completion, reply: Reply) -> AsyncIterator[bytes]:
    """The answer as lines of JSON, an error in mid-stream among them. An empty part says that it is still alive."""

    def line(part: dict[str, Any]) -> bytes:
        return delivery.dumped(part) + b"\n"

    calls = delivery.Calls()
    try:
        async for event in completion.events():
            match event:
                case Piece(channel="thinking", text=text):
                    yield line(reply.part(thinking=text))
                case Piece(text=text, logprobs=logprobs):
                    yield line(reply.part(text) | scores(logprobs))
                case Call():
                    calls.add(event)
                case Alive() | wire.Queued() | wire.Prefill():
                    yield line(reply.part())
                case Closing() as closing:
                    if called := calls.whole():
                        yield line(reply.part(calls=called))
                    yield line(reply.part() | reply.figures(closing))
    except ApiError as error:
        yield line(forms.ollama(error))


def as_message(text: str, thinking: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    """As /api/chat has it."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "function": {"index": number, "name": call.name, "arguments": json.loads(call.arguments or "{}")}}
            for number, call in enumerate(calls)
        ]
    return {"message": message}


def as_response(text: str, thinking: str, _: Sequence[ToolCall]) -> dict[str, Any]:
    """As /api/generate has it."""
    return {"response": text} | ({"thinking": thinking} if thinking else {})


def scores(logprobs: Sequence[wire.TokenLogprob]) -> dict[str, Any]:
    """Logprobs in OpenAI's shape, which Ollama took over."""
    return {"logprobs": delivery.scores(logprobs)} if logprobs else {}
