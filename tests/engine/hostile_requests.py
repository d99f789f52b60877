"""`python -m tests.engine.hostile_requests MODEL SEED SECONDS`: random sampling settings, far out of range too, through a real engine.

A program of its own, so that its death is an outcome too. Each must be answered or refused with a message. Prints how many were what.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from services.engine.engine import Engine
from services.engine.native import NativeModel
from services.engine.request import MAX_TOP_K, RANGES, problem
from services.shared import wire

ODD: list[Any] = [0, 1, -1, 0.0, 1e-45, -1e-45, 1e38, -1e38, 1e308, float("inf"), float("nan"), 2**31, 2**63, -(2**63), None, True, "", "x"]
ODD += [(), b"", 1.5]
GRAMMARS: list[Any] = [None, None, None, "root ::= .", "root ::= [0-9]+", r'root ::= "\x00"', "root ::= (", "", 'root ::= ""', 5]
GRAMMARS += ["root ::= root root | [a-z ]"]
SCHEMAS: list[Any] = [
    None,
    None,
    None,
    "{}",
    '{"type": "object"}',
    '{"type": "string", "maxLength": 3}',
    '{"enum": [1, "x", null]}',
    "[",
    (),
]
SCHEMAS += ['{"not": 1}']


class Maker:
    """Makes requests from a seed, most of them valid."""

    def __init__(self, source: random.Random, size: int) -> None:
        self._source, self._size = source, size

    def request(self, name: str) -> wire.Generate:
        source = self._source
        numbers = {field: self._number(low, high) for field, (low, high) in RANGES.items() if source.random() < 0.3}
        sampling = wire.Sampling(
            **numbers,
            top_k=source.choice([0, 1, 40, MAX_TOP_K]),
            seed=source.choice([None, 0, -1, 2**63, 2**32 - 1]),
            logit_bias=self._bias(),
            logprobs=source.choice([None, None, 0, 20, 21]),
            grammar=source.choice(GRAMMARS),
            json_schema=source.choice(SCHEMAS),
            frame=source.choice([("", ""), ("", ""), ("<a>", "</a>"), ("[/(", "")]),
            instead=source.choice([None, None, "", "{}", "[", 5]),
        )
        prompt = ((True, "What is 1 + 1?"),)
        return wire.Generate(
            name, prompt, sampling, max_tokens=source.randint(1, 12), ignore_eos=source.random() < 0.2, may_think=source.random() < 0.3
        )

    def _number(self, low: float, high: float) -> Any:
        return self._rarely_odd(self._source.choice([low, high, self._source.uniform(low, high), self._source.uniform(0, 1)]))

    def _rarely_odd(self, value: Any) -> Any:
        return self._source.choice(ODD) if self._source.random() < 0.1 else value

    def _bias(self) -> Any:
        count = self._source.choice([0, 0, 0, 1, 5, 300])
        tokens = self._source.sample(range(self._size), count)
        if self._source.random() < 0.1:
            tokens += [self._source.choice([self._size, -1, 2**40])]
        odd = self._source.random() < 0.2
        values = [self._source.choice([100, -100, self._source.uniform(-100, 100)]) for _ in tokens]
        return tuple((token, self._rarely_odd(value) if odd else value) for token, value in zip(tokens, values, strict=True))


def main() -> None:
    path, seed, seconds = sys.argv[1:]
    model = NativeModel(Path(path), context=256, cells=1024, slots=20, step=64, threads=1)
    ends: dict[Hashable, wire.Message] = {}

    def emit(key: Hashable, message: wire.Message) -> None:
        if isinstance(message, wire.Finished | wire.Failed):
            ends[key] = message

    engine = Engine(model, context=256, cells=1024, sequences=4, slots=20, step=64, queue=100, emit=emit)
    maker, outcomes, end = Maker(random.Random(int(seed)), model.vocabulary.size), Counter[str](), time.monotonic() + float(seconds)
    number = 0
    while time.monotonic() < end:
        for _ in range(4):
            number += 1
            (request,) = wire.Decoder().feed(wire.encode(maker.request(str(number))))
            reason = problem(request)
            if reason is None:
                engine.submit(request.id, request, engine.encode(request.prompt))
            else:
                assert reason and isinstance(reason, str)
                outcomes["refused"] += 1
        while engine.step():
            pass
        for message in ends.values():
            failed = isinstance(message, wire.Failed)
            assert not failed or (message.code == "invalid" and message.message), message
            outcomes["failed" if failed else "finished"] += 1
        ends.clear()
    assert outcomes.total() == number, "somebody got no answer"
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
