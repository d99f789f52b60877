"""The page: which components there are, where they stand, and what happens when one is touched.

Owns no words (texts), no looks (assets), no answers (chat), and keeps nothing of a visitor: the conversation is handed in
by the browser with each event and handed back.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncGenerator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from services.ui import conversation as conversations
from services.ui import status as statuses
from services.ui import transcript
from services.ui.chat import Chat
from services.ui.conversation import Conversation
from services.ui.texts import WORDS, Language, Words, preferred

TICK = 1.5  # seconds between two looks at the model's state
KEPT = 1.0  # seconds between two times that the browser is handed a growing conversation to keep
CLICK = "element.addEventListener('click', event => event.target.closest('button') && trigger('click'))"
KEEP = (Path(__file__).parent / "assets" / "kept.js").read_text(encoding="utf-8")

Updates = Sequence[Any]


def build(chat: Chat, watch: statuses.Watch) -> gr.Blocks:
    """The page over these answers and this status."""
    return _Page(chat, watch).blocks


class _Page:
    def __init__(self, chat: Chat, watch: statuses.Watch) -> None:
        self._chat, self._watch = chat, watch
        self._switched: dict[str, Language] = {}  # sessions that changed the language in the middle of an answer
        self.blocks: gr.Blocks
        with gr.Blocks(title="Cloister", analytics_enabled=False) as self.blocks:
            self._place()
            self._connect()

    def _place(self) -> None:
        """The components, from top to bottom. Words come with the first event, when the visitor's language is known."""
        self.language = gr.BrowserState("", storage_key="cloister-language", secret="cloister")
        self.conversation = gr.HTML([], elem_id="kept", html_template="", js_on_load=KEEP, visible="hidden")
        self.answering = gr.Textbox("", visible=False)
        self.timer = gr.Timer(TICK)
        with gr.Row(elem_id="header"):
            self.title = _html(_title(None), "title")
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
                latex_delimiters=transcript.DELIMITERS,
                feedback_options=None,
                layout="bubble",
            )
        with gr.Column(elem_id="foot"):
            self.strip = _html("", "strip")
            with gr.Row(elem_id="composer"):
                self.question = gr.Textbox(
                    elem_id="question", show_label=False, container=False, lines=1, max_lines=8, autofocus=True, scale=1
                )
                self.send = gr.Button("", elem_id="send", min_width=40)
                self.stop = gr.Button("", elem_id="stop", min_width=40, visible=False)
            with gr.Row(elem_id="facts"):
                self.facts = _html("", "model")
                self.speed = _html("", "speed")

    def _connect(self) -> None:
        """What happens when."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        direct = {**quiet, "queue": False}
        answer = {**quiet, "concurrency_limit": None}
        told = [self.conversation, self.language]
        self.spoken = [self.language, self.title, self.new, self.switch, self.question, self.send, self.stop, *self.examples]
        self.state = [self.banner, self.hello, self.card, self.strip, self.facts]
        self.progress = [self.chatbot, self.conversation, self.answering, self.speed]
        self.flow = [*self.progress, self.question, self.welcome, self.new, self.send, self.stop]

        self.blocks.load(self._open, [self.language], [*self.spoken, *self.state], **direct)
        self.switch.click(self._switch, told, [*self.spoken, *self.state, self.chatbot, self.speed], **direct)
        self.timer.tick(self._tick, [self.language, self.answering], [*self.state, self.answering], **direct)
        self.answering.change(self._settle, [self.answering, *told], self.flow, **direct)
        self.conversation.submit(self._restore, told, self.flow, **direct)

        gr.on([self.question.submit, self.send.click], self._ask, [self.question, self.answering, *told], self.flow, **answer)
        for number, example in enumerate(self.examples):
            example.click(self._example(number), [self.answering, *told], self.flow, **answer)
        gr.on([self.chatbot.retry, self.chatbot.option_select], self._again, [self.answering, *told], self.flow, **answer)
        self.chatbot.edit(self._edit, [self.answering, *told], self.flow, **answer)
        self.stop.click(self._stop, None, None, **direct)
        self.new.click(self._new, None, self.flow, **answer)

    # The words

    async def _open(self, language: str, request: gr.Request) -> Updates:
        chosen = _language(language, request)
        return [*self._speak(chosen), *await self._account(chosen)]

    async def _switch(self, conversation: Any, language: str, request: gr.Request) -> Updates:
        chosen: Language = "en" if _language(language, request) == "zh" else "zh"
        words, shown = WORDS[chosen], conversations.parse(conversation)
        if self._chat.running(_session(request)):
            self._switched[_session(request)] = chosen
        speed = statuses.speed(shown.turns[-1].speed, words) if shown.turns else ""
        return [*self._speak(chosen), *await self._account(chosen), transcript.messages(shown, words), speed]

    def _speak(self, language: Language) -> Updates:
        words = WORDS[language]
        return [
            language,
            _title(words),
            words.new,
            words.other,
            gr.update(placeholder=words.placeholder, label=words.placeholder),
            words.send,
            words.stop,
            *(
                f'<button type="button" class="example"><b>{escape(example.title)}</b><span>{escape(example.question)}</span></button>'
                for example in words.examples
            ),
        ]

    # The model's state

    async def _account(self, language: Language) -> Updates:
        words, status = WORDS[language], await self._watch.current()
        return [
            statuses.banner(status, words),
            statuses.welcome(status, words),
            statuses.card(status, words),
            statuses.strip(status, words),
            statuses.facts(status, words),
        ]

    async def _tick(self, language: str, answering: str, request: gr.Request) -> Updates:
        # The page believes that it is being answered, but it is not: the connection was lost in between.
        lost = answering and not self._chat.running(_session(request))
        return [*await self._account(_language(language, request)), "" if lost else gr.skip()]

    async def _settle(self, answering: str, conversation: Any, language: str, request: gr.Request) -> Updates:
        """After an answer; does something only where its end never arrived."""
        shown = conversations.parse(conversation)
        if answering or not shown.turns or not shown.turns[-1].under_way:
            return [gr.skip()] * len(self.flow)
        return await self._restore(conversation, language, request)

    async def _restore(self, conversation: Any, language: str, request: gr.Request) -> Updates:
        """After a reload: shows what the browser has kept."""
        shown = conversations.parse(conversation)
        if not shown.turns:
            return [gr.skip()] * len(self.flow)
        if shown.turns[-1].under_way:
            shown.turns[-1].stage = "lost"
        return self._end(shown, _words(language, request))

    # The conversation

    async def _ask(
        self, question: str, answering: str, conversation: Any, language: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        shown = conversations.parse(conversation)
        if not question.strip() or answering:
            return
        shown.ask(question.strip())
        async for updates in self._answer(shown, language, request, question=""):
            yield updates

    def _example(self, number: int) -> Any:
        async def ask(answering: str, conversation: Any, language: str, request: gr.Request) -> AsyncGenerator[Updates, None]:
            shown = conversations.parse(conversation)
            if answering:
                return
            shown.ask(_words(language, request).examples[number].question)
            async for updates in self._answer(shown, language, request):
                yield updates

        return ask

    async def _again(self, answering: str, conversation: Any, language: str, request: gr.Request) -> AsyncGenerator[Updates, None]:
        shown = conversations.parse(conversation)
        if not shown.turns or answering:
            return
        shown.again()
        async for updates in self._answer(shown, language, request):
            yield updates

    async def _edit(
        self, data: gr.EditData, answering: str, conversation: Any, language: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        shown, question = conversations.parse(conversation), str(data.value).strip()
        turn = transcript.turn_at(shown, _words(language, request), int(data.index))  # type: ignore[arg-type]
        if answering or not 0 <= turn < len(shown.turns):
            return
        if not question or question == shown.turns[turn].question:
            yield self._show(shown, _words(language, request))
            return
        shown.edit(turn, question)
        async for updates in self._answer(shown, language, request):
            yield updates

    async def _answer(self, shown: Conversation, language: str, request: gr.Request, **first: str) -> AsyncGenerator[Updates, None]:
        """Answer the last question; the page follows."""
        words, session = _words(language, request), _session(request)
        shows, hides = gr.update(visible=True), gr.update(visible=False)
        yield [*self._show(shown, words, answering="yes")[:4], first.get("question", gr.skip()), hides, shows, hides, shows]
        handed = time.monotonic()
        try:
            async with contextlib.aclosing(self._chat.answer(session, shown)) as moments:
                async for moment in moments:
                    words = WORDS[self._switched[session]] if session in self._switched else words
                    if not moment.turns[-1].under_way:
                        yield self._end(moment, words)
                        continue
                    updates = list(self._show(moment, words, answering="yes"))
                    if time.monotonic() - handed < KEPT:
                        updates[self.flow.index(self.conversation)] = gr.skip()
                    else:
                        handed = time.monotonic()
                    yield updates
        finally:
            self._switched.pop(session, None)

    def _show(self, shown: Conversation, words: Words, *, answering: str = "") -> Updates:
        last = shown.turns[-1]
        head = [
            gr.update(value=transcript.messages(shown, words), visible=True),
            shown.dump(),
            answering,
            statuses.speed(last.speed, words),
        ]
        return [*head, *[gr.skip()] * (len(self.flow) - len(head))]

    def _end(self, shown: Conversation, words: Words) -> Updates:
        shows, hides = gr.update(visible=True), gr.update(visible=False)
        return [*self._show(shown, words)[:4], gr.skip(), hides, shows, shows, hides]

    async def _stop(self, request: gr.Request) -> None:
        if running := self._chat.running(_session(request)):
            running.stop()

    async def _new(self, request: gr.Request) -> Updates:
        if running := self._chat.running(_session(request)):
            running.stop(None)
            await running.finished.wait()
        shows, hides = gr.update(visible=True), gr.update(visible=False)
        return [gr.update(value=[], visible=False), [], "", "", gr.skip(), shows, hides, shows, hides]


def _html(value: str, elem_id: str, *, js: str | None = None) -> gr.HTML:
    """Our own markup, without Gradio's looks or scripts."""
    return gr.HTML(value, elem_id=elem_id or None, js_on_load=js, apply_default_css=False)


