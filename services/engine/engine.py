"""The engine's loop: step() = admit → schedule → decode → sample → deliver.

Runs in one thread that does nothing else. Knows the model only as `Model`, so a scripted one drives it in tests; knows nothing
of sockets: what happens is given to `emit` as messages of services.shared.wire.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

from services.engine.admission import Admission, Answerer
from services.engine.delivery import THINK_END, Delivery, Emit, Speech, request_id
from services.engine.kv import KVCache, Memory
from services.engine.scheduler import Chunk, Scheduler
from services.engine.sequence import Logprobs, NoSampler, SamplingError, Sequence
from services.engine.speculation import Speculation
from services.engine.store import Store
from services.engine.text import TextStream
from services.engine.tokens import Tokenizer, Vocabulary
from services.shared import logs, wire

log = logging.getLogger("engine")
RATE_WINDOW = 5.0  # seconds over which tokens a second are averaged
MAX_ABORTED = 3  # steps in a row that a cancel may cut short when others compute in them too: their work is lost each time


class Aborted(Exception):
    """A decode was cancelled from outside; the state of the model is as before it."""


class Model(Memory, Speech, Answerer, Protocol):
    """What the loop needs of a model."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    def decode(self, chunks: list[Chunk]) -> list[list[int]]:
        """Compute the chunks, all of one adapter, in one batch; for each the logits rows of its last token and its guesses,
        none where more of it is pending.

        Raises:
            Aborted: nothing was computed.
        """
        ...


