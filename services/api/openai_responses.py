"""OpenAI's newest dialect: POST /v1/responses, of which nothing is kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from services.api import delivery, fields
from services.api.completion import Alive, Closing, Completion
from services.api.conversation import Wanted
from services.api.errors import ApiError
from services.api.openai_responses_schema import Format, ResponseRequest
from services.api.reasoning import Piece
from services.api.tools import Call
from services.shared import wire

router = APIRouter()


@router.post("/v1/responses")
async def responses(request: Request, body: ResponseRequest) -> Response:
    """Answer a conversation, streamed or whole."""
    home = delivery.appliance(request)
    headers = fields.ignored(body.check_extra(), strict=home.strict)
    wanted = Wanted(
        body.model,
        {name: getattr(body, name) for name in ("temperature", "top_p", "top_k", "min_p", "seed")},
        max_tokens=body.max_output_tokens or 0,
        logprobs=body.scored(),
        json_schema=body.schema_text(),
        thought_limit=body.thought()[1],
        user=delivery.user(request, body.safety_identifier or body.user),
    )
    model = home.model()
    name = model.accept(body.model) or model.manifest.name
    completion = await home.complete(body.conversation(), wanted)
    reply = Reply(name, body)
    if body.stream:
        return delivery.Stream([completion], events(completion, reply), "text/event-stream", headers)
    done = await delivery.whole(request, completion)
    output = Output(summarized=body.summarized())
    told: list[Piece | Call] = [Piece("thinking", done.thinking)] if done.thinking else []
    told += [Piece("answer", done.text, done.logprobs)] if done.text else []
    told += [Call(number, call.id, call.name, call.arguments) for number, call in enumerate(done.calls)]
    for part in told:
        list(output.add(part))
    list(output.end(incomplete=done.closing.reason == "length"))
    return JSONResponse(reply.ended(output, done.closing), headers=headers)


class Reply:
    """The response object in all its states."""

    def __init__(self, model: str, body: ResponseRequest) -> None:
        choice = body.tool_choice or "auto"
        self._fields = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": model,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": body.reasoning.effort, "summary": body.reasoning.summary} if body.reasoning else None,
            "store": False,
            "temperature": body.temperature,
            "text": {"format": _stated(body.text.format) if body.text and body.text.format else {"type": "text"}},
            "tool_choice": choice if isinstance(choice, str) else choice.served(),
            "tools": [tool.served() for tool in body.tools or ()],
            "top_logprobs": body.top_logprobs,
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": body.user,
        }
        self.summarized = body.summarized()

    def begun(self) -> dict[str, Any]:
        return {**self._fields, "status": "in_progress", "output": []}

    def ended(self, output: Output, closing: Closing) -> dict[str, Any]:
        cut = {"incomplete_details": {"reason": "max_output_tokens"}} if closing.reason == "length" else {}
        status = {"status": "incomplete" if cut else "completed", "completed_at": None if cut else int(time.time())}
        return {**self._fields, **status, **cut, "output": output.items, "usage": usage(closing), "timings": closing.timings}

    def failed(self, output: Output, error: ApiError) -> dict[str, Any]:
        code = "rate_limit_exceeded" if error.status == 429 else "invalid_prompt" if error.status == 400 else "server_error"
        return {**self._fields, "status": "failed", "output": output.items, "error": {"code": code, "message": error.message}}


def _stated(form: Format) -> dict[str, Any]:
    return {name: value for name, value in form.served().items() if value is not None}


def usage(closing: Closing) -> dict[str, Any]:
    """The figures under this dialect's names."""
    told = closing.usage
    return {
        "input_tokens": told["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": told["prompt_tokens_details"]["cached_tokens"], "cache_write_tokens": 0},
        "output_tokens": told["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": told["completion_tokens_details"]["reasoning_tokens"]},
        "total_tokens": told["total_tokens"],
    }


