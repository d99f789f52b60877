"""A streaming client that notes when each piece of an answer arrives. Knows the OpenAI dialect, not what is measured with it."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from scripts.benchmark.prompts import Message


class EndpointError(Exception):
    """An endpoint does not do what a measurement needs; the message names it and says what was found."""


@dataclass
class Answer:
    """One answer as it arrives; times are of time.perf_counter.

    Attributes:
        sent: when its request was sent.
        times: when each line with text or thinking came. A line may hold several tokens, several lines may come at once (guesses that
            came true), and a token may have no line (half of a character, a control token), so tokens are counted from the usage and
            not from here.
        ended: when the line with the finish reason came: the last token's time even where that token has no text.
        told: seconds from the first token to the last as the endpoint says itself, 0 where it does not.
        tokens, prompt_tokens: as the endpoint's usage says.
        content, thinking: the text of both channels.
    """

    sent: float = 0.0
    times: list[float] = field(default_factory=list)
    ended: float = 0.0
    told: float = 0.0
    reason: str | None = None
    tokens: int = 0
    prompt_tokens: int = 0
    content: str = ""
    thinking: str = ""

    @property
    def shown(self) -> float:
        """When the first text came; the end, where none came at all."""
        return self.times[0] if self.times else self.ended

    @property
    def began(self) -> float:
        """When the first token came. Tokens without text may have come before the first text, which only the endpoint knows: it is
        believed where that makes it slower."""
        return min(self.shown, max(self.sent, self.ended - self.told))

    @property
    def first(self) -> float:
        """Seconds from sending to the first text."""
        return self.shown - self.sent

    @property
    def decode(self) -> float:
        """Tokens per second from the first token to the last."""
        return (self.tokens - 1) / (self.ended - self.began)

    @property
    def gaps(self) -> list[float]:
        """Seconds between one line with text and the next."""
        return [b - a for a, b in itertools.pairwise(self.times)]


class Client:
    """One endpoint.

    Args:
        label: its name in reports and errors.
        url: its base, with or without /v1.
        body: fields that are added to each request.
        timeout: seconds that it may be silent.
    """

    def __init__(self, label: str, url: str, body: dict[str, Any], timeout: float) -> None:
        self.label = label
        self.url = url.rstrip("/").removesuffix("/v1")
        self.model = ""
        self._body = body
        self._timeout = timeout
        # a new connection each time: one that idled may be closed by the endpoint at the moment of reuse
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(base_url=self.url, limits=limits, timeout=httpx.Timeout(timeout, connect=10), trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def find_model(self) -> None:
        """Set `model` to the first one that the endpoint lists.

        Raises:
            EndpointError: it does not answer, or lists none.
        """
        async with self._named_errors():
            response = await self._http.get("/v1/models", timeout=10)
            self._check(response.status_code, response.content)
            self.model = str(response.json()["data"][0]["id"])

    async def ask(self, messages: list[Message], tokens: int, answer: Answer | None = None, *, rated: bool = False) -> Answer:
        """Have a conversation answered with exactly so many tokens; cancelling it hangs up.

        Args:
            messages: the conversation.
            tokens: how many; the model's own end is ignored.
            answer: is filled while it arrives, for callers that look on.
            rated: its tokens a second will be asked for, so they may not all come at once.

        Raises:
            EndpointError: no answer, an error, no usage, fewer tokens than asked, or all of them at once though `rated`.
        """
        answer = answer or Answer()
        body = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            **self._body,
        }
        answer.sent = time.perf_counter()
        async with self._named_errors(), self._http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                self._check(response.status_code, await response.aread())
            rest = b""
            async for part in response.aiter_bytes():  # not aiter_lines, to which a U+2028 in a text ends a line as well
                now = time.perf_counter()
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    self._read(line.rstrip(b"\r"), now, answer)
        self._check_whole(answer, tokens)
        if rated and answer.ended <= answer.began:
            raise EndpointError(f"{self._name} sent {answer.tokens} tokens at once or without text: it does not stream")
        return answer

    def _read(self, line: bytes, now: float, answer: Answer) -> None:
        if not line.startswith(b"data:") or line.endswith(b"[DONE]"):
            return
        event = json.loads(line[5:])
        if "error" in event:
            raise EndpointError(f"{self._name} broke an answer off: {_sentence(event)}")
        for choice in event.get("choices") or []:
            delta = choice.get("delta") or {}
            content, thinking = delta.get("content") or "", delta.get("reasoning_content") or ""
            if content or thinking:
                answer.times.append(now)
                answer.content += content
                answer.thinking += thinking
            if choice.get("finish_reason"):
                answer.ended, answer.reason = now, choice["finish_reason"]
        if usage := event.get("usage"):
            answer.tokens = usage["completion_tokens"]
            answer.prompt_tokens = usage["prompt_tokens"]
        if timings := event.get("timings"):  # Cloister's in seconds, llama-server's in milliseconds
            answer.told = float(timings.get("decode_seconds") or timings.get("predicted_ms", 0) / 1000)

    def _check_whole(self, answer: Answer, tokens: int) -> None:
        if answer.reason is None:
            raise EndpointError(f"{self._name} ended an answer without a finish reason, after {len(answer.times)} pieces of text")
        if not answer.tokens:
            raise EndpointError(f"{self._name} sent no usage with its answer, so its tokens can't be counted")
        if answer.tokens < tokens:
            raise EndpointError(f"{self._name} answered {answer.tokens} of {tokens} tokens asked for (finish_reason {answer.reason})")

    @property
    def _name(self) -> str:
        return f"{self.label} ({self.url})"

    def _check(self, status: int, content: bytes) -> None:
        if status != 200:
            try:
                sentence = _sentence(json.loads(content))
            except ValueError:
                sentence = content[:200].decode(errors="replace")
            raise EndpointError(f"{self._name} answered with status {status}: {sentence}")

    @asynccontextmanager
    async def _named_errors(self) -> AsyncIterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise EndpointError(f"{self._name} was silent for {self._timeout:g} s ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            raise EndpointError(f"{self._name} does not answer: {type(error).__name__} {error}".rstrip()) from error
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise EndpointError(f"{self._name} does not speak OpenAI's dialect: {type(error).__name__} {error}") from error


def _sentence(event: Any) -> str:
    error = event.get("error", event) if isinstance(event, dict) else event
    return str(error.get("message", error) if isinstance(error, dict) else error)[:200]
