"""The API's side of the engine's socket: connects, reconnects for ever, and gives each request its own mailbox.

Knows the wire's messages, nothing of HTTP. When the engine dies, every open request gets an error at once.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from services.api import caller
from services.api.errors import ApiError, EngineFailed, TooLarge, Unavailable, from_engine
from services.shared import logs, wire

log = logging.getLogger("api")
STOPPING = "the API is being stopped or restarted: ask again in a moment"
RECONNECT = 0.25  # seconds between two tries
ANSWER_WITHIN = 5.0  # seconds for what the engine answers between two steps
MAX_UNREAD = 4096  # events of one answer that wait for a client who reads more slowly than the engine writes
MAX_UNREAD_SIZE = 4 << 20  # characters of these, roughly


@dataclass(frozen=True)
class Ended:
    """How a request of the engine came to its end. `key`: the name of the API key it was made with. `outcome`: Finished.reason,
    Failed.code, or cancelled. The numbers are as far as they were heard of."""

    key: str
    outcome: str
    prompt_tokens: int
    generated_tokens: int
    finished: wire.Finished | None


class Answer:
    """The events of one request, in order; ends after Finished or an error. Close it in any case: that cancels what still runs."""

    def __init__(self, client: EngineClient, request: str) -> None:
        self.request = request
        self.key = caller.current().key
        self.closed = False
        self._last: wire.Message | None = None
        self._prompt_tokens = self._generated = 0
        self._client = client
        self._mail: deque[wire.Message | ApiError] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False

    def put(self, event: wire.Message | ApiError) -> None:
        if self._mail and self._too_much():  # the engine stops, and the client gets what is there, and then the error
            self._client.cancel(self)
            self._generated = getattr(event, "tokens", 0)
            event = EngineFailed("the answer was given up because its client reads too slowly", code="slow_client")
        self._mail.append(event)
        _wake(self._waiter)

    def _too_much(self) -> bool:
        count = len(self._mail)
        return count >= MAX_UNREAD or (count % 64 == 0 and sum(map(_size, self._mail)) >= MAX_UNREAD_SIZE)

    async def event(self, within: float | None = None) -> wire.Message | None:
        """The next event, or None when there was none within so many seconds.

        Raises:
            ApiError: the engine refused, failed or died.
        """
        if not self._mail and not await self._arrival(within):
            return None
        event = self._last = self._mail.popleft()
        if isinstance(event, wire.Accepted):
            self._prompt_tokens = event.prompt_tokens
        if isinstance(event, wire.Failed):
            event = from_engine(event)
        if isinstance(event, ApiError):
            self._ended = True
            raise event
        self._ended = isinstance(event, wire.Finished)
        return event

    async def _arrival(self, within: float | None) -> bool:
        """Wait for mail. Not by asyncio.wait_for on a queue: that makes a task for each token, on cores that the model needs."""
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_later(within, _wake, waiter) if within is not None else None
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return bool(self._mail)

    def close(self) -> None:
        """Nobody waits for this answer any more."""
        self._client.close(self, cancel=not self._ended)

    def ended(self) -> Ended:
        """How it came to its end, as far as events arrived."""
        outcome, generated = "cancelled", self._generated
        match self._mail[-1] if self._mail else self._last:
            case wire.Finished() as done:
                return Ended(self.key, done.reason, done.prompt_tokens, done.generated_tokens, done)
            case wire.Failed(code=code):
                outcome = code
            case ApiError(code=reason):
                outcome = reason or "failed"
            case wire.Delta(tokens=tokens):
                generated = tokens
        return Ended(self.key, outcome, self._prompt_tokens, generated, None)


def _size(event: wire.Message | ApiError) -> int:
    """Characters that an event holds, and what its logprobs take beside."""
    return len(event.text) + 100 * sum(1 + len(top) for _, _, top in event.logprobs) if isinstance(event, wire.Delta) else 0


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class EngineClient:
    """A connection to the engine that is kept up. `hello` is None while there is none; `on_hello` is told of each new engine first."""

    def __init__(self, path: Path, on_hello: Callable[[wire.Hello], Awaitable[None]]) -> None:
        self.hello: wire.Hello | None = None
        self._path = path
        self._on_hello = on_hello
        self._writer: asyncio.StreamWriter | None = None
        self._given_up = False
        self._answers: dict[str, Answer] = {}
        self._numbers = itertools.count(1)
        self.on_ended: Callable[[Ended], None] = lambda ended: None  # told of every answer when it is closed

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        while True:
            try:
                await self._converse()
            except OSError:
                pass  # nobody listens yet
            except Exception as error:
                log.error("talking to the engine failed %s", logs.facts(reason=type(error).__name__))
            await asyncio.sleep(RECONNECT)

    async def _converse(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(self._path)
        decoder, began = wire.Decoder(), time.monotonic()
        try:
            while data := await reader.read(1 << 16):
                for message in decoder.feed(data):
                    await self._take(message)
        except (wire.WireError, ConnectionError) as error:
            log.warning("engine connection broke %s", logs.facts(reason=f'"{error}"'))
        finally:
            if self.hello:
                log.warning("engine gone %s", logs.facts(after=f"{time.monotonic() - began:.1f}s", open_requests=len(self._answers)))
            self.hello = None
            self._writer.close()
            self._writer = None
            self._fail(EngineFailed, "the engine stopped in the middle of this answer and is being restarted: ask again in a moment")

    async def _take(self, message: wire.Message) -> None:
        if isinstance(message, wire.Hello):
            await self._on_hello(message)
            self.hello = message
            log.info("engine connected %s", logs.facts(model=Path(message.model).parent.name, context=message.context))
        elif answer := self._answers.get(message.id):
            answer.put(message)

    def _fail(self, error: type[ApiError], message: str) -> None:
        """End every open request with such an error."""
        for answer in list(self._answers.values()):
            answer.put(error(message))

    def give_up(self) -> None:
        """End every open request, and every one that comes, with an error that says why."""
        self._given_up = True
        self._fail(Unavailable, STOPPING)

    def generate(self, request: wire.Generate) -> Answer:
        """Send a request; the answer's first event is Accepted or an error.

        Raises:
            Unavailable: there is no engine now.
            TooLarge: the prompt is longer than any message may be.
        """
        answer = self._ask(request)
        caller.current().asked.append(request.id)
        return answer

    async def count(self, prompt: tuple[wire.Part, ...]) -> int:
        """Tokens of a prompt."""
        return int((await self._once(wire.Count(self.new_id(), prompt))).tokens)

    def prepare(self, prompt: tuple[wire.Part, ...], adapter: str) -> None:
        """Say that a prompt which begins like this is likely to come. Nothing is answered, and nothing happens without an engine."""
        data = wire.encode(wire.Prepare(self.new_id(), prompt, adapter))
        if self._writer is not None and len(data) <= wire.MAX_MESSAGE:
            self._writer.write(data)

    async def observe(self) -> wire.Observed:
        """The engine's load now."""
        observed: wire.Observed = await self._once(wire.Observe(self.new_id()))
        return observed

    def new_id(self) -> str:
        """An id for a request, unique on this connection."""
        return f"r{next(self._numbers)}"

    async def _once(self, message: wire.Message) -> wire.Message:
        answer = self._ask(message)
        try:
            event = await answer.event(ANSWER_WITHIN)
        finally:
            self._forget(answer)
        if event is None:
            raise Unavailable("the engine does not answer: it is busy or stuck; try again in a moment")
        return event

    def _ask(self, message: wire.Message) -> Answer:
        if self._given_up:
            raise Unavailable(STOPPING)
        if self.hello is None or self._writer is None:
            raise Unavailable("the model is not ready yet: see /v1/status for what is under way")
        data = wire.encode(message)
        if len(data) > wire.MAX_MESSAGE:
            raise TooLarge(f"the prompt makes a message of {len(data)} bytes for the engine, which takes at most {wire.MAX_MESSAGE}")
        answer = self._answers[message.id] = Answer(self, message.id)
        self._writer.write(data)
        return answer

    def close(self, answer: Answer, *, cancel: bool) -> None:
        """The end of an answer: drop its mailbox; with `cancel`, tell the engine to stop working on it."""
        if cancel:
            self.cancel(answer)
        self._forget(answer)
        if not answer.closed:
            answer.closed = True
            self.on_ended(answer.ended())

    def cancel(self, answer: Answer) -> None:
        """Tell the engine to stop working on it; nothing more of it is delivered."""
        if self._forget(answer) and self._writer is not None:
            self._writer.write(wire.encode(wire.Cancel(answer.request)))

    def _forget(self, answer: Answer) -> bool:
        """Drop a request's mailbox; whether there was one."""
        return self._answers.pop(answer.request, None) is not None
