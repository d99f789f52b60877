"""What a tuning found, as a table and a proposal for people and as JSON. Knows figures and choices, not how they came about."""

from __future__ import annotations

import os
import platform
from typing import Any

from scripts.benchmark.probe import SEQUENCES
from scripts.benchmark.proposal import spread
from scripts.benchmark.report import number, processor
from scripts.benchmark.tune import ANSWER, DECIDES, NAMES, Phase, Setting, Tuning

FIGURES = {"prefill": "prefill", "decode": "decode", "together": f"{SEQUENCES} sequences", "answer": "answer"}
RIGHT = "the settings are right for this machine"


def table(tuning: Tuning) -> str:
    """All combinations with their medians, the present settings and the proposed ones marked, and the proposal."""
    rows = [["", *FIGURES.values(), "spread", "MB", ""]]
    failures = []
    for phase in tuning.phases:
        for row in phase.rows:
            value = row.combination.value(phase.setting)
            marks = ["set now"] if value == phase.present else []
            marks += ["proposed"] if value == phase.chosen and value != phase.present else []
            if row.failure:
                marks.append("failed")
                failures.append(f"{phase.setting} {value} failed: {row.failure}")
            cells = ["–"] * (len(FIGURES) + 2)
            if row.rounds:
                share = spread(row.values(DECIDES[phase.setting])) / row.median(DECIDES[phase.setting])
                cells = [*(number(row.median(figure)) for figure in FIGURES), f"{share:.0%}", f"{row.median('memory'):.0f}"]
            rows.append([f"{phase.setting} {value}", *cells, ", ".join(marks)])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    last = len(widths) - 1
    lines = [
        "  ".join(c.ljust(w) if at in (0, last) else c.rjust(w) for at, (c, w) in enumerate(zip(row, widths, strict=True))) for row in rows
    ]
    legend = [
        f"tokens/s, medians of {tuning.size.rounds} rounds; MB: peak of memory",
        f"answer: {ANSWER} tokens read and as many written, half of them alone and half among {SEQUENCES}",
        "spread: greatest less least round of the figure that decides (of batch: prefill, else answer)",
    ]
    parts = [*lines, "", *legend, *failures, _quants(tuning), "", *proposal(tuning)]
    return "\n".join(line.rstrip() for line in parts) + "\n"


def proposal(tuning: Tuning) -> list[str]:
    """The proposal as lines of text: settings as lines of .env with why, or that those of now are right."""
    why = [_why(phase) for phase in tuning.phases if phase.setting in tuning.proposed()]
    if tuning.error:
        return ["nothing is proposed, as the run has not come to its end"]
    if tuning.size.rounds < 2:
        return ["nothing is proposed: one round does not tell how far figures vary by themselves"]
    if not why:
        return [f"{RIGHT}: nothing else is faster by more than the rounds vary and 3 %"]
    lines = ["proposal: put this into .env and start again with scripts/up"]
    lines += [f"{name}={value}" for name, value in environment(tuning).items()]
    return [*lines, " ".join(why), *([f"But {tuning.busy}."] if tuning.busy else [])]


def environment(tuning: Tuning) -> dict[str, str]:
    """The proposed settings by their names in .env."""
    if tuning.error or tuning.size.rounds < 2:
        return {}
    return {NAMES[setting]: str(value) for setting, value in tuning.proposed().items()}


def json(tuning: Tuning) -> dict[str, Any]:
    """Everything: the machine, the model, each figure of each round, what is set and what is proposed."""
    size, (directory, found) = tuning.size, tuning.models[tuning.present.quant]
    return {
        "started": tuning.started,
        "machine": {
            "processor": processor(),
            "threads": os.cpu_count(),
            "affinity": len(os.sched_getaffinity(0)),
            "system": platform.platform(),
            "load": tuning.load,
            "busy": tuning.busy,
        },
        "model": {"name": found.name, "title": found.title, "parameters": found.parameters, "directory": str(directory)},
        "present": {"threads": tuning.present.threads, "batch": tuning.present.batch, "quant": tuning.present.quant},
        "context": tuning.settings.engine.context,
        "cells": tuning.settings.engine.cells,
        "rounds": size.rounds,
        "sequences": SEQUENCES,
        "quants": {"prepared": list(tuning.models), "unprepared": tuning.unprepared},
        "phases": [_phase(phase) for phase in tuning.phases],
        "proposal": environment(tuning),
        "text": "\n".join(proposal(tuning)),
        "error": tuning.error,
    }


def _phase(phase: Phase) -> dict[str, Any]:
    return {
        "setting": phase.setting,
        "decides": DECIDES[phase.setting],
        "present": phase.present,
        "chosen": phase.chosen,
        "rows": [
            {
                "threads": row.combination.threads,
                "batch": row.combination.batch,
                "quant": row.combination.quant,
                "prompt": row.rounds[0].prompt if row.rounds else None,
                "tokens": row.rounds[0].tokens if row.rounds else None,
                "figures": {
                    figure: {"unit": "MB" if figure == "memory" else "tokens/s", "median": row.median(figure), "rounds": row.values(figure)}
                    for figure in (*FIGURES, "memory")
                    if row.rounds
                },
                "failure": row.failure,
            }
            for row in phase.rows
        ],
    }


def _why(phase: Phase) -> str:
    """A sentence on what the proposed value gains."""
    setting: Setting = phase.setting
    assert phase.chosen is not None
    new, old = phase.row(phase.chosen), phase.row(phase.present)
    if old.failure:
        return f"{setting} {phase.present}, which is set now, can't be measured here."
    gains = [f"{FIGURES[figure]} {new.median(figure) / old.median(figure) - 1:+.0%}" for figure in FIGURES]
    text = f"{setting} {phase.chosen} instead of {phase.present}: {', '.join(gains)}."
    if setting == "batch" and phase.row(phase.chosen).combination.batch > old.combination.batch:
        text += " While one prompt is read, the others' text then comes in larger steps."
    if setting == "quant":
        text += " What it does to the quality of answers is not measured here: fewer bits a weight are coarser."
    return text


def _quants(tuning: Tuning) -> str:
    """Which quants were there to be measured, and which could be."""
    prepared = ", ".join(tuning.models)
    if not tuning.unprepared:
        return f"quants prepared: {prepared}"
    if tuning.whole:
        others = "others can be made only if the GGUF that it came as is F16 or BF16"
    else:
        others = f"{', '.join(tuning.unprepared)} could be prepared (python -m services.init --quant NAME) and measured as well"
    return f"quants prepared: {prepared}; {others}"
