"""The engine's loop: step() = admit → schedule → decode → sample → deliver.

Runs in one thread that does nothing else. Knows the model only as `Model`, so a scripted one drives it in tests; knows nothing
of sockets: what happens is given to `emit` as messages of services.shared.wire.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable
from typing import Protocol

from services.engine.kv import KVCache, Memory
from services.engine.scheduler import Chunk, Scheduler
from services.engine.sequence import Sampler, SamplingError, Sequence
from services.engine.text import TextStream
from services.engine.tokens import Tokenizer, Vocabulary
from services.shared import logs, wire

log = logging.getLogger("engine")
RATE_WINDOW = 5.0  # seconds over which tokens a second are averaged
MAX_ABORTED = 3  # steps in a row that a cancel may cut short when others compute in them too: their work is lost each time
THINK_END = "</think>"  # what ends a thought where the vocabulary has no token for it


class Aborted(Exception):
    """A decode was cancelled from outside; the state of the model is as before it."""


class Model(Memory, Protocol):
    """What the loop needs of a model."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def ends(self) -> Collection[int]:
        """Tokens that end an answer."""
        ...

    @property
    def think_start(self) -> int | None: ...

    @property
    def think_end(self) -> int | None: ...

    def decode(self, chunks: list[Chunk]) -> list[int]:
        """Compute the chunks in one batch; for each chunk the logits row of its last token, -1 where it is not `last`.

        Raises:
            Aborted: nothing was computed.
        """
        ...

    def refusal(self, sampling: wire.Sampling) -> str | None:
        """Why it can't sample so, or None. From any thread."""
        ...

    def sampler(self, sampling: wire.Sampling) -> Sampler: ...

    def piece(self, token: int) -> bytes:
        """The bytes of a token's text; may be part of a character."""
        ...

    def special(self, token: int) -> bool:
        """Is it a control or thinking token rather than text?"""
        ...


Emit = Callable[[Hashable, wire.Message], None]


