"""The sections of the status panel as HTML: what the API tells, in plain words, each figure with its limit or its reason.

What is missing is a dash. Knows nothing of components, plots or walls.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from html import escape

from services.shared.hardware import human
from services.ui.history import History
from services.ui.status import BITS
from services.ui.texts import Words, spoken
from services.ui.texts.panel import PanelWords
from services.ui.told import Told

DASH = "–"
LATELY = 600.0  # seconds
GREAT = {"en": (1e9, 1e6), "zh-CN": (1e8, 1e4)}  # what the words `large` and `small` stand for
WORDS_A_TOKEN, CHARACTERS_A_TOKEN = 0.75, 1.5  # roughly, as words.token says

Row = tuple[str, str, str]  # a term, its value, and what is to be known of it


def now(told: Told, history: History, words: Words) -> str:
    """The figures of this moment."""
    w, engine = words.panel, told.at("engine")
    if not engine:
        return f'<p class="note">{escape(w.no_figures)}</p>'
    cells, all_cells = engine.number("cells_used"), engine.number("cells")
    total, available = told.number("machine", "memory"), told.number("machine", "memory_available")
    used = None if total is None or available is None else total - available
    waiting, longest = engine.number("waiting"), engine.number("waiting_seconds") or 0.0
    lately = history.lately("speed", LATELY)
    tiles: tuple[tuple[str, str, str, str], ...] = (
        (
            w.speed,
            w.per_second.format(speed=figure(engine.number("tokens_per_second"))),
            w.quiet if lately is None else w.lately.format(speed=w.per_second.format(speed=figure(lately))),
            w.speed_note,
        ),
        (
            w.answering,
            w.of.format(count=figure(engine.number("running")), all=figure(engine.number("sequences"))),
            w.waiting.format(count=figure(waiting), time=spoken(words, longest))
            if waiting
            else DASH
            if waiting is None
            else w.nobody_waits,
            "",
        ),
        (
            w.kv,
            f"{100 * cells / all_cells:.0f} %" if cells is not None and all_cells else DASH,
            w.kv_of.format(used=figure(cells), all=figure(all_cells)),
            w.kv_note,
        ),
        (w.memory, size(engine.number("memory")), w.memory_of.format(used=size(used), all=size(total)), w.memory_note),
    )
    drawn = "".join(
        f"<div><dt>{escape(name)}</dt><dd><b>{escape(value)}</b><span>{escape(more)}</span>{note(about)}</dd></div>"
        for name, value, more, about in tiles
    )
    return f'<dl class="tiles">{drawn}</dl>'


def engine(told: Told, words: Words) -> str:
    """Since when it runs, with what, and what had to give way."""
    w, seen, machine = words.panel, told.at("engine"), told.at("machine")
    there = [(w.limits, _there(machine, w), "")] if machine else []
    if not seen:
        return section("engine", w.engine, there, note(w.no_figures))
    throttled, restarts = seen.number("throttled_seconds"), seen.number("restarts")
    again = w.restarts_some if restarts else w.restarts_none
    return section(
        "engine",
        w.engine,
        [
            (w.since, _past(seen.time("since"), words), moment(seen.time("since"), w)),
            (w.restarts, again.format(count=figure(restarts), time=_past(told.time("since"), words)), ""),
            (w.threads, *_threads(seen, machine, w)),
            *there,
            (w.variant, seen.text("variant") or DASH, ""),
            (w.throttled, w.throttled_some.format(time=spoken(words, throttled)) if throttled else w.throttled_none, ""),
            (w.evicted, w.times.format(count=figure(seen.number("evicted"))), w.evicted_note),
            (w.preempted, w.times.format(count=figure(seen.number("preempted"))), w.preempted_note),
            (
                w.tokens,
                w.tokens_made.format(read=figure(seen.number("prompt_tokens")), written=figure(seen.number("generated_tokens"))),
                words.token,
            ),
        ],
    )


def model(told: Told, words: Words) -> str:
    """What it is."""
    w, card = words.panel, told.at("model")
    if not card:
        return section("model", w.model, [], note(w.no_model))
    count, bytes_, context = card.number("parameters"), card.number("size"), card.number("context") or 0
    quant, trained = card.text("quant"), card.number("context_trained")
    bits = BITS.get(quant, "16" if quant in ("f16", "bf16") else "")
    weighs = w.size.format(size=human(bytes_), bits=f"{8 * bytes_ / count:.1f}") if bytes_ and count else ""
    holds = {"words": _roughly(context * WORDS_A_TOKEN), "characters": _roughly(context * CHARACTERS_A_TOKEN)}
    return section(
        "model",
        w.model,
        [
            (w.name, card.text("title") or DASH, card.text("name")),
            (w.parameters, w.parameters_are.format(count=_great(count, words)), ""),
            (w.quant, quant or DASH, f"{w.quants[bits]} {weighs}"),
            (w.context, w.context_is.format(count=figure(context), **holds), w.context_trained.format(count=figure(trained))),
            (w.adapters, w.comma.join(item.text() for item in card.items("adapters")) or w.adapters_none, ""),
        ],
    )


def provenance(told: Told, words: Words) -> str:
    """Where the file in use came from, and how to know that it is that one."""
    w, card = words.panel, told.at("model")
    if not card:
        return ""
    source, sha256 = card.at("source"), card.text("sha256")
    named = ((w.repo, source.text("repo")), (w.revision, source.text("revision")), (w.commit, source.text("commit")))
    tools = ", ".join(f"{name} {version}" for name, version in card.pairs("tools").items())
    copy = f'<button type="button" class="copy" data-copy="{escape(sha256)}">{escape(w.copy)}</button>' if sha256 else ""
    hash_ = (
        f'<div><dt>{escape(w.sha256)}</dt><dd><code class="hash" id="panel-sha256">{escape(sha256 or DASH)}</code>{copy}'
        f"<span>{escape(w.sha256_note)}</span></dd></div>"
    )
    files = "".join(
        f"<li><b>{escape(file.text('path'))}</b> <span>{escape(size(file.number('size')))}</span>"
        f'<code class="hash">{escape(file.text("sha256"))}</code></li>'
        for file in card.items("files")
    )
    count = len(card.items("files"))
    more = f"<details><summary>{escape(w.files.format(count=count))}</summary><ul>{files}</ul></details>" if files else ""
    rows: list[Row] = [
        (w.source, w.sources.get(source.text("kind"), w.sources[""]), ""),
        *((name, text, "") for name, text in named if text),
        (w.tools, tools or DASH, ""),
        (w.made, moment(card.time("created"), w) or DASH, ""),
    ]
    return section("provenance", w.provenance, rows, hash_, more)


def section(name: str, title: str, rows: Sequence[Row], *more: str) -> str:
    """A heading, its rows, and further HTML: list items first."""
    items = "".join(
        f"<div><dt>{escape(term)}</dt><dd>{escape(value)}{f'<span>{escape(about)}</span>' if about else ''}</dd></div>"
        for term, value, about in rows
    )
    items += "".join(part for part in more if part.startswith("<div>"))
    rest = "".join(part for part in more if not part.startswith("<div>"))
    return f'<section id="panel-{name}"><h3>{escape(title)}</h3>{f"<dl>{items}</dl>" if items else ""}{rest}</section>'


def note(text: str) -> str:
    """A small line, or nothing."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def figure(value: float | None) -> str:
    """A number for people."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def size(value: float | None) -> str:
    """Bytes for people."""
    return DASH if value is None else human(value)


def moment(time: datetime.datetime | None, w: PanelWords) -> str:
    """A date and a time of day, or ""."""
    return w.utc.format(time=f"{time.astimezone(datetime.UTC):%Y-%m-%d %H:%M}") if time else ""


def stretch(words: Words, seconds: float) -> str:
    """A length of time in one unit."""
    if seconds < 60:
        return spoken(words, seconds)
    unit, length = (words.panel.minutes, 60) if seconds < 3600 else (words.panel.hours, 3600)
    return unit.format(count=round(seconds / length))


def _past(time: datetime.datetime | None, words: Words) -> str:
    return spoken(words, (datetime.datetime.now(datetime.UTC) - time).total_seconds()) if time else DASH


def _there(machine: Told, w: PanelWords) -> str:
    cpus, cores, quota = (machine.number(name) for name in ("cpus", "cores", "quota"))
    said = [w.cpus.format(count=figure(cpus)), w.cores.format(count=figure(cores)) if cores else ""]
    said.append(w.quota_none if quota is None else w.quota.format(count=f"{quota:g}"))
    return w.comma.join(part for part in said if part)


def _threads(seen: Told, machine: Told, w: PanelWords) -> tuple[str, str]:
    """How many and why, and when there are fewer at the moment. The reason is the limit that gives that number, as
    services/shared/hardware.py chooses; where none does, the engine's own sentence stands."""
    count, active = seen.number("threads") or 0, seen.number("threads_now") or 0
    quota = machine.number("quota")
    limits: tuple[tuple[float | None, str], ...] = (
        (machine.number("cpus"), w.threads_by_cpus),
        (machine.number("cores"), w.threads_by_cores),
        (None if quota is None else max(1, int(quota)), w.threads_by_quota),
    )
    reason = f"{figure(count)}{w.colon}{seen.text('threads_reason')}"
    if seen.number("threads_wanted"):
        reason = w.threads_set.format(count=figure(count))
    elif limit := next((text for value, text in limits if value == count), ""):
        reason = limit.format(count=figure(count))
    return reason, w.threads_fewer.format(count=figure(active)) if 0 < active < count else ""


def _great(count: float | None, words: Words) -> str:
    large, small = GREAT[words.tag]
    if count is None or count < small:
        return figure(count)
    text, unit = (words.panel.large, large) if count >= large else (words.panel.small, small)
    return text.format(count=f"{count / unit:.3g}")


def _roughly(value: float) -> str:
    """Two digits, and zeros."""
    return f"{float(f'{value:.2g}'):,.0f}"
