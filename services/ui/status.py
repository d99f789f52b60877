"""What the page says of the model: being prepared, loading, ready or failed, its name, and how fast it answers.

Everything is HTML in the visitor's language, made from the API's status. Knows nothing of conversations.
"""

from __future__ import annotations

import asyncio
import time
from html import escape

from services.shared.hardware import human
from services.shared.progress import STEPS, Progress
from services.ui.client import Client, Status
from services.ui.texts import Words, spoken

BITS = {"q4_0": "4", "q4_k_m": "4", "q5_0": "5", "q5_k_m": "5", "q6_k": "6", "q8_0": "8"}


class Watch:
    """The API's status, asked for at most once in `age` seconds however many visitors look."""

    def __init__(self, client: Client, age: float = 0.8) -> None:
        self._client, self._age = client, age
        self._status, self._asked = Status("starting"), float("-inf")
        self._lock = asyncio.Lock()

    async def current(self) -> Status:
        async with self._lock:
            if time.monotonic() - self._asked > self._age:
                self._status = await self._client.status()
                self._asked = time.monotonic()
            return self._status


def card(status: Status, words: Words) -> str:
    """The large account for a page without a conversation; empty when the model is ready."""
    match status.state:
        case "ready":
            return ""
        case "preparing" if status.progress:
            return _card(words.preparing, _steps(status.progress, words), words.preparing_note)
        case "failed":
            error = status.progress.error if status.progress else None
            body = f'<p class="said">{escape(error)}</p>' if error else ""
            return _card(words.failed, body, words.failed_todo, kind="failed")
        case "loading":
            return _card(words.loading, _bar(None), words.loading_note)
        case _:
            return _card(words.starting, _bar(None), words.preparing_note if status.state == "preparing" else "")


def strip(status: Status, words: Words) -> str:
    """The same in one line, for a page with a conversation."""
    match status.state:
        case "ready":
            return ""
        case "preparing" if status.progress:
            progress = status.progress
            parts = [words.preparing, words.steps.get(progress.step or "", ""), *_figures(progress, words)]
            text = " · ".join(part for part in parts if part)
        case "failed":
            error = (status.progress.error if status.progress else None) or words.failed_todo
            text = f"{words.failed}: {error}"
        case "loading":
            text = words.loading
        case _:
            text = words.starting
    return f'<p class="strip" role="status">{escape(text)}</p>'


def banner(status: Status, words: Words) -> str:
    """What a person must know of a ready model, such as that the demo stands in; mostly empty."""
    if not status.notice:
        return ""
    if status.model and status.model.kind == "demo":
        detail = f"<details><summary>{escape(words.details)}</summary>{escape(status.notice)}</details>"
        return f'<aside class="banner" role="note"><p>{escape(words.demo_stands_in)}</p>{detail}</aside>'
    return f'<aside class="banner" role="note"><p>{escape(words.notice.format(notice=status.notice))}</p></aside>'


def welcome(status: Status, words: Words) -> str:
    """The greeting of an empty page."""
    chosen_demo = status.model and status.model.kind == "demo" and not status.notice
    hint = f"<p>{escape(words.demo_hint)}</p>" if chosen_demo else ""
    return f'<div class="hello"><h1>{escape(words.hello)}</h1><p>{escape(words.promise)}</p>{hint}</div>'


def facts(status: Status, words: Words) -> str:
    """Which model answers, for the line under the page."""
    name, context = "", ""
    if model := status.model:
        context = f' data-context="{model.context}"'  # for assets/gauge.js
        bits = BITS.get(model.quant)
        size = words.compressed.format(bits=bits) if bits else words.uncompressed
        quant = f'<abbr title="{escape(size)}">{escape(model.quant)}</abbr>'
        name = f'<span class="model">{escape(model.title)}</span><span>{quant}</span>'
    return f'<div class="facts"{context}>{name}<span class="private">{escape(words.private)}</span></div>'


def speed(tokens_per_second: float, words: Words) -> str:
    """How fast the last answer came, or comes."""
    if not tokens_per_second:
        return ""
    text = words.speed.format(speed=f"{tokens_per_second:.1f}" if tokens_per_second < 100 else f"{tokens_per_second:.0f}")
    return f'<div class="facts"><abbr class="speed" title="{escape(words.token)}">{escape(text)}</abbr></div>'


def sentence(status: Status, words: Words) -> str:
    """The state in one plain line, for a terminal."""
    match status.state:
        case "preparing" if status.progress:
            parts = [words.steps.get(status.progress.step or "", ""), *_figures(status.progress, words)]
            return f"{words.preparing}: " + ", ".join(part for part in parts if part)
        case "failed":
            return f"{words.failed}: {(status.progress.error if status.progress else None) or words.failed_todo}"
        case "loading":
            return words.loading
        case _:
            return words.starting


def _card(title: str, body: str, note: str, kind: str = "") -> str:
    tail = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<section class="card {kind}" role="status"><h2>{escape(title)}</h2>{body}{tail}</section>'


def _steps(progress: Progress, words: Words) -> str:
    at = STEPS.index(progress.step) if progress.step in STEPS else -1
    items = []
    for place, step in enumerate(STEPS):
        kind = "past" if place < at else "present" if place == at else "future"
        inner = f"<span>{escape(words.steps[step])}</span>"
        if kind == "present":
            figures = "".join(f"<span>{escape(figure)}</span>" for figure in _figures(progress, words))
            inner += (
                _bar(progress.done / progress.total if progress.total else None, words.preparing) + f'<div class="figures">{figures}</div>'
            )
        current = ' aria-current="step"' if kind == "present" else ""
        items.append(f'<li class="{kind}"{current}>{inner}</li>')
    return f'<p class="what">{escape(progress.model)}</p><ol>{"".join(items)}</ol>'


def _bar(share: float | None, name: str = "") -> str:
    if share is None:
        return '<div class="bar endless"><i></i></div>'
    percent = max(0.0, min(100.0, 100 * share))
    return (
        f'<div class="bar" role="progressbar" aria-label="{escape(name)}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent:.0f}">'
        f'<i style="width:{percent:.1f}%"></i></div>'
    )


def _figures(progress: Progress, words: Words) -> list[str]:
    """Percent, how much, how fast and how long, as far as they are known."""
    figures = []
    if progress.total:
        figures.append(f"{100 * progress.done // progress.total} %")
        if progress.unit == "bytes":
            figures.append(words.of.format(done=human(progress.done), total=human(progress.total)))
        else:
            figures.append(words.of.format(done=progress.done, total=words.parts.format(count=progress.total)))
    if progress.rate and progress.unit == "bytes":
        figures.append(words.rate.format(rate=human(progress.rate)))
    if progress.seconds_left is not None:
        figures.append(words.left.format(time=spoken(words, progress.seconds_left)))
    return figures
