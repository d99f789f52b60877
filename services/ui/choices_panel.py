"""The settings: a button beside the question, the dialog that it opens, and the component by which the browser hands in what is chosen.

Owns the components, their event, and the dialog in the visitor's language with the model's own values. What is chosen stands in no HTML:
the browser keeps it and fills it in (assets/choices.js). What may be chosen is for choices.py.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from services.ui import choices
from services.ui.choices import Bounds
from services.ui.client import Status
from services.ui.texts import Words

ICON = (
    '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M2.5 6h8m5 0h2M2.5 14h2m5 0h8"/>'
    '<circle cx="13" cy="6" r="2.4"/><circle cx="7" cy="14" r="2.4"/></svg>'
)
# The names of the events have to stand in the script, else Gradio does not know them.
_VIEW = 'cloister.choices.draw(element, props, trigger); watch("value", () => cloister.choices.redraw())  // "submit"'
_KEPT = "cloister.choices.join(props)"


class ChoicesPanel:
    """Made inside of a gr.Blocks, where the button is to stand. The dialog lies over the page and takes no place in it. `kept` is an
    input of events: what is chosen, for choices.parse."""

    def __init__(self) -> None:
        self.button = gr.HTML("", elem_id="choices-button", js_on_load=None, apply_default_css=False)
        self.view = gr.HTML("", elem_id="choices-view", html_template="", js_on_load=_VIEW, apply_default_css=False)
        self.kept = gr.HTML(None, html_template="", js_on_load=_KEPT, visible="hidden")

    def connect(self, asked: Callable[..., Any], language: gr.BrowserState, **how: Any) -> None:
        """`asked(language, request)` makes the dialog anew each time that it is opened: the model may have changed."""
        self.view.submit(asked, [language], [self.view], **how)


def button(words: Words) -> str:
    """What opens it."""
    name, changed = escape(words.choices.open), escape(words.choices.changed)
    return (
        f'<button type="button" aria-haspopup="dialog" aria-label="{name}" title="{name}" data-name="{name}" data-changed="{changed}">'
        f"{ICON}</button>"
    )


def show(now: Status, words: Words) -> str:
    """All that stands in the dialog."""
    w, model = words.choices, now.told.at("model")
    context = model.number("context") or choices.MOST_TOKENS
    tokens = {name: Bounds(choices.BOUNDS[name].least, context, whole=True) for name in ("max_tokens", "thinking_budget")}
    figures = [
        _number("temperature", choices.BOUNDS["temperature"], model.number("defaults", "temperature"), words),
        _number("top_p", choices.BOUNDS["top_p"], model.number("defaults", "top_p"), words),
        _thinking(words),
        _number("thinking_budget", tokens["thinking_budget"], w.unlimited, words),
        _number("max_tokens", tokens["max_tokens"], model.number("defaults", "max_tokens"), words),
        _adapter(model.text("title") or model.text("name"), [item.text() for item in model.items("adapters")], words),
    ]
    close = escape(w.close)
    return (
        f'<header><h2 id="choices-title">{escape(w.open)}</h2>'
        f'<button type="button" class="close" aria-label="{close}" title="{close}"></button></header>'
        f'<p class="hint">{escape(w.here)}</p>{_system(words)}<div class="figures">{"".join(figures)}</div>'
        f'<footer><button type="button" class="reset" data-done="{escape(w.was_reset)}" data-undo="{escape(w.undo)}">{escape(w.reset)}'
        f'</button><p class="said" role="status"></p></footer>'
        + ('<i hidden class="known"></i>' if model else "")  # only then the browser knows which adapters there are
    )


def _system(words: Words) -> str:
    w, allowed = words.choices, words.choices.some_text.format(most=f"{choices.LONGEST:,}")
    box = (
        f'<textarea rows="3" placeholder="{escape(w.system_empty)}" data-longest="{choices.LONGEST}" '
        f"{_described('system', _sentences(w.wrong, allowed))}></textarea>"
    )
    return _field("system", w.system, box, w.system_note)


def _number(name: str, bounds: Bounds, own: float | str | None, words: Words) -> str:
    w = words.choices
    template = w.whole_number if bounds.whole else w.any_number
    allowed = template.format(least=_figure(bounds.least), most=_figure(bounds.most))
    value = w.own_unknown if own is None else own if isinstance(own, str) else _figure(own)
    box = (
        f'<input type="text" inputmode="{"numeric" if bounds.whole else "decimal"}" autocomplete="off" placeholder="{escape(value)}" '
        f'data-least="{bounds.least:g}" data-most="{bounds.most:.12g}" {"data-whole" if bounds.whole else ""} '
        f"{_described(name, _sentences(w.wrong, allowed))}>"
    )
    known = w.own.format(value=value) if own is not None else ""
    return _field(name, getattr(w, name), box, _sentences(getattr(w, f"{name}_note"), allowed, known))


def _thinking(words: Words) -> str:
    w = words.choices
    options = {"": w.thinking_own, "true": w.thinking_on, "false": w.thinking_off}
    return _field("thinking", w.thinking, _select("thinking", options), w.thinking_note)


def _adapter(model: str, adapters: list[str], words: Words) -> str:
    """Nothing, where there is nothing to choose."""
    w = words.choices
    options = {"": model} | {name: name for name in adapters if name}
    return _field("adapter", w.adapter, _select("adapter", options), w.adapter_note) if len(options) > 1 else ""


def _select(name: str, options: dict[str, str]) -> str:
    told = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options.items())
    return f"<select {_described(name)}>{told}</select>"


def _field(name: str, label: str, box: str, note: str) -> str:
    return (
        f'<div class="field"><label for="choices-{name}">{escape(label)}</label>{box}'
        f'<p class="wrong" id="choices-{name}-wrong" role="alert"></p><p class="hint" id="choices-{name}-note">{escape(note)}</p></div>'
    )


def _described(name: str, wrong: str = "") -> str:
    said = f' data-wrong="{escape(wrong)}"' if wrong else ""
    return f'id="choices-{name}" name="{name}" aria-describedby="choices-{name}-wrong choices-{name}-note"{said}'


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _sentences(*texts: str) -> str:
    """One after the other; Chinese ones stand without a space between them."""
    return "".join(text if text.endswith("。") else f"{text} " for text in texts if text).strip()