async def events(completion: Completion, reply: Reply) -> AsyncIterator[bytes]:
    """The answer as numbered server-sent events; an error in mid-stream ends it with response.failed."""
    output, number = Output(summarized=reply.summarized), -1

    def event(kind: str, **told: Any) -> bytes:
        nonlocal number
        number += 1
        return delivery.sse({"type": f"response.{kind}", "sequence_number": number, **told})

    try:
        yield event("created", response=reply.begun())
        yield event("in_progress", response=reply.begun())
        async for happened in completion.events():
            match happened:
                case Piece() | Call():
                    for kind, told in output.add(happened):
                        yield event(kind, **told)
                case Alive() | wire.Queued() | wire.Prefill():
                    yield b": still working\n\n"
                case Closing() as closing:
                    cut = closing.reason == "length"
                    for kind, told in output.end(incomplete=cut):
                        yield event(kind, **told)
                    yield event("incomplete" if cut else "completed", response=reply.ended(output, closing))
    except ApiError as error:
        yield event("failed", response=reply.failed(output, error))


Told = Iterator[tuple[str, dict[str, Any]]]


class Output:
    """The output items of an answer: a thought, messages, calls. One is open at a time; each change is told as events (type, fields).

    `items` are those that are complete. `summarized`: the thought stands as its summary, where many clients look for it, instead
    of its content.
    """

    def __init__(self, *, summarized: bool) -> None:
        self.items: list[dict[str, Any]] = []
        self._summarized = summarized
        self._open: object = None  # thinking, answer, or the number of a call
        self._item: dict[str, Any] = {}
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def add(self, part: Piece | Call) -> Told:
        """More of the answer."""
        kind = part.channel if isinstance(part, Piece) else part.index
        if self._open != kind:
            yield from self.end()
            yield from self._begin(kind, part)
        text = part.text if isinstance(part, Piece) else part.arguments
        if not text:
            return
        self._texts.append(text)
        more: dict[str, Any] = {}
        if isinstance(part, Piece) and kind == "answer":
            more["logprobs"] = delivery.scores(part.logprobs)
            self._logprobs += more["logprobs"]
        yield self._event(f"{self._names()[0]}.delta", delta=text, **more)

    def end(self, *, incomplete: bool = False) -> Told:
        """Close what is open."""
        if self._open is None:
            return
        text, item = "".join(self._texts), self._item
        name, part = self._names()
        if part is None:
            item["arguments"] = text
            yield self._event(f"{name}.done", arguments=text, name=item["name"])
        else:
            scored = {"logprobs": self._logprobs} if self._open == "answer" else {}
            full = {**part, "text": text, **scored}
            yield self._event(f"{name}.done", text=text, **scored)
            yield self._event(f"{self._part_name()}.done", part=full)
            item["summary" if part["type"] == "summary_text" else "content"] = [full]
        item["status"] = "incomplete" if incomplete else "completed"
        yield "output_item.done", {"output_index": len(self.items), "item": item}
        self.items.append(item)
        self._open = None

    def _begin(self, kind: object, part: Piece | Call) -> Told:
        self._open, self._texts, self._logprobs = kind, [], []
        unique = uuid.uuid4().hex
        if isinstance(part, Call):
            self._item = {"id": f"fc_{unique}", "type": "function_call", "call_id": part.id, "name": part.name, "arguments": ""}
        elif kind == "thinking":
            self._item = {"id": f"rs_{unique}", "type": "reasoning", "summary": [], **({} if self._summarized else {"content": []})}
        else:
            self._item = {"id": f"msg_{unique}", "type": "message", "role": "assistant", "content": []}
        self._item["status"] = "in_progress"
        yield "output_item.added", {"output_index": len(self.items), "item": dict(self._item)}
        if (empty := self._names()[1]) is not None:
            yield self._event(f"{self._part_name()}.added", part=empty)

    def _names(self) -> tuple[str, dict[str, Any] | None]:
        """What the events of the open item's text are called, and its part when it is empty."""
        if self._open == "answer":
            return "output_text", {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        if self._open == "thinking":
            if self._summarized:
                return "reasoning_summary_text", {"type": "summary_text", "text": ""}
            return "reasoning_text", {"type": "reasoning_text", "text": ""}
        return "function_call_arguments", None

    def _part_name(self) -> str:
        return "reasoning_summary_part" if self._open == "thinking" and self._summarized else "content_part"

    def _event(self, kind: str, **told: Any) -> tuple[str, dict[str, Any]]:
        place: dict[str, Any] = {"item_id": self._item["id"], "output_index": len(self.items)}
        if self._names()[1] is not None:
            place["summary_index" if self._open == "thinking" and self._summarized else "content_index"] = 0
        return kind, {**place, **told}
