"""An answer on its way: the model's events become a conversation that grows, a few times a second.

Owns waiting for a model that is not ready, the clock of the thinking, stopping, and what is kept when something breaks.
Keeps no text once an answer has ended; knows nothing of Gradio or of languages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from services.shared import logs
from services.ui.choices import OWN, Choices
from services.ui.client import Answer, ApiError, Client, Event, Finished, Queued, Reading, Status, Thought
from services.ui.conversation import Conversation, Stage, Turn

log = logging.getLogger("ui")

# How often a growing answer is shown, in seconds: each showing costs the visitor's browser and this machine some work.
PACE = 0.12
TICK = 1.0

# How long a question waits for an API that refuses connections, and for a model that is not ready, in seconds.
UNREACHABLE_PATIENCE = 60.0
UNREADY_PATIENCE = 4 * 3600.0


class Running:
    """One answer on its way, and the handle to end it before its time."""

    def __init__(self) -> None:
        self.finished = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stage: Stage | None = None

    def stop(self, stage: Stage | None = "stopped") -> None:
        """End the answer; what is there is kept, and shown at that stage. None: nobody wants to see it any more."""
        self._stage = stage
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    @property
    def stage(self) -> Stage | None:
        """The stage that the answer was stopped at."""
        return self._stage

    async def until_stopped(self) -> None:
        await self._stopped.wait()


class Chat:
    """The answers that are on their way, one a visitor's session at most."""

    def __init__(self, client: Client, status: Callable[[], Awaitable[Status]]) -> None:
        self._client, self._status = client, status
        self._running: dict[str, Running] = {}

    def running(self, session: str) -> Running | None:
        """The session's answer on its way, if any."""
        return self._running.get(session)

    def end(self) -> None:
        """The page is about to end: so do all answers, and the visitors see it."""
        for running in self._running.values():
            running.stop("lost")

    async def answer(
        self, session: str, conversation: Conversation, choices: Choices = OWN, *, go_on: bool = False
    ) -> AsyncGenerator[Conversation, None]:
        """Answer the last question, or go on with what there is of its answer. The conversation is yielded each time there is
        something new to show; the last time, its last turn is no longer under way (unless the answer was discarded). Errors end up
        in the turn."""
        turn, running = conversation.turns[-1], Running()
        teller = _Teller(turn)
        self._running[session] = running
        began, outcome = time.monotonic(), "gone"
        try:
            async with contextlib.aclosing(_paced(self._tell(session, conversation, choices, teller, go_on), running)) as moments:
                async for _ in moments:
                    if not running.stopped:
                        teller.tick()
                        yield conversation
            if not running.stopped:
                outcome = turn.stage
                yield conversation
            elif running.stage:
                outcome = turn.stage = running.stage
                teller.settle()
                yield conversation
        except ApiError as error:
            turn.stage, turn.error, turn.detail = "failed", error.code, error.message
            outcome = error.code
            teller.settle()
            yield conversation
        finally:
            del self._running[session]
            running.finished.set()
            seconds = round(time.monotonic() - began, 1)
            log.info("answer %s", logs.facts(outcome=outcome, turns=len(conversation.turns), seconds=seconds))

    async def _tell(
        self, session: str, conversation: Conversation, choices: Choices, teller: _Teller, go_on: bool
    ) -> AsyncGenerator[None, None]:
        """Let the events tell the last turn; yields after each of them."""
        said = [*conversation.messages(), *([conversation.so_far()] if go_on else [])]
        messages, fields = choices.messages(said), choices.fields()
        while True:
            try:
                async with contextlib.aclosing(self._client.stream(messages, visitor=session, go_on=go_on, fields=fields)) as events:
                    async for event in events:
                        teller.tell(event)
                        yield
                return
            except ApiError as error:
                if teller.spoken or not await self._worth_waiting(error, teller.waited):
                    raise
                teller.wait()
                yield
                await asyncio.sleep(min(max(error.retry_after or 1.0, 0.5), 5.0))

    async def _worth_waiting(self, error: ApiError, waited: float) -> bool:
        """The model may still come."""
        if error.code == "unreachable":
            return waited < UNREACHABLE_PATIENCE
        return error.status == 503 and waited < UNREADY_PATIENCE and (await self._status()).state != "failed"


class _Teller:
    """Writes events into a turn, with the times and the speed that they imply."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._began, self._before = time.monotonic(), turn.seconds  # of an answer that goes on
        self._first: float | None = None
        self._deltas = self._thoughts = self._prompt = 0

    @property
    def spoken(self) -> bool:
        """Something of the answer is there."""
        return self._first is not None

    @property
    def waited(self) -> float:
        """Seconds since the question."""
        return time.monotonic() - self._began

    def wait(self) -> None:
        """The model is not ready."""
        self._turn.stage = "waiting"
        self.tick()

    def tick(self) -> None:
        """Let the turn's clock run on."""
        if self._turn.stage == "waiting":
            self._turn.seconds = self.waited
        elif self._turn.stage == "thinking" and self._first is not None:
            self._turn.seconds = self._before + time.monotonic() - self._first

    def tell(self, event: Event) -> None:
        """Write one event down."""
        turn = self._turn
        match event:
            case Queued(position):
                turn.stage, turn.number = "queued", position
            case Reading(done, total):
                turn.stage, turn.number = "reading", 100 * done // max(total, 1)
                self._prompt = total
            case Thought(text):
                self._count()
                self._thoughts += 1
                turn.stage, turn.thought = "thinking", turn.thought + text
                self.tick()
            case Answer(text):
                self._count()
                self.tick()
                turn.stage, turn.answer = "answering", turn.answer + text
            case Finished(reason):
                turn.stage = "cut" if reason == "length" else "done"
                turn.speed = event.tokens_per_second or turn.speed
                turn.tokens = event.kept_tokens

    def settle(self) -> None:
        """It ended before the API told how much of the context the conversation takes: without the thought, like any."""
        if self._prompt:
            self._turn.tokens = self._prompt + self._deltas - self._thoughts

    def _count(self) -> None:
        """The speed and the fullness while it goes: the API sends about one delta a token."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._turn.seconds = now, self._before
        self._deltas += 1
        if self._prompt:
            self._turn.tokens = self._prompt + self._deltas
        if (elapsed := now - self._first) >= 1:
            self._turn.speed = self._deltas / elapsed


async def _paced(moments: AsyncGenerator[None, None], running: Running) -> AsyncGenerator[None, None]:
    """At most one moment each PACE, at least one each TICK; ends early when the answer is stopped."""
    news = asyncio.Event()

    async def pump() -> None:
        async for _ in moments:
            news.set()

    pumping = asyncio.ensure_future(pump())
    stopping = asyncio.ensure_future(running.until_stopped())
    try:
        while not pumping.done() and not stopping.done():
            waiting = asyncio.ensure_future(news.wait())
            await asyncio.wait((pumping, stopping, waiting), timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            news.clear()
            yield
            await asyncio.wait((pumping, stopping), timeout=PACE, return_when=asyncio.FIRST_COMPLETED)
        if not running.stopped:
            pumping.result()
    finally:
        stopping.cancel()
        pumping.cancel()
        await asyncio.gather(pumping, stopping, return_exceptions=True)
