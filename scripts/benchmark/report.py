"""What a run found, as a table for people and as JSON. Knows figures, endpoints and verdicts, not how they came about."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.benchmark.client import Client
from scripts.benchmark.run import Measurements, Plan
from scripts.benchmark.targets import Verdict

CPUINFO = Path("/proc/cpuinfo")


@dataclass
class Report:
    """A run's results.

    Attributes:
        clients: the endpoints, the one of which targets are asked first.
        baseline: label of the first --against, to which ratios refer.
        started: when, in ISO form.
        error: what ended the run before its time.
    """

    clients: Sequence[Client]
    baseline: str | None
    plan: Plan
    started: str
    measurements: Measurements
    verdicts: list[Verdict] = field(default_factory=list)
    error: str | None = None

    @property
    def labels(self) -> list[str]:
        return [client.label for client in self.clients]

    def medians(self) -> dict[str, dict[str, float]]:
        """Figure → label → median over the rounds."""
        return {
            name: {label: statistics.median(values) for label, values in found.items()} for name, found in self.measurements.figures.items()
        }

    def ratio(self, name: str, label: str) -> float | None:
        """An endpoint's median as a multiple of the first --against's; None where there is none."""
        found = self.medians().get(name, {})
        other = found.get(self.baseline) if self.baseline else None
        return found[label] / other if other and label in found else None

    def table(self) -> str:
        """All figures and verdicts as aligned text."""
        rows = [["", "", *(label + (" (= 1x)" if label == self.baseline else "") for label in self.labels)]]
        for name, found in self.medians().items():
            cells = []
            for label in self.labels:
                ratio = self.ratio(name, label) if label != self.baseline else None
                cells.append((number(found[label]) if label in found else "–") + (f"  {ratio:.2f}x" if ratio is not None else ""))
            rows.append([name, unit(name), *cells])
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(w) if at < 2 else cell.rjust(w) for at, (cell, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        if self.verdicts:
            lines += ["", f"targets of {self.labels[0]}:"]
        for verdict in self.verdicts:
            found_value = f"{verdict.ratio:.2f}x" if verdict.target.relative and verdict.ratio is not None else number(verdict.value)
            lines.append(f"  {'met   ' if verdict.met else 'MISSED'}  {verdict.target.figure} {verdict.target.expression}: {found_value}")
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def json(self) -> dict[str, Any]:
        """Everything: the plan, the machine, each figure of each round with median and ratio, and the verdicts."""
        medians = self.medians()
        return {
            "started": self.started,
            "machine": {"processor": processor(), "threads": os.cpu_count(), "system": platform.platform()},
            "seed": self.plan.seed,
            "rounds": self.plan.rounds,
            "tokens": self.plan.sizes.tokens,
            "words": self.plan.sizes.words,
            "idle": self.plan.sizes.idle,
            "endpoints": [{"label": c.label, "url": c.url, "model": c.model} for c in self.clients],
            "baseline": self.baseline,
            "prompt_tokens": self.measurements.prompts,
            "figures": {
                name: {
                    "unit": unit(name),
                    "endpoints": {
                        label: {"median": medians[name][label], "ratio": self.ratio(name, label), "rounds": values}
                        for label, values in found.items()
                    },
                }
                for name, found in self.measurements.figures.items()
            },
            "targets": [
                {"figure": v.target.figure, "expression": v.target.expression, "value": v.value, "ratio": v.ratio, "met": v.met}
                for v in self.verdicts
            ],
            "error": self.error,
        }


def unit(name: str) -> str:
    """A figure's unit."""
    if name.startswith("memory."):
        return "MB"
    return {"rate": "tokens/s", "decode": "tokens/s", "copied": "share"}.get(name.rsplit(".", 1)[-1], "s")


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def processor() -> str:
    """The processor's name, as the system tells it."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
