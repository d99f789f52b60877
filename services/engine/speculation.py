"""Prompt lookup: what followed the last few tokens when they stood in this sequence before is a guess of what follows now.

Several guesses are checked in one step, which costs less than as many steps; a wrong one changes no answer. Owns the guesses and
the judgement whether they pay, from measured times. Plain Python: knows nothing of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.engine.sequence import Sequence

NGRAM = 3  # tokens that must have stood there before
MOST = 8  # tokens guessed at once
WRITERS = 2  # requests that may write while it is tried: with more, a step is full of certain tokens
HOPE = 0.6  # that the next token is guessed right, until it is known
RATE = 0.15  # of learning
FORGIVE = 0.02  # where guesses have not paid, a sequence gets another chance after a while


@dataclass
class Lookup:
    """Where each run of NGRAM tokens of a sequence ended last; `seen` tokens are indexed."""

    ends: dict[tuple[int, ...], int] = field(default_factory=dict)
    seen: int = NGRAM
    right: float = HOPE

    def find(self, tokens: list[int], most: int) -> list[int]:
        """What followed the last NGRAM tokens before, at most so many."""
        for end in range(self.seen, len(tokens)):
            self.ends[tuple(tokens[end - NGRAM : end])] = end
        self.seen = max(self.seen, len(tokens))
        at = self.ends.get(tuple(tokens[-NGRAM:]))
        if at is None:
            return []
        guess: list[int] = []
        while len(guess) < most:  # a guess may run into itself: a text that repeats
            guess.append(tokens[at] if at < len(tokens) else guess[at - len(tokens)])
            at += 1
        return guess


class Speculation:
    """Times are seconds, and learned: what a step takes without guesses, by the number of writers, and what one guess adds."""

    def __init__(self) -> None:
        self._plain: dict[int, float] = {}
        self._more = 0.0
        self._lookups: dict[Sequence, Lookup] = {}

    def guess(self, sequence: Sequence, most: int, writers: int) -> list[int]:
        """As many guesses as pay, perhaps none."""
        if writers not in self._plain:
            return []
        lookup = self._lookups.setdefault(sequence, Lookup())
        guess = lookup.find(sequence.tokens, min(most, MOST))
        worth = self._worth(lookup.right, len(guess), self._plain[writers])
        if guess and not worth:
            lookup.right += FORGIVE * (HOPE - lookup.right)
        return guess[:worth]

    def learn(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """So many of the guesses were right."""
        if drafted:
            lookup = self._lookups[sequence]
            for right in [1.0] * accepted + [0.0] * (accepted < drafted):
                lookup.right += RATE * (right - lookup.right)

    def timed(self, seconds: float, writers: int, drafted: int) -> None:
        """A step of writers only took so long."""
        if writers > WRITERS:
            return
        plain = self._plain.setdefault(writers, seconds)
        if not drafted:
            self._plain[writers] += RATE * (seconds - plain)
            self._more = self._more or plain / 3
        else:
            self._more += RATE * (max(seconds - plain, 0.0) / drafted - self._more)

    def forget(self, sequence: Sequence) -> None:
        """It has ended."""
        self._lookups.pop(sequence, None)

    def _worth(self, right: float, most: int, plain: float) -> int:
        """The number of guesses with the most expected tokens a second."""
        best, best_rate, expected, chance = 0, 1.0 / plain, 1.0, 1.0
        for count in range(1, most + 1):
            chance *= right
            expected += chance
            if (rate := expected / (plain + count * self._more)) > best_rate:
                best, best_rate = count, rate
        return best
