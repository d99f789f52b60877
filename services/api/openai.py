"""OpenAI's dialect: POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from services.api import delivery, fields
from services.api.completion import Completion
from services.api.delivery import appliance
from services.api.openai_answer import Head, choice, figures, stream
from services.api.openai_schema import ChatRequest

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """Answer a conversation, streamed or whole."""
    home = appliance(request)
    headers = fields.ignored(body.unknown(), strict=home.strict)
    model = home.model()
    head = Head(model.accept(body.model) or model.manifest.name)
    wanted = body.wanted(delivery.user(request, body.safety_identifier or body.user))
    completions = await home.complete_several(body.conversation(), wanted, body.n or 1)
    if body.stream:
        return delivery.Stream(completions, stream(completions, head, body.stream_options), "text/event-stream", headers)
    return JSONResponse(await whole(request, completions, head), headers=headers)


async def whole(request: Request, completions: list[Completion], head: Head) -> dict[str, Any]:
    """The complete answers as one object; generation ends when the client hangs up.

    Raises:
        ApiError: one of them failed.
    """
    waiting = [asyncio.ensure_future(delivery.whole(request, completion)) for completion in completions]
    try:
        answers = await asyncio.gather(*waiting)
    finally:
        for one in waiting:
            one.cancel()
        for completion in completions:
            completion.close()
    closings = [answer.closing for answer in answers]
    return head.with_("chat.completion", choices=[choice(*numbered) for numbered in enumerate(answers)], **figures(closings))
