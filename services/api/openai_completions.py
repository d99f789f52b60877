"""OpenAI's older dialect: POST /v1/completions, a text that goes on without a template; and POST /v1/embeddings, which is refused."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator, Field

from services.api import delivery, fields
from services.api.completion import Alive, Closing, Completion
from services.api.conversation import Wanted
from services.api.errors import ApiError, InvalidRequest
from services.api.fields import (
    Body,
    LogitBias,
    MinP,
    Penalty,
    Refused,
    RepeatPenalty,
    Seconds,
    Seed,
    StopStrings,
    Temperature,
    Text,
    TopK,
    TopP,
)
from services.api.openai_schema import StreamOptions
from services.api.reasoning import Piece
from services.shared import wire

router = APIRouter()
CHOICES = 16  # answers that one request may ask for
LENGTH = 16  # tokens of an answer when the request names none, as OpenAI has it
SCORED = 5  # most likely tokens that are told at most, as OpenAI has it
KIND = "text_completion"


def _prompts(prompt: Any) -> Any:
    """One text is a list of one; token ids are refused by name."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and any(isinstance(part, int | list) for part in prompt):
        raise ValueError("token ids are not supported: send the text")
    return prompt


class CompletionRequest(Body):
    """top_k, min_p, repeat_penalty, ignore_eos and timeout are the usual extensions, as in chat completions."""

    REFUSED: ClassVar[Refused] = {"suffix": (None, ""), "response_format": (None, {"type": "text"})}
    model: Text | None = None
    prompt: Annotated[list[Annotated[Text, Field(min_length=1)]], BeforeValidator(_prompts), Field(min_length=1, max_length=CHOICES)]
    echo: bool | None = None
    n: Annotated[int, Field(ge=1, le=CHOICES)] | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=SCORED)] | None = None
    logit_bias: LogitBias | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = LENGTH
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    repeat_penalty: RepeatPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: StopStrings = None
    ignore_eos: bool = False
    timeout: Seconds | None = None
    user: Text | None = None

    def check_extra(self) -> list[str]:
        """Names of unknown fields.

        Raises:
            InvalidRequest: a known field, or a combination of fields, that is not supported.
        """
        if self.best_of not in (None, self.n or 1):
            raise InvalidRequest(
                "best_of must be n: no answers are made only to be thrown away", param="best_of", code="unsupported_parameter"
            )
        if self.echo and self.logprobs is not None:
            raise InvalidRequest("echo with logprobs is not supported: no logprobs are known of the prompt", param="echo")
        if len(self.prompt) * (self.n or 1) > CHOICES:
            raise InvalidRequest(f"{len(self.prompt)} prompts with n={self.n} are more than {CHOICES} answers", param="n")
        return self.unknown()

    def wanted(self, user: str) -> Wanted:
        """How the answers shall be made."""
        names = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty", "seed")
        return Wanted(
            self.model,
            {name: getattr(self, name) for name in names},
            max_tokens=self.max_tokens or 0,
            stop=tuple(self.stop or ()),
            ignore_eos=self.ignore_eos,
            logit_bias=tuple((self.logit_bias or {}).items()),
            logprobs=self.logprobs,
            seconds=self.timeout or 0.0,
            user=user,
        )


