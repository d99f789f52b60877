"""Prompt lookup: what followed the last few tokens when they stood in this sequence before is a guess of what follows now.

Several guesses are checked in one step, which costs less than as many steps; a wrong one changes no answer. Owns the guesses and
the judgement whether they pay, from measured times. Plain Python: knows nothing of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.engine.sequence import Sequence

NGRAM = 3  # tokens that must have stood there before
LONGEST = 64  # tokens before the guess that are compared
MOST = 15  # tokens guessed at once: with the one that is certain, a tile of llama.cpp's matrix kernels
BLOCK = 4  # steps of so many tokens more are told apart by the time they take
WRITERS = 2  # requests that may write while it is tried: with more, a step is full of certain tokens
COST = 0.2  # what a guess adds to a step, in steps without guesses, until it is known
RATE = 0.15  # of learning
FORGIVE = 0.02  # where guesses have not paid, a sequence gets another chance after a while
FORGET = 0.002  # of a time that was not seen again, in each step: it may have been a busy moment


@dataclass
class Lookup:
    """Where each run of NGRAM tokens of a sequence ended last; `seen` tokens are indexed. `matched`: how many tokens before the
    guess had stood there before. `right`: how likely the next one is guessed, by the bits of that; a long quotation goes on more often."""

    ends: dict[tuple[int, ...], int] = field(default_factory=dict)
    seen: int = NGRAM
    matched: int = 0
    right: dict[int, float] = field(default_factory=dict)

    def find(self, tokens: list[int], most: int) -> list[int]:
        """What followed the last NGRAM tokens before, at most so many."""
        for end in range(self.seen, len(tokens)):
            self.ends[tuple(tokens[end - NGRAM : end])] = end
        self.seen = max(self.seen, len(tokens))
        at = self.ends.get(tuple(tokens[-NGRAM:]))
        if at is None:
            return []
        self.matched = NGRAM
        while self.matched < min(LONGEST, at) and tokens[at - 1 - self.matched] == tokens[-1 - self.matched]:
            self.matched += 1
        guess: list[int] = []
        while len(guess) < most:  # a guess may run into itself: a text that repeats
            guess.append(tokens[at] if at < len(tokens) else guess[at - len(tokens)])
            at += 1
        return guess

    @property
    def likely(self) -> float:
        """How likely the next token is guessed right."""
        return self.right.get(self.matched.bit_length(), self.hope)

    @property
    def hope(self) -> float:
        """The same, until it is known."""
        return 1 - 1 / max(self.matched, 1)

    def learn(self, towards: float, rate: float) -> None:
        """Move that nearer to what was seen."""
        self.right[self.matched.bit_length()] = self.likely + rate * (towards - self.likely)


class Speculation:
    """Times are seconds, and learned: what a step takes by the number of writers and of blocks of tokens, 0 blocks without guesses."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, int], float] = {}
        self._lookups: dict[Sequence, Lookup] = {}

    def guess(self, sequence: Sequence, most: int, writers: int) -> list[int]:
        """As many guesses as pay, perhaps none."""
        if (writers, 0) not in self._seconds:
            return []
        lookup = self._lookups.setdefault(sequence, Lookup())
        guess = lookup.find(sequence.tokens, min(most, MOST))
        worth = self._worth(lookup.likely, len(guess), writers)
        if guess and not worth:
            lookup.learn(lookup.hope, FORGIVE)
        return guess[:worth]

    def learn(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """So many of the guesses were right."""
        for right in [1.0] * accepted + [0.0] * (accepted < drafted):
            self._lookups[sequence].learn(right, RATE)

    def timed(self, seconds: float, writers: int, drafted: int) -> None:
        """A step of writers only took so long."""
        if writers > WRITERS:
            return
        key = writers, _blocks(writers, drafted)
        self._seconds[key] = self._seconds.get(key, seconds) + RATE * (seconds - self._seconds.get(key, seconds))
        for other in self._seconds:
            if other[0] == writers and other[1] and other != key:
                self._seconds[other] += FORGET * (self._expected(writers, other[1] * BLOCK - writers) - self._seconds[other])

    def forget(self, sequence: Sequence) -> None:
        """It has ended."""
        self._lookups.pop(sequence, None)

    def _worth(self, right: float, most: int, writers: int) -> int:
        """The number of guesses with the most expected tokens a second."""
        best, best_rate, expected, chance = 0, 1.0 / self._seconds[writers, 0], 1.0, 1.0
        for count in range(1, most + 1):
            chance *= right
            expected += chance
            seconds = self._seconds.get((writers, _blocks(writers, count))) or self._expected(writers, count)
            if (rate := expected / seconds) > best_rate:
                best, best_rate = count, rate
        return best

    def _expected(self, writers: int, drafted: int) -> float:
        """Seconds of a step that was not seen yet."""
        return self._seconds[writers, 0] * (1 + COST * drafted)


def _blocks(writers: int, drafted: int) -> int:
    return -(-(writers + drafted) // BLOCK) if drafted else 0
