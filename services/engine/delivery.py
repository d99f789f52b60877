"""From a sampled token to what the client hears: text, special tokens, the end of a thought, the end of the answer.

Knows nothing of scheduling or of the KV cache. Plain Python.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable
from typing import Protocol

from services.engine import loop
from services.engine.sequence import Logprobs, Sequence
from services.shared import wire

Emit = Callable[[Hashable, wire.Message], None]  # gives a message to whoever made the request with this key
THINK_END = "</think>"  # what ends a thought where the vocabulary has no token for it
LOST = {"times": 4, "least": 160}  # repetitions in a thought that will not end by itself
STUCK = {"times": 12, "least": 600}  # in an answer more, which may be a table


class Speech(Protocol):
    """What is needed of a model to tell what its tokens say."""

    @property
    def ends(self) -> Collection[int]:
        """Tokens that end an answer."""
        ...

    @property
    def think_start(self) -> int | None: ...

    @property
    def think_end(self) -> int | None: ...

    def piece(self, token: int) -> bytes:
        """The bytes of a token's text; may be part of a character."""
        ...

    def special(self, token: int) -> bool:
        """Is it a control or thinking token rather than text?"""
        ...


class Delivery:
    """`closing`: the tokens that end a thought by force."""

    def __init__(self, speech: Speech, closing: list[int], emit: Emit) -> None:
        self._speech = speech
        self._closing = closing
        self._emit = emit

    def take(self, sequence: Sequence, token: int, scores: Logprobs | None = None) -> str | None:
        """Append a sampled token and tell its text; why the answer ends with it, or None."""
        sequence.answering = sequence.answering or time.monotonic()
        sequence.tokens.append(token)
        sequence.thought += sequence.in_thought
        if token in self._speech.ends and not sequence.ignore_eos:
            return "stop"
        if self._speech.special(token):
            self._say(sequence, sequence.text.flush())
            self._score(sequence, token, scores)
            text = self._speech.piece(token).decode("utf-8", "replace")
            self._tell(sequence, text, special=True)
            if token == self._speech.think_start:
                sequence.in_thought = True
            elif token == self._speech.think_end:
                sequence.in_thought = False
        else:
            self._score(sequence, token, scores)
            self._say(sequence, sequence.text.push(self._speech.piece(token), watch=not sequence.in_thought))
            if self._speech.think_end is None:
                sequence.in_thought = sequence.text.waiting
        sequence.sampler.constrained, sequence.sampler.exempt = not sequence.in_thought, None
        if sequence.text.stopped:
            return "stop"
        if len(sequence.tokens) >= sequence.limit:
            return "length"
        return self._bound(sequence)

    def bound_thought(self, sequence: Sequence, why: str) -> None:
        """The thought ends with the next tokens."""
        sequence.thought_ended = why
        sequence.forced.extend(self._closing)

    def finish(self, sequence: Sequence, reason: str) -> wire.Finished:
        """Tell what was held back; the message that ends the answer, to be sent when the sequence is gone."""
        self._say(sequence, sequence.text.flush())
        now = time.monotonic()
        started, answering = sequence.started or now, sequence.answering or now
        return wire.Finished(
            request_id(sequence.key),
            reason,
            prompt_tokens=sequence.prompt_length,
            cached_tokens=sequence.cached,
            generated_tokens=sequence.generated,
            thought_tokens=sequence.thought,
            queue_seconds=started - sequence.arrived,
            prefill_seconds=answering - started,
            decode_seconds=now - answering,
            thought_ended=sequence.thought_ended,
            drafted_tokens=sequence.drafted,
            accepted_tokens=sequence.accepted,
            stop=sequence.text.stop,
        )

    def _bound(self, sequence: Sequence) -> str | None:
        """End what would not end: a thought that is as long as it may be, a text that goes round in circles."""
        if sequence.in_thought:
            if sequence.forced or sequence.thought_ended:
                return None
            if sequence.thought_limit is not None and sequence.thought >= sequence.thought_limit:
                self.bound_thought(sequence, "budget")
            elif _looks(sequence) and loop.repeats(sequence.tokens[sequence.prompt_length :], **LOST):
                self.bound_thought(sequence, "loop")
        elif _looks(sequence) and loop.repeats(sequence.tokens[sequence.prompt_length :], **STUCK):
            return "loop"
        return None

    def _score(self, sequence: Sequence, token: int, scores: Logprobs | None) -> None:
        """Remember logprobs, if asked for, until the token's text is told."""
        if scores:
            top = tuple((self._speech.piece(best), logprob) for best, logprob in scores.top)
            sequence.scored.append((self._speech.piece(token), scores.chosen, top))

    def _say(self, sequence: Sequence, text: str) -> None:
        if text:
            self._tell(sequence, text, special=False)

    def _tell(self, sequence: Sequence, text: str, *, special: bool) -> None:
        scored, sequence.scored = tuple(sequence.scored), []
        self._emit(sequence.key, wire.Delta(request_id(sequence.key), text, special, sequence.generated, scored))


def _looks(sequence: Sequence) -> bool:
    return sequence.generated % loop.EVERY == 0 and not sequence.ignore_eos


def request_id(key: Hashable) -> str:
    """The client's id of a request; a key is (connection, id)."""
    return key[1] if isinstance(key, tuple) else str(key)