class Engine:
    """Requests in, messages out. `context` is the most tokens that one sequence may have; `sequences` may run at once, and the
    model has more slots than that, in which the others are remembered; `store` bytes are kept of what the cache has no room for."""

    def __init__(
        self,
        model: Model,
        *,
        context: int,
        cells: int,
        sequences: int,
        slots: int,
        step: int,
        queue: int,
        emit: Emit,
        store: int = 0,
        speculate: bool = True,
    ) -> None:
        self.kv = KVCache(model, cells, slots, sequences, Store(store))
        self.scheduler = Scheduler(self.kv, step=step, queue=queue, draft=self._draft)
        self.speculation = Speculation() if speculate else None
        self.prompt_tokens = self.generated_tokens = 0
        self.step_seconds = self.decode_seconds = 0.0  # in all steps, and in the model alone
        self.yielding = False  # the step under way is for no request: whoever comes may cut it short
        self.flush: Callable[[], None] = lambda: None  # called before a decode and after a step, when something may have been emitted
        self.called: Callable[[], bool] = lambda: False  # does somebody wait for the step to end?
        self._model = model
        self._tokenizer = Tokenizer(model.vocabulary)
        closing = [model.think_end] if model.think_end is not None else self._tokenizer.encode([(False, THINK_END)])
        self._delivery = Delivery(model, closing, emit)
        self._admission = Admission(model, self.scheduler, context)
        self._context = context
        self._emit = emit
        self._sequences: dict[Hashable, Sequence] = {}
        self._coming: set[Hashable] = set()  # accepted, but not submitted yet
        self._made: deque[float] = deque(maxlen=4096)  # when the latest tokens were made
        self._positions: dict[Hashable, int] = {}
        self._aborted = 0  # steps in a row

    def encode(self, prompt: tuple[wire.Part, ...]) -> list[int]:
        """Tokens of a prompt. From any thread: a megabyte can take seconds, in which the others go on."""
        return self._tokenizer.encode(prompt)

    def refusal(self, sampling: wire.Sampling) -> str | None:
        """Why nothing can be sampled so, or None. From any thread: a grammar can take a while, but only the first time."""
        return self._model.refusal(sampling)

    def accept(self, key: Hashable, request: wire.Generate, tokens: list[int]) -> bool:
        """Tell a request, whose prompt has these tokens, that it is accepted, or why not. `key` must be new; what is accepted must be
        submitted. From any one thread: who comes shall not wait for the step under way to hear it, which may take many seconds."""
        if failure := self._admission.refusal(request, tokens, len(self._coming)):
            self._emit(key, failure)
            return False
        self._coming.add(key)
        self._emit(key, wire.Accepted(request.id, len(tokens)))
        return True

    def submit(self, key: Hashable, request: wire.Generate, tokens: list[int]) -> None:
        """Put a request into the line; one that has not heard it yet is told whether it is accepted."""
        if key not in self._coming and not self.accept(key, request, tokens):
            return
        self._coming.discard(key)
        sequence = self._admission.sequence(key, request, tokens)
        if request.in_thought and request.thought_limit == 0:
            self._delivery.bound_thought(sequence, "budget")
        self._sequences[key] = sequence
        self.prompt_tokens += len(tokens)
        self.scheduler.add(sequence)

    def prepare(self, tokens: list[int], adapter: str = "") -> None:
        """Read these tokens when there is nothing else to do, so that a prompt which begins with them is answered sooner."""
        if 1 < len(tokens) <= self._context and (not adapter or adapter in self._model.adapters):
            self.scheduler.add(Sequence("", tokens, len(tokens), NoSampler(), TextStream(), adapter=adapter, background=True))

    def cancel(self, key: Hashable) -> None:
        """Forget a request; unknown ones are ignored, they may just have finished."""
        if sequence := self._sequences.get(key):
            log.info("cancelled %s", logs.facts(request=request_id(key), generated=sequence.generated))
            self._end(sequence)

    def interruptible(self, key: Hashable) -> bool:
        """From any thread: may the step under way be cut short when this request is cancelled?

        Not for one that does not compute, and not again and again while others do: they would never get on.
        """
        sequence = self._sequences.get(key)
        if sequence is None or sequence.slot is None:
            return False
        return self._aborted < MAX_ABORTED or len(self.scheduler.running) == 1

    def step(self) -> bool:
        """Compute one batch; False when there is nothing to do."""
        began, before = time.monotonic(), self.decode_seconds
        busy = self._step()
        if self.decode_seconds > before:
            self.step_seconds += time.monotonic() - began
        self.flush()
        return busy

    def _step(self) -> bool:
        self._expire()
        self.scheduler.admit()
        self._tell_positions()
        chunks = self.scheduler.schedule()
        if not chunks:
            chunks = self.scheduler.quiet()
            self.yielding = bool(chunks)
            if chunks and self.called():  # after `yielding` is set: whoever comes later sees it and cuts the step short
                self.yielding = False
                return True
        if not chunks:
            return False
        self.flush()
        began = time.monotonic()
        try:
            rows = self._model.decode(chunks)
        except Aborted:
            self._aborted += not self.yielding
            return True
        finally:
            self.yielding = False
        self._aborted = 0
        seconds = time.monotonic() - began
        self.decode_seconds += seconds
        self._learn(chunks, seconds)
        for chunk, outputs in zip(chunks, rows, strict=True):
            if chunk.last:
                self._write(chunk, outputs)
            else:
                self._read(chunk)
        return True

    def fail_all(self, code: str, message: str) -> None:
        """End everything that runs or waits."""
        for sequence in list(self._sequences.values()):
            self._fail(sequence, code, message)

    def rate(self) -> float:
        """Tokens a second generated for all, averaged over the last few seconds."""
        since = time.monotonic() - RATE_WINDOW
        return sum(at > since for at in tuple(self._made)) / RATE_WINDOW

    def _draft(self, sequence: Sequence, writers: int) -> tuple[int, ...]:
        """Guesses of what a sequence says next."""
        if self.speculation is None or sequence.forced:
            return ()
        most = min(sequence.limit - len(sequence.tokens) - 1, self.kv.slots // writers - 1)  # there are as many output rows as slots
        return tuple(self.speculation.guess(sequence, most, writers)) if most > 0 else ()

    def _learn(self, chunks: list[Chunk], seconds: float) -> None:
        if self.speculation and all(chunk.sequence.decoding for chunk in chunks):
            self.speculation.timed(seconds, len(chunks), sum(len(chunk.draft) for chunk in chunks))

    def _read(self, chunk: Chunk) -> None:
        self.scheduler.computed(chunk)
        s = chunk.sequence
        if not s.background:
            done = min(s.computed, s.prompt_length)
            self._emit(s.key, wire.Prefill(request_id(s.key), done, s.prompt_length, s.cached))

    def _write(self, chunk: Chunk, rows: list[int]) -> None:
        """Sample and deliver what follows the chunk's last token, and what follows each guess for as long as they are right."""
        sequence, right, reason, failure = chunk.sequence, -1, None, ""
        for row, guess in zip(rows, (*chunk.draft, None), strict=True):
            try:
                token, scores = self._sample(sequence, row)
            except SamplingError as error:
                failure = str(error)
                break
            right += 1
            self.generated_tokens += 1
            self._made.append(time.monotonic())
            reason = self._delivery.take(sequence, token, scores)
            if reason or token != guess:
                break
        right = max(right, 0)
        self.scheduler.computed(chunk, right)
        if right < len(chunk.draft):
            self._model.remove(chunk.slot, sequence.computed, -1)
        sequence.drafted += len(chunk.draft)
        sequence.accepted += right
        if self.speculation:
            self.speculation.learn(sequence, len(chunk.draft), right)
        if failure:
            self._fail(sequence, "invalid", failure)
        elif reason:
            self._finish(sequence, reason)

    def _sample(self, sequence: Sequence, row: int) -> tuple[int, Logprobs | None]:
        """The next token and, when they were asked for, its logprobs.

        Raises:
            SamplingError: there is none.
        """
        if sequence.forced:
            token = sequence.forced.popleft()
            sequence.sampler.accept(token)
            return token, None
        return sequence.sampler.sample(row), sequence.sampler.logprobs

    def _finish(self, sequence: Sequence, reason: str) -> None:
        done = self._delivery.finish(sequence, reason)
        self._end(sequence)
        self._emit(sequence.key, done)
        log.info(
            "finished %s",
            logs.facts(
                request=done.id,
                reason=reason,
                prompt=done.prompt_tokens,
                cached=done.cached_tokens,
                generated=done.generated_tokens,
                queue=f"{done.queue_seconds:.2f}s",
                prefill=f"{done.prefill_seconds:.2f}s",
                decode=f"{done.decode_seconds:.2f}s",
            ),
        )

    def _expire(self) -> None:
        """End what has had its time: with what it has written, or with a failure when that is nothing."""
        now = time.monotonic()
        for sequence in [s for s in self._sequences.values() if s.expires <= now]:
            if sequence.generated:
                self._finish(sequence, "deadline")
            else:
                text = f"no answer within the {sequence.expires - sequence.arrived:.0f} s that the request allowed"
                self._fail(sequence, "deadline", text)

    def _fail(self, sequence: Sequence, code: str, message: str) -> None:
        self._end(sequence)
        self._emit(sequence.key, wire.Failed(request_id(sequence.key), code, message))

    def _end(self, sequence: Sequence) -> None:
        self.scheduler.remove(sequence)
        sequence.sampler.close()
        del self._sequences[sequence.key]
        self._positions.pop(sequence.key, None)
        self._admission.ended()
        if self.speculation:
            self.speculation.forget(sequence)

    def _tell_positions(self) -> None:
        """Say to those who wait where they stand, when it has changed."""
        positions = {s.key: at for at, s in enumerate(self.scheduler.waiting, 1)}
        for key, at in positions.items():
            if self._positions.get(key) != at:
                self._emit(key, wire.Queued(request_id(key), at))
        self._positions = positions
