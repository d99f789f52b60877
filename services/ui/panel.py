"""The status panel: a button in the header, and what it opens: how the model, the engine and the machine are, now and over the last hour.

Owns the two components, their event, and which sections there are in which order. While it is open the browser asks for it anew every
two seconds (assets/panel.js). What a section says is for sheet.py and walls.py, how a plot is drawn for plot.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from services.shared.hardware import human
from services.ui import plot, sheet, status, walls
from services.ui.client import Status
from services.ui.history import History, Sample
from services.ui.plot import Captions, Line, Plot
from services.ui.texts import Words
from services.ui.told import Told

SCRIPT = (Path(__file__).parent / "assets" / "panel.js").read_text(encoding="utf-8")
SPANS = (300.0, 900.0, 3600.0)  # seconds; the shortest that holds what is known is shown
ICON = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M1.5 11H5l2-6 4 11 2.5-7 1 2h4"/></svg>'
Label = Callable[[float], str]


class Panel:
    """Made inside of a gr.Blocks, where the button is to stand. The panel itself lies over the page and takes no place in it."""

    def __init__(self) -> None:
        self.button = gr.HTML("", elem_id="panel-button", js_on_load=None, apply_default_css=False)
        self.view = gr.HTML("", elem_id="panel-view", html_template="", js_on_load=SCRIPT, apply_default_css=False)

    def connect(self, asked: Callable[..., Any], language: gr.BrowserState, **how: Any) -> None:
        """`asked(language, request)` makes the panel's value each time that the browser wants it."""
        self.view.submit(asked, [language], [self.view], **how)


def button(words: Words) -> str:
    """What opens it."""
    name = escape(words.panel.open)
    return f'<button type="button" aria-haspopup="dialog" aria-label="{name}" title="{name}">{ICON}</button>'


def show(now: Status, history: History, words: Words) -> str:
    """The whole panel in the visitor's language."""
    told = now.told
    parts = (
        _head(now, words),
        sheet.now(told, history, words),
        _plots(told, history, words),
        sheet.engine(told, words),
        sheet.model(told, words),
        sheet.provenance(told, words),
        walls.show(told, words),
    )
    return f'<div class="sheet" data-at="{history.now():.3f}" data-copied="{escape(words.panel.copied)}">{"".join(parts)}</div>'


def _head(now: Status, words: Words) -> str:
    w = words.panel
    said = now.told.text("error") if now.state == "failed" else status.sentence(now, words) if now.state == "preparing" else ""
    return (
        f'<header><h2>{escape(w.title)}</h2><span class="state {now.state}">{escape(w.states[now.state])}</span>'
        f'<button type="button" class="close" aria-label="{escape(w.close)}" title="{escape(w.close)}"></button></header>'
        + (f'<p class="said">{escape(said)}</p>' if said else "")
    )


def _plots(told: Told, history: History, words: Words) -> str:
    w, at = words.panel, history.now()
    age = history.age()
    span = next((span for span in SPANS if span >= age), SPANS[-1])
    samples = [sample for sample in history.samples() if at - sample.at <= span]
    captions = Captions(w.now, w.ago, w.when, w.table, w.gaps, w.nothing, w.described, lambda seconds: sheet.stretch(words, seconds))

    def draw(name: str, title: str, label: Label, *figures: tuple[str, str], last: str = "{}", top: float | None = None) -> str:
        lines = [Line(line, [sample.figures.get(figure) for sample in samples]) for line, figure in figures]
        latest = last.format(*(_last(samples, figure, label) for _, figure in figures))
        return plot.draw(Plot(name, title, [at - sample.at for sample in samples], lines, span, label, latest, top), captions)

    drawn = (
        draw("plot-speed", w.speed, sheet.figure, (w.speed, "speed"), last=w.per_second.replace("{speed}", "{}")),
        draw("plot-queue", w.plot_queue, sheet.figure, (w.running_line, "running"), (w.waiting_line, "waiting"), last="{} + {}"),
        draw("plot-kv", w.plot_kv, sheet.figure, (w.plot_kv, "cells"), top=told.number("engine", "cells")),
        draw("plot-memory", w.plot_memory, human, (w.engine_line, "memory"), (w.used_line, "used"), top=told.number("machine", "memory")),
    )
    return (
        f'<section id="panel-history"><h3>{escape(w.history)}</h3><div class="plots">{"".join(drawn)}</div>'
        f"{sheet.note(w.history_note)}</section>"
    )


def _last(samples: Sequence[Sample], figure: str, label: Label) -> str:
    value = samples[-1].figures.get(figure) if samples else None
    return sheet.DASH if value is None else label(value)
