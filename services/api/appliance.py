"""The appliance as the dialects see it: the engine behind it, the model it serves, and what state it is in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from services.api import bounds, status, tools
from services.api.completion import Completion
from services.api.conversation import Conversation, Message, ToolCall, Wanted
from services.api.engine import Answer, EngineClient
from services.api.errors import ApiError, EngineFailed, Unavailable
from services.api.model import ServedModel
from services.api.prompt import Prompt
from services.api.reasoning import ReasoningSplitter
from services.api.screen import Screen
from services.shared import VERSION, hardware, progress, wire
from services.shared.settings import Settings

log = logging.getLogger("api")
SAY_WITHIN = 0.5  # seconds; who asks whether there is room does not wait
ACCEPT_WITHIN = 60.0  # seconds; a long prompt takes a few to tokenize, and waits for others


class Appliance:
    """One engine, one model."""

    def __init__(self, config: Settings, screen: Screen) -> None:
        self._config = config
        self._screen = screen
        self.strict = config.api.strict  # unknown fields are refused
        self.engine = EngineClient(config.paths.socket, self._on_hello)
        self.leaving = False  # it is about to stop, and shall be sent nothing new
        self._model: ServedModel | None = None
        self._broken: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._machine = hardware.machine()
        self._started = time.time()
        self._engines: set[float] = set()  # when those that were met so far had started

    async def _on_hello(self, hello: wire.Hello) -> None:
        await self._let_go()
        self._engines.add(hello.started)
        self._broken = None
        try:
            self._model = await ServedModel.load(hello)
        except (ApiError, OSError, ValueError) as error:  # ManifestError is a ValueError
            self._broken = str(error)
            log.error("the loaded model can't be served: %s", error)

    async def _let_go(self) -> None:
        model, self._model = self._model, None
        if model is not None:
            await model.close()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep up the connection to the engine in here."""
        connection = asyncio.create_task(self.engine.run())
        try:
            yield
        finally:
            connection.cancel()
            await asyncio.wait([connection])
            await self._let_go()
            await self._screen.close()

    def leave(self) -> None:
        """From now on say that nothing more shall be sent here."""
        self.leaving = True

    def give_up(self) -> None:
        """End what is under way with an error that says why."""
        self.engine.give_up()

    def model(self) -> ServedModel:
        """The model that answers now.

        Raises:
            Unavailable: none is ready; the message says what is under way.
        """
        if self.engine.hello is None or self._model is None:
            raise Unavailable(self._reason())
        return self._model

    def _reason(self) -> str:
        state, now = self.state(), self.progress()
        if self._broken:
            return self._broken
        if state == "preparing" and now:
            share = f", {100 * now.done // now.total} %" if now.total else ""
            return f"the model is being prepared (step {now.step}{share}): try again later, see /v1/status"
        if state == "failed" and now:
            return f"the model could not be prepared: {now.error}"
        return "the model is being loaded: try again in a moment"

    def progress(self) -> progress.Progress | None:
        """What init did last, or does now."""
        return progress.read(self._config.paths.progress)

    def state(self) -> str:
        """preparing, loading, ready or failed."""
        if self.engine.hello is not None and self._model is not None:
            return "ready"
        if self._broken:
            return "failed"
        now = self.progress()
        if now is not None and now.state in ("running", "failed"):
            return "preparing" if now.state == "running" else "failed"
        return "loading"

    async def complete(self, conversation: Conversation, wanted: Wanted) -> Completion:
        """Send a conversation to the engine; returns once it is accepted.

        Raises:
            ApiError: another model, the screening list or the template refuses, a prompt that does not fit, a full queue, no engine.
        """
        (completion,) = await self.complete_several(conversation, wanted, 1)
        return completion

    async def complete_several(self, conversation: Conversation, wanted: Wanted, count: int) -> list[Completion]:
        """So many answers to one conversation; with a seed, the following ones have the following seeds. Raises as `complete` does."""
        model = self.model()
        adapter = model.accept(wanted.model)
        bounds.check_conversation(conversation)
        bounds.check_wishes(wanted)
        await self._screen.check(conversation)
        if wanted.thought_limit == 0:
            conversation = replace(conversation, thinking=False)
        form = model.calls(conversation)
        prompt = await model.render(conversation)
        if form is not None:
            wanted = tools.bound(form, conversation, wanted)
        if conversation.thinking is False:
            wanted = replace(wanted, thought_limit=0)  # also where the template opens a thought all the same, or the model does
        may_think = not prompt.in_thought and conversation.thinking is not False and not conversation.begun
        kept = () if form is None else (form.start, form.end)

        async def one(number: int) -> Completion:
            answer = await self._send(prompt, _reseeded(wanted, number), adapter, may_think)
            splitter = ReasoningSplitter(in_thought=prompt.in_thought, by_token=model.by_token, kept=kept, begun=conversation.unfinished)
            reader = None if form is None else tools.reader(form, conversation)

            def answered(text: str, calls: Sequence[ToolCall]) -> None:
                if number == 0:
                    self._expect(conversation, Message("assistant", conversation.begun + text, tuple(calls)), adapter)

            return Completion(answer, splitter, answered, reader)

        return await _all(one(number) for number in range(count))

    async def complete_text(self, text: str, wanted: Wanted) -> Completion:
        """Let the model go on with a text, without its template: none of it is read as control tokens. Raises as `complete` does."""
        (completion,) = await self.complete_text_several(text, wanted, 1)
        return completion

    async def complete_text_several(self, text: str, wanted: Wanted, count: int) -> list[Completion]:
        """So many continuations of one text."""
        model = self.model()
        adapter = model.accept(wanted.model)
        bounds.check_wishes(wanted)
        await self._screen.check_texts([text])
        prompt = Prompt(tuple(part for part in ((True, model.bos), (False, text)) if part[1]), False)

        async def one(number: int) -> Completion:
            answer = await self._send(prompt, _reseeded(wanted, number), adapter)
            return Completion(answer, ReasoningSplitter(in_thought=False, by_token=True, trim=False), lambda text, calls: None)

        return await _all(one(number) for number in range(count))

    async def count(self, conversation: Conversation) -> int:
        """Tokens of the prompt that a conversation becomes.

        Raises:
            ApiError: a template that refuses, no engine.
        """
        model = self.model()
        bounds.check_conversation(conversation)
        model.calls(conversation)
        return await self.engine.count((await model.render(conversation)).parts)

    async def _send(self, prompt: Prompt, wanted: Wanted, adapter: str, may_think: bool = False) -> Answer:
        """Send a prompt and wait until it is accepted."""
        model = self.model()
        request = wire.Generate(
            self.engine.new_id(),
            prompt.parts,
            model.sampling(wanted),
            max_tokens=min(wanted.max_tokens or self._config.api.max_tokens, model.context),
            stop=wanted.stop,
            ignore_eos=wanted.ignore_eos,
            in_thought=prompt.in_thought,
            may_think=may_think,
            thought_limit=wanted.thought_limit,
            user=wanted.user,
            adapter=adapter,
            seconds=wanted.seconds,
        )
        answer = self.engine.generate(request)
        try:
            if await answer.event(ACCEPT_WITHIN) is None:
                raise EngineFailed("the engine has not answered for a minute: it is stuck")
        except BaseException:
            answer.close()
            raise
        return answer

    def _expect(self, conversation: Conversation, answer: Message, adapter: str) -> None:
        """The conversation will probably go on: let the engine read what the next prompt will begin with, in its idle time."""
        follows = Message("tool", "?", call_id=answer.calls[0].id) if answer.calls else Message("user", "?")
        messages = (*conversation.before(), answer, follows)
        task = asyncio.create_task(self._prepare(replace(conversation, messages=messages, unfinished=False), adapter))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self, conversation: Conversation, adapter: str) -> None:
        with contextlib.suppress(ApiError):  # a template may refuse what is only a guess
            self.engine.prepare((await self.model().render(conversation)).beginning(), adapter)

    async def status(self) -> dict[str, Any]:
        """Everything /v1/status tells."""
        now = self.progress()
        load = await self._load()
        model = self._model
        return {
            "state": self.state(),
            "notice": now.notice if now and (model is None or now.model == model.manifest.name) else None,  # not of another model
            "error": self._broken or (now.error if now and self.state() == "failed" else None),
            "progress": status.preparation(now) if now else None,
            "model": status.model(model, self._config.api.max_tokens) if model and self.engine.hello else None,
            "engine": load,
            "machine": status.machine(self._machine),
            "isolation": status.walls(self._config.paths.run),
            "since": status.when(self._started),
            "version": VERSION,
        }

    async def has_room(self) -> bool:
        """Whether a request would begin at once. An engine that is too busy to say so has none."""
        try:
            async with asyncio.timeout(SAY_WITHIN):
                return (await self.engine.observe()).waiting == 0
        except (ApiError, TimeoutError):
            return False

    async def _load(self) -> dict[str, Any] | None:
        """What the engine says of itself; None when there is none or it does not answer."""
        hello = self.engine.hello
        if hello is None or self._model is None:
            return None
        try:
            seen = await self.engine.observe()
        except ApiError:
            return None
        return status.engine(hello, seen, wanted=self._config.engine.threads, restarts=len(self._engines) - 1)


def _reseeded(wanted: Wanted, number: int) -> Wanted:
    """For the answer of this number; without a seed, each has a random one anyway."""
    seed = wanted.sampling.get("seed")
    return wanted if seed is None or not number else replace(wanted, sampling={**wanted.sampling, "seed": seed + number})


async def _all(starts: Iterable[Awaitable[Completion]]) -> list[Completion]:
    """Start one after the other; when one is refused, the others are closed."""
    started: list[Completion] = []
    try:
        for start in starts:
            started.append(await start)
    except BaseException:
        for completion in started:
            completion.close()
        raise
    return started
