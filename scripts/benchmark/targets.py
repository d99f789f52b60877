"""Targets: what a figure must reach, absolutely or as a multiple of the first --against."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

EXPRESSION = re.compile(r"(>=|<=|>|<)\s*(\d+(?:\.\d+)?)\s*(x?)")
COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Target:
    """The figure of the first endpoint must compare so with the limit; `relative`: with limit times the first --against's figure."""

    figure: str
    sign: str
    limit: float
    relative: bool

    @property
    def expression(self) -> str:
        return f"{self.sign} {self.limit:g}{'x' if self.relative else ''}"

    def met(self, own: float, other: float | None) -> bool:
        """Whether the first endpoint's median, beside that of the first --against, is enough."""
        return bool(COMPARE[self.sign](own, self.limit * (other or 0.0) if self.relative else self.limit))


def parse(text: str) -> Target:
    """Read "FIGURE EXPRESSION", such as "distinct.8.rate >= 2.5x".

    Raises:
        ValueError: it is not of that form.
    """
    name, _, expression = text.strip().partition(" ")
    found = EXPRESSION.fullmatch(expression.strip())
    if not found:
        raise ValueError(f'{text!r} is no target: it needs a figure and an expression, such as "distinct.8.rate >= 2.5x"')
    return Target(name, found[1], float(found[2]), bool(found[3]))


# What Cloister's engine promises against llama-server with the same file, threads and as many slots.
BUILT_IN = tuple(
    map(
        parse,
        (
            "distinct.1.decode >= 1.0x",
            "distinct.4.rate >= 1.0x",
            "distinct.8.rate >= 1.0x",
            "distinct.16.rate >= 1.0x",
            "shared.8.rate >= 2.5x",
            "long.gap.max <= 0.2x",
            "turn.first <= 0.4x",
        ),
    )
)


@dataclass(frozen=True)
class Verdict:
    """A target with what was found; `ratio` is to the first --against."""

    target: Target
    value: float
    ratio: float | None
    met: bool


def judge(targets: list[Target], medians: Mapping[str, Mapping[str, float]], first: str, baseline: str | None) -> list[Verdict]:
    """Compare all targets whose figures were measured.

    Args:
        medians: figure → label → median.
        first: label of the endpoint of which targets are asked.
        baseline: label of the first --against.
    """
    verdicts = []
    for target in targets:
        found = medians.get(target.figure, {})
        other = found.get(baseline) if baseline else None
        if first not in found or (target.relative and other is None):
            continue
        ratio = found[first] / other if other else None
        verdicts.append(Verdict(target, found[first], ratio, target.met(found[first], other)))
    return verdicts