def _title(words: Words | None) -> str:
    """The name, the light switch, and the words that assets/page.js puts where Gradio has none of ours."""
    names = (
        "copy",
        "copied",
        "edit",
        "regenerate",
        "submit",
        "cancel",
        "to_the_end",
        "conversation",
        "connection",
        "language",
        "placeholder",
    )
    said = escape(json.dumps({name: getattr(words, name) for name in names}, ensure_ascii=False)) if words else ""
    theme = escape(words.theme) if words else ""
    return (
        f'<div class="name" data-language="{words.tag if words else ""}" data-words="{said}">'
        '<svg viewBox="0 0 32 24" aria-hidden="true"><path d="M1 23V11a7 7 0 0 1 14 0v12M17 23V11a7 7 0 0 1 14 0v12M0 23h32"/></svg>'
        f'<span>Cloister</span><button id="theme" type="button" aria-label="{theme}" title="{theme}"></button></div>'
    )


def _language(stored: str, request: gr.Request) -> Language:
    """What the visitor has chosen with the switch, else what the browser asks for."""
    if stored in WORDS:
        return stored
    return preferred(request.headers.get("accept-language", ""))


def _words(stored: str, request: gr.Request) -> Words:
    return WORDS[_language(stored, request)]


def _session(request: gr.Request) -> str:
    return request.session_hash or ""