@router.post("/v1/completions")
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Go on with one text or several, streamed or whole."""
    home = delivery.appliance(request)
    headers = fields.ignored(body.check_extra(), strict=home.strict)
    model = home.model()
    head = {"id": f"cmpl-{uuid.uuid4().hex}", "object": KIND, "created": int(time.time())}
    head["model"] = model.accept(body.model) or model.manifest.name
    prompts = [prompt for prompt in body.prompt for _ in range(body.n or 1)]
    user = delivery.user(request, body.user)
    begun: list[Completion] = []
    with contextlib.ExitStack() as stack:
        for prompt in body.prompt:
            several = await home.complete_text_several(prompt, body.wanted(user), body.n or 1)
            for completion in several:
                stack.callback(completion.close)
            begun += several
        if body.stream:
            stack.pop_all()
            return delivery.Stream(begun, stream(begun, head, body, prompts), "text/event-stream", headers)
        done = [await delivery.whole(request, completion) for completion in begun]
    echoes = prompts if body.echo else [""] * len(prompts)
    choices = [
        choice(number, echo + a.text, a.closing.reason, Scores().more(a.logprobs) if body.logprobs is not None else None)
        for number, (echo, a) in enumerate(zip(echoes, done, strict=True))
    ]
    figures = usage([a.closing for a in done], body.n or 1)
    return JSONResponse({**head, "choices": choices, "usage": figures, "timings": done[0].closing.timings}, headers=headers)


@router.post("/v1/embeddings")
async def embeddings(request: Request) -> None:
    """No model here makes embeddings."""
    name = delivery.appliance(request).model().manifest.name
    raise InvalidRequest(f"the model {name!r} makes no embeddings: it is a language model", param="model", code="embeddings_unsupported")


def choice(index: int, text: str, reason: str | None, scores: dict[str, Any] | None) -> dict[str, Any]:
    """One of the answers, or a part of it."""
    return {"index": index, "text": text, "logprobs": scores, "finish_reason": reason}


def usage(closings: Sequence[Closing], n: int) -> dict[str, Any]:
    """The figures of all answers; a prompt that is answered `n` times counts once."""
    prompt = sum(c.usage["prompt_tokens"] for c in closings[::n])
    made = sum(c.usage["completion_tokens"] for c in closings)
    cached = sum(c.usage["prompt_tokens_details"]["cached_tokens"] for c in closings[::n])
    figures = {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}
    return {**figures, "prompt_tokens_details": {"cached_tokens": cached}}


class Scores:
    """Logprobs in the older shape: lists side by side, with each token's place in the text, in characters."""

    def __init__(self) -> None:
        self._offset = 0

    def more(self, logprobs: Sequence[wire.TokenLogprob]) -> dict[str, Any]:
        """The next tokens."""
        offsets = []
        for raw, _, _ in logprobs:
            offsets.append(self._offset)
            self._offset += len(raw.decode(errors="ignore"))
        return {
            "tokens": [_token(raw) for raw, _, _ in logprobs],
            "token_logprobs": [max(score, delivery.LEAST) for _, score, _ in logprobs],
            "top_logprobs": [{_token(other): max(score, delivery.LEAST) for other, score in top} for _, _, top in logprobs],
            "text_offset": offsets,
        }


def _token(raw: bytes) -> str:
    """A token's text, or its bytes where they are no whole characters, as OpenAI spells them."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


async def stream(
    begun: Sequence[Completion], head: dict[str, Any], body: CompletionRequest, prompts: Sequence[str]
) -> AsyncIterator[bytes]:
    """The answers as server-sent events, all at once; an error in mid-stream is an event too."""

    def chunk(*told: Any, **more: Any) -> bytes:
        return b"data: " + delivery.dumped({**head, "choices": [choice(*told)] if told else [], **more}) + b"\n\n"

    scores = [Scores() for _ in begun]
    closings: dict[int, Closing] = {}
    try:
        for number, prompt in enumerate(prompts if body.echo else ()):
            yield chunk(number, prompt, None, None)
        async for number, event in delivery.together(begun):
            match event:
                case Piece(text=text, logprobs=logprobs):
                    yield chunk(number, text, None, scores[number].more(logprobs) if body.logprobs is not None else None)
                case Alive() | wire.Queued() | wire.Prefill():
                    yield b": still working\n\n"
                case Closing() as closing:
                    closings[number] = closing
                    yield chunk(number, "", closing.reason, None)
        if body.stream_options and body.stream_options.include_usage:
            ended = [closings[number] for number in sorted(closings)]
            yield chunk(usage=usage(ended, body.n or 1), timings=ended[0].timings)
    except ApiError as error:
        yield b"data: " + delivery.dumped(error.body()) + b"\n\n"
        return
    yield b"data: [DONE]\n\n"
