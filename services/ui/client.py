"""The API as the page and the terminal see it: a status, and an answer as typed events.

Owns the dialect (OpenAI's, with Cloister's progress chunks) and what can go wrong on the way. Knows nothing of pages.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from services.shared.progress import Progress
from services.ui.told import Told

State = Literal["starting", "preparing", "loading", "ready", "failed"]
STATES: tuple[State, ...] = ("starting", "preparing", "loading", "ready", "failed")

# The API sends a comment or a progress chunk every few seconds while it works; this long without a byte means that it hangs.
SILENCE = 120.0


@dataclass(frozen=True)
class Model:
    """The model in use. `context` is the tokens that one conversation may hold; `kind` is hub, folder, gguf or demo."""

    name: str
    title: str
    quant: str
    context: int
    kind: str


@dataclass(frozen=True)
class Status:
    """How the API is. `starting` stands for an API that does not answer yet. `told`: all that it told."""

    state: State
    progress: Progress | None = None
    model: Model | None = None
    notice: str | None = None
    told: Told = field(default_factory=Told, compare=False)


@dataclass(frozen=True)
class Queued:
    """The question waits; `position` 1 is next."""

    position: int


@dataclass(frozen=True)
class Reading:
    """`done` of `total` tokens of the question and what came before are read."""

    done: int
    total: int


@dataclass(frozen=True)
class Thought:
    """More of the thinking."""

    text: str


@dataclass(frozen=True)
class Answer:
    """More of the answer."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The answer is complete, or was cut because there was no room left."""

    reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    tokens_per_second: float | None
    thought_tokens: int = 0

    @property
    def kept_tokens(self) -> int:
        """What the conversation takes of the context from now on: thoughts are not told again."""
        return self.prompt_tokens + self.completion_tokens - self.thought_tokens


Event = Queued | Reading | Thought | Answer | Finished


class ApiError(Exception):
    """No (more) answer.

    `code` is the API's, or one of ours: unreachable, silent, broken, http_<status>. `retry_after` is seconds, where another
    try makes sense.
    """

    def __init__(self, code: str, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.retry_after = code, message, status, retry_after


class Client:
    """One API. Use it as an asynchronous context manager, or close it."""

    def __init__(self, url: str, *, key: str = "", silence: float = SILENCE) -> None:
        self.url = url.rstrip("/")
        # No proxy of the environment stands between this and the API beside it.
        self._http = httpx.AsyncClient(
            base_url=self.url,
            trust_env=False,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(5, read=silence, write=30),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def status(self) -> Status:
        """How the API is; never raises: an API that is not there, or talks nonsense, is `starting`."""
        try:
            response = await self._http.get("/v1/status", timeout=3)
            return _status(response.json())
        except (httpx.HTTPError, ValueError, TypeError, KeyError, AttributeError):
            return Status("starting")

    async def count(self, messages: Sequence[dict[str, str]]) -> int:
        """How many tokens the prompt has that these messages become.

        Raises:
            ApiError: no model, or too much to count.
        """
        with self._understood():
            response = await self._http.post("/v1/messages/count_tokens", json={"model": "default", "messages": list(messages)})
            if response.status_code != 200:
                raise _refusal(response)
            return int(response.json()["input_tokens"])

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """What goes wrong on the way becomes an ApiError."""
        try:
            yield
        except httpx.ConnectError:
            raise ApiError("unreachable", f"nothing answers at {self.url}") from None
        except httpx.TimeoutException:
            raise ApiError("silent", f"{self.url} has not sent anything for a long time") from None
        except httpx.HTTPError as error:
            raise ApiError("broken", f"the connection broke: {type(error).__name__}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ApiError("broken", f"the answer can't be read: {type(error).__name__}") from None

    async def stream(
        self, messages: Sequence[dict[str, str]], *, visitor: str = "", go_on: bool = False, fields: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Event, None]:
        """Ask for an answer. `messages` are OpenAI's, oldest first; `visitor` tells those who share this page apart, so that the waiting
        line is fair between them. With `go_on` the last message is the model's own and unfinished: only what follows it comes. `fields` are
        others of the request. Closing the generator cancels the answer.

        Raises:
            ApiError: before or in the midst of the answer.
        """
        body = {
            **(fields or {}),
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True, "include_progress": True},
            "user": visitor,
        }
        if go_on:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        reason: Literal["stop", "length"] | None = None
        finished = False
        with self._understood():
            async with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _refusal(response)
                async with contextlib.aclosing(_data(response)) as chunks:
                    async for data in chunks:
                        if data == "[DONE]":
                            if reason is None:
                                break
                            if not finished:
                                yield Finished(reason, 0, 0, None)
                            return
                        chunk = json.loads(data)
                        if error := chunk.get("error"):
                            raise ApiError(error.get("code") or "broken", error.get("message") or "")
                        if usage := chunk.get("usage"):
                            speed = (chunk.get("timings") or {}).get("tokens_per_second")
                            thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
                            finished = True
                            yield Finished(reason or "stop", usage["prompt_tokens"], usage["completion_tokens"], speed, thought)
                        if event := _progress(chunk.get("progress")):
                            yield event
                        for choice in chunk.get("choices") or ():
                            delta = choice.get("delta") or {}
                            if text := delta.get("reasoning_content"):
                                yield Thought(text)
                            if text := delta.get("content"):
                                yield Answer(text)
                            if choice.get("finish_reason"):
                                reason = "length" if choice["finish_reason"] == "length" else "stop"
        raise ApiError("broken", "the answer ended in the middle")


async def _data(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The `data:` fields of a stream of server-sent events; comments are dropped.

    Split at newlines only: httpx's own line iterator also cuts at U+2028 and its kin, which JSON may carry as they are.
    """
    rest = b""
    async with contextlib.aclosing(_bytes(response)) as parts:
        async for part in parts:
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    yield line[5:].strip().decode("utf-8")


async def _bytes(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    parts: AsyncIterator[bytes] = response.aiter_bytes()
    async for part in parts:
        yield part


def _refusal(response: httpx.Response) -> ApiError:
    """The error of an answer that never began."""
    try:
        error = response.json()["error"]
        code, message = error.get("code") or f"http_{response.status_code}", error.get("message") or ""
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = f"http_{response.status_code}", f"HTTP status {response.status_code}"
    try:
        retry_after = float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        retry_after = None
    return ApiError(code, message, status=response.status_code, retry_after=retry_after)


def _progress(progress: dict[str, Any] | None) -> Event | None:
    match (progress or {}).get("state"):
        case "queued":
            return Queued(int(progress["position"]))  # type: ignore[index]
        case "prefill":
            return Reading(int(progress["done"]), int(progress["total"]))  # type: ignore[index]
        case _:
            return None


def _status(data: dict[str, Any]) -> Status:
    if data["state"] not in STATES:
        raise ValueError(data["state"])
    progress = model = None
    if found := data.get("progress"):
        known = {field.name for field in dataclasses.fields(Progress)}
        progress = Progress(**{key: value for key, value in found.items() if key in known})
    if found := data.get("model"):
        kind = (found.get("source") or {}).get("kind") or ""
        model = Model(found["name"], found.get("title") or found["name"], found["quant"], int(found.get("context") or 0), kind)
    return Status(data["state"], progress, model, data.get("notice"), Told(data))