class Engine:
    """Requests in, messages out. `context` is the most tokens that one sequence may have."""

    def __init__(self, model: Model, *, context: int, cells: int, sequences: int, step: int, queue: int, emit: Emit) -> None:
        self.kv = KVCache(model, cells, sequences)
        self.scheduler = Scheduler(self.kv, step=step, queue=queue)
        self.prompt_tokens = self.generated_tokens = 0
        self._model = model
        self._tokenizer = Tokenizer(model.vocabulary)
        self._context = context
        self._emit = emit
        self._sequences: dict[Hashable, Sequence] = {}
        self._made: deque[float] = deque(maxlen=4096)  # when the latest tokens were made
        self._positions: dict[Hashable, int] = {}
        self._aborted = 0  # steps in a row

    def encode(self, prompt: tuple[wire.Part, ...]) -> list[int]:
        """Tokens of a prompt. From any thread: a megabyte can take seconds, in which the others go on."""
        return self._tokenizer.encode(prompt)

    def refusal(self, sampling: wire.Sampling) -> str | None:
        """Why nothing can be sampled so, or None. From any thread: a grammar can take a while, but only the first time."""
        return self._model.refusal(sampling)

    def submit(self, key: Hashable, request: wire.Generate, tokens: list[int]) -> None:
        """Accept a request, whose prompt has these tokens, or answer it with Failed at once. `key` must be new."""
        failure = self._refusal(request, tokens)
        if failure:
            self._emit(key, failure)
            return
        by_text = request.in_thought and self._model.think_end is None
        limit = min(self._context, len(tokens) + request.max_tokens if request.max_tokens else self._context)
        sequence = Sequence(
            key,
            tokens,
            limit,
            request.sampling,
            self._model.sampler(request.sampling),
            TextStream(request.stop, after=THINK_END if by_text else None),
            ignore_eos=request.ignore_eos,
            in_thought=request.in_thought,
        )
        sequence.sampler.constrained = not request.in_thought
        self._sequences[key] = sequence
        self._emit(key, wire.Accepted(request.id, len(tokens)))
        self.prompt_tokens += len(tokens)
        self.scheduler.add(sequence)

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
        self.scheduler.admit()
        self._tell_positions()
        chunks = self.scheduler.schedule()
        if not chunks:
            return False
        try:
            rows = self._model.decode(chunks)
        except Aborted:
            self._aborted += 1
            return True
        self._aborted = 0
        for chunk, row in zip(chunks, rows, strict=True):
            last = chunk.last
            self.scheduler.computed(chunk)
            if last:
                self._sample(chunk.sequence, row)
            else:
                s = chunk.sequence
                done = min(s.computed, s.prompt_length)
                self._emit(s.key, wire.Prefill(request_id(s.key), done, s.prompt_length, s.cached))
        return True

    def fail_all(self, code: str, message: str) -> None:
        """End everything that runs or waits."""
        for sequence in list(self._sequences.values()):
            self._end(sequence)
            self._emit(sequence.key, wire.Failed(request_id(sequence.key), code, message))

    def rate(self) -> float:
        """Tokens a second generated for all, averaged over the last few seconds."""
        since = time.monotonic() - RATE_WINDOW
        return sum(at > since for at in tuple(self._made)) / RATE_WINDOW

    def _refusal(self, request: wire.Generate, tokens: list[int]) -> wire.Failed | None:
        rid = request.id
        if not tokens:
            return wire.Failed(rid, "invalid", "the prompt is empty: there is nothing to answer")
        if len(tokens) >= self._context:
            text = f"the prompt has {len(tokens)} tokens, but the context holds {self._context}, the answer included: shorten it"
            return wire.Failed(rid, "context_length_exceeded", text, len(tokens), self._context)
        if reason := self._model.refusal(request.sampling):
            return wire.Failed(rid, "invalid", reason)
        if self.scheduler.full:
            text = f"{len(self.scheduler.waiting)} requests are waiting already: try again later"
            return wire.Failed(rid, "overloaded", text)
        return None

    def _sample(self, sequence: Sequence, row: int) -> None:
        try:
            token = sequence.sampler.sample(row)
        except SamplingError as error:
            self._end(sequence)
            self._emit(sequence.key, wire.Failed(request_id(sequence.key), "invalid", str(error)))
            return
        if scores := sequence.sampler.logprobs:
            top = tuple((self._model.piece(best), logprob) for best, logprob in scores.top)
            sequence.scored.append((self._model.piece(token), scores.chosen, top))
        self._advance(sequence, token)

    def _advance(self, sequence: Sequence, token: int) -> None:
        """Take a sampled token: end the answer or deliver its text."""
        sequence.answering = sequence.answering or time.monotonic()
        self.generated_tokens += 1
        self._made.append(time.monotonic())
        sequence.tokens.append(token)
        sequence.thought += sequence.in_thought
        if token in self._model.ends and not sequence.ignore_eos:
            self._finish(sequence, "stop")
            return
        if self._model.special(token):
            self._say(sequence, sequence.text.flush())
            text = self._model.piece(token).decode("utf-8", "replace")
            self._deliver(sequence, text, special=True)
            if token == self._model.think_start:
                sequence.in_thought = True
            elif token == self._model.think_end:
                sequence.in_thought = False
        else:
            self._say(sequence, sequence.text.push(self._model.piece(token), watch=not sequence.in_thought))
            if self._model.think_end is None:
                sequence.in_thought = sequence.text.waiting
        sequence.sampler.constrained = not sequence.in_thought
        if sequence.text.stopped:
            self._finish(sequence, "stop")
        elif len(sequence.tokens) >= sequence.limit:
            self._finish(sequence, "length")

    def _say(self, sequence: Sequence, text: str) -> None:
        if text:
            self._deliver(sequence, text, special=False)

    def _deliver(self, sequence: Sequence, text: str, *, special: bool) -> None:
        scored, sequence.scored = tuple(sequence.scored), []
        self._emit(sequence.key, wire.Delta(request_id(sequence.key), text, special, sequence.generated, scored))

    def _finish(self, sequence: Sequence, reason: str) -> None:
        self._say(sequence, sequence.text.flush())
        now = time.monotonic()
        started, answering = sequence.started or now, sequence.answering or now
        done = wire.Finished(
            request_id(sequence.key),
            reason,
            prompt_tokens=sequence.prompt_length,
            cached_tokens=sequence.cached,
            generated_tokens=sequence.generated,
            thought_tokens=sequence.thought,
            queue_seconds=started - sequence.arrived,
            prefill_seconds=answering - started,
            decode_seconds=now - answering,
        )
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

    def _end(self, sequence: Sequence) -> None:
        self.scheduler.remove(sequence)
        sequence.sampler.close()
        del self._sequences[sequence.key]
        self._positions.pop(sequence.key, None)

    def _tell_positions(self) -> None:
        """Say to those who wait where they stand, when it has changed."""
        positions = {s.key: at for at, s in enumerate(self.scheduler.waiting, 1)}
        for key, at in positions.items():
            if self._positions.get(key) != at:
                self._emit(key, wire.Queued(request_id(key), at))
        self._positions = positions


def request_id(key: Hashable) -> str:
    """The client's id of a request; a key is (connection, id)."""
    return key[1] if isinstance(key, tuple) else str(key)
