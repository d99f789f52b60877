"""The page's components, from top to bottom, and which of them change together.

Empty of words: those come with the first event, when the visitor's language is known. Knows nothing of what happens then.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape

import gradio as gr

from services.ui import markdown
from services.ui.choices_panel import ChoicesPanel
from services.ui.kept import Kept
from services.ui.panel import Panel
from services.ui.texts import WORDS, Words

TICK = 1.5  # seconds between two looks at the model's state
CLICK = "element.addEventListener('click', event => event.target.closest('button') && trigger('click'))"

# Filled in by assets/gauge.js and assets/files.js: what they show never comes from the server.
FULL = "<p></p>"
GAUGE = '<span class="gauge" role="meter" aria-valuemin="0" hidden><i><b></b></i><span></span></span>'
WAITING = "<ul></ul>"
CLIP = (
    '<button type="button"><svg viewBox="0 0 20 20" aria-hidden="true">'
    '<path d="m15.5 9.2-6 6a3.6 3.6 0 0 1-5.1-5.1l6.6-6.6a2.4 2.4 0 0 1 3.4 3.4l-6.5 6.5a1.2 1.2 0 0 1-1.7-1.7l5.8-5.8"/></svg></button>'
)


class Layout:
    """Made inside of a gr.Blocks. The lists are the outputs of events: `spoken` follows the language, `state` the model's
    state, `flow` the conversation."""

    def __init__(self) -> None:
        self.language = gr.BrowserState("", storage_key="cloister-language", secret="cloister")
        self.kept = Kept()
        self.answering = gr.Textbox("", visible=False)
        self.timer = gr.Timer(TICK)
        with gr.Row(elem_id="header"):
            self.title = _html(title(None), "title")
            self.panel = Panel()
            self.new = gr.Button("", elem_id="new", visible=False)
            self.switch = gr.Button("", elem_id="switch")
        self.banner = _html("", "banner")
        with gr.Column(elem_id="stage"):
            with gr.Column(elem_id="welcome") as self.welcome:
                self.hello = _html("", "hello")
                self.card = _html("", "card")
                with gr.Column(elem_id="examples"):
                    self.examples = [_html("", "", js=CLICK) for _ in WORDS["en"].examples]
            self.chatbot = gr.Chatbot(
                elem_id="chat",
                visible=False,
                show_label=False,
                container=False,
                height="100%",
                editable="user",
                buttons=["copy"],
                group_consecutive_messages=False,
                latex_delimiters=markdown.DELIMITERS,
                feedback_options=None,
                layout="bubble",
            )
        with gr.Column(elem_id="foot"):
            self.strip = _html("", "strip")
            _html(FULL, "full")
            _html(WAITING, "files")
            with gr.Row(elem_id="composer"):
                _html(CLIP, "clip")
                self.choices = ChoicesPanel()
                self.question = gr.Textbox(
                    elem_id="question", show_label=False, container=False, lines=1, max_lines=8, autofocus=True, scale=1
                )
                self.send = gr.Button("", elem_id="send", min_width=40)
                self.stop = gr.Button("", elem_id="stop", min_width=40, visible=False)
            with gr.Row(elem_id="facts"):
                self.facts = _html("", "model")
                self.speed = _html("", "speed")
                _html(GAUGE, "gauge")

        self.spoken = [self.language, self.title, self.new, self.switch, self.question, self.send, self.stop, *self.examples]
        self.spoken.append(self.kept.words)
        self.spoken.append(self.panel.button)
        self.spoken += [self.choices.button, self.choices.view]
        self.state = [self.banner, self.hello, self.card, self.strip, self.facts]
        shown = [self.chatbot, self.kept.news, self.answering, self.speed]
        self.flow = [*shown, self.question, self.welcome, self.new, self.send, self.stop]


def _html(value: str, elem_id: str, *, js: str | None = None) -> gr.HTML:
    """Our own markup, without Gradio's looks or scripts."""
    return gr.HTML(value, elem_id=elem_id or None, js_on_load=js, apply_default_css=False)


def title(words: Words | None, *, leave: bool = False) -> str:
    """The name, the light switch, the way out for somebody who has logged in, and the words that assets/page.js puts where Gradio has
    none of ours."""
    names = (
        "copy",
        "edit",
        "submit",
        "cancel",
        "to_the_end",
        "conversation",
        "connection",
        "language",
        "placeholder",
    )
    said = ""
    if words:
        said = escape(json.dumps({name: getattr(words, name) for name in names} | asdict(words.feel), ensure_ascii=False))
    theme = escape(words.theme) if words else ""
    shelf = escape(words.library.open) if words else ""
    return (
        f'<div class="name" data-language="{words.tag if words else ""}" data-words="{said}">'
        f'<button id="shelf" type="button" aria-label="{shelf}" title="{shelf}" aria-expanded="false" aria-controls="library">'
        '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M3 5h14M3 10h14M3 15h9"/></svg></button>'
        '<svg viewBox="0 0 32 24" aria-hidden="true"><path d="M1 23V11a7 7 0 0 1 14 0v12M17 23V11a7 7 0 0 1 14 0v12M0 23h32"/></svg>'
        f'<span>Cloister</span><button id="theme" type="button" aria-label="{theme}" title="{theme}"></button>'
        f"{_leave(words) if words and leave else ''}</div>"
    )


def _leave(words: Words) -> str:
    said = escape(words.access.leave)
    return (
        f'<form id="leave" method="post" action="./logout"><button type="submit" aria-label="{said}" title="{said}">'
        '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M12 3H4v14h8M8 10h9M14 6.5 17.5 10 14 13.5"/></svg></button></form>'
    )
