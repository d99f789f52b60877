"""The components through which the browser and the page's server hand a conversation to one another.

The browser (assets/talk.js) owns the conversation: the whole of it goes to the server with each event, and only what changed comes
back. Nothing of them is ever seen.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import gradio as gr

from services.ui.conversation import Stage, Turn
from services.ui.reading import LARGEST
from services.ui.texts import Words

# The names of the events have to stand in the script, else Gradio does not know them.
_WHOLE = 'cloister.talk.join(props, trigger)  // "submit", "again", "show", "proceed"'
_NEWS = 'watch("value", () => cloister.talk.hear(props.value))'
_FILES = "cloister.waiting.join(props)"
_WORDS = 'cloister.talk.speak(props.value); watch("value", () => cloister.talk.speak(props.value))'


class Kept:
    """`whole` is an input of events: the conversation. `news` is an output: what changed in it. `files` is an input: those that go with
    the next question. `words` follows the language.

    The browser triggers `whole.submit` to have another conversation shown; `whole.again`, `whole.show` and `whole.proceed` with the
    id of a turn to have it answered again, shown, or gone on with.
    """

    def __init__(self) -> None:
        self.whole = _unseen(None, _WHOLE)
        self.news = _unseen(None, _NEWS)
        self.files = _unseen([], _FILES)
        self.words = _unseen(None, _WORDS)


def words(words: Words) -> dict[str, Any]:
    """What the scripts say, in one language, and what a turn looks like: files that are imported are held to it."""
    shape = {"turn": dataclasses.asdict(Turn("")), "stages": list(get_args(Stage))}
    return {
        "again": words.regenerate,
        "shape": shape,
        "files": {**dataclasses.asdict(words.files), "largest": LARGEST},
        **dataclasses.asdict(words.library),
    }


def turn(event: gr.EventData) -> str:
    """The id of the turn that an event of the browser's scripts is about."""
    data = event._data
    return str(data.get("turn", "")) if isinstance(data, dict) else ""


def _unseen(value: Any, script: str) -> gr.HTML:
    return gr.HTML(value, html_template="", js_on_load=script, visible="hidden")
