"""Prompts from a list of common words: the same for every endpoint of a round, and no two rounds begin alike.

Nearly every word is one token in the usual vocabularies. Knows nothing of endpoints or scenarios.
"""

from __future__ import annotations

import random
from pathlib import Path

Message = dict[str, str]

WORDS = Path(__file__).with_name("words.txt").read_text(encoding="utf-8").split()


class Prompts:
    """The prompts of one scenario in one round.

    Args:
        seed: the run's seed.
        case: the scenario and its users, such as distinct.8.
        number: the round.
    """

    def __init__(self, seed: int, case: str, number: int) -> None:
        self._random = random.Random(f"{seed}/{case}/{number}")  # a text as seed gives the same numbers on every machine

    def text(self, words: int) -> str:
        """That many words as sentences of twelve; a word may come more than once."""
        chosen = self._random.choices(WORDS, k=words)
        return " ".join(" ".join(chosen[at : at + 12]).capitalize() + "." for at in range(0, words, 12))

    def question(self, words: int = 60) -> list[Message]:
        """A conversation of one question, about that many words long."""
        return [{"role": "user", "content": f"{self.text(words)} Tell a story about this."}]

    def shared(self, users: int, words: int = 300) -> list[list[Message]]:
        """One conversation a user, all with the same system prompt of that many words."""
        system: Message = {"role": "system", "content": self.text(words)}
        return [[system, *self.question(20)] for _ in range(users)]

    def copy(self, words: int = 200) -> list[Message]:
        """A request for a text's exact copy. No word comes twice, and no full stop either: what follows each is certain, even for a
        model that sees only one token back (tests/copying.py). Such a one begins after the line break, as R1's answers do."""
        text = " ".join(self._random.sample(WORDS, words))
        return [{"role": "user", "content": f"Text\n{text}\n\nPlease repeat the text verbatim."}]
