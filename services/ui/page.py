"""The page: what happens when one of its components is touched.

Owns no components (layout), no words (texts), no looks (assets), no answers (chat), and keeps nothing of a visitor: the
conversation is handed in by the browser with each event and handed back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from html import escape
from typing import Any

import gradio as gr

from services.ui import attachment, choices, choices_panel, kept, panel, transcript
from services.ui import conversation as conversations
from services.ui import status as statuses
from services.ui.chat import Chat
from services.ui.conversation import Conversation
from services.ui.history import History
from services.ui.layout import Layout, title
from services.ui.texts import WORDS, Language, Words, preferred

# Answers that Gradio lets run at once. Its own 40 would keep the next visitor waiting without a word; the API's queue has words.
AT_ONCE = 1000
LOOK = 0.02  # seconds between two looks into the queue

Updates = Sequence[Any]


def build(chat: Chat, watch: statuses.Watch, history: History) -> gr.Blocks:
    """The page over these answers and this status, now and lately."""
    return _Page(chat, watch, history).blocks


class _Page:
    def __init__(self, chat: Chat, watch: statuses.Watch, history: History) -> None:
        self._chat, self._watch, self._history = chat, watch, history
        self._switched: dict[str, Language] = {}  # sessions that changed the language in the middle of an answer
        self.blocks: gr.Blocks
        with gr.Blocks(title="Cloister", analytics_enabled=False) as self.blocks:
            self._on = Layout()
            self._connect()
        self.blocks.max_threads = AT_ONCE
        self.blocks.queue(default_concurrency_limit=None)
        # Gradio looks a thousand times a second whether there is something to do: a twentieth of a core, idle.
        self.blocks._queue.sleep_when_free = self.blocks._queue.progress_update_sleep_when_free = LOOK

    def _connect(self) -> None:
        """What happens when."""
        on = self._on
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        direct = {**quiet, "queue": False}
        answer = {**quiet, "concurrency_limit": None}
        told = [on.kept.whole, on.language]
        asking = [on.answering, on.choices.kept, *told]
        self.blocks.load(self._open, [on.language], [*on.spoken, *on.state], **direct)
        on.switch.click(self._switch, told, [*on.spoken, *on.state, on.chatbot, on.speed], **direct)
        on.timer.tick(self._tick, [on.language, on.answering], [*on.state, on.answering], **direct)
        on.answering.change(None, on.answering, js="(answering) => { if (!answering) cloister.talk.settle(); }")
        on.kept.whole.submit(self._restore, told, on.flow, **answer)
        on.kept.whole.show(self._go, [on.answering, *told], on.flow, **direct)

        gr.on([on.question.submit, on.send.click], self._ask, [on.question, on.kept.files, *asking], on.flow, **answer)
        for number, example in enumerate(on.examples):
            example.click(self._example(number), asking, on.flow, **answer)
        on.kept.whole.again(self._again, asking, on.flow, **answer)
        on.kept.whole.proceed(self._proceed, asking, on.flow, **answer)
        on.chatbot.option_select(self._again, asking, on.flow, **answer)
        on.chatbot.edit(self._edit, asking, on.flow, **answer)
        on.stop.click(self._stop, None, None, **direct)
        on.new.click(None, js="() => cloister.talk.fresh()")
        on.panel.connect(self._panel, on.language, **direct)
        on.choices.connect(self._settings, on.language, **direct)

    # The words

    async def _open(self, language: str, request: gr.Request) -> Updates:
        chosen = _language(language, request)
        return [*await self._speak(chosen, request), *await self._account(chosen)]

    async def _switch(self, conversation: Any, language: str, request: gr.Request) -> Updates:
        chosen: Language = "en" if _language(language, request) == "zh" else "zh"
        words, shown = WORDS[chosen], conversations.parse(conversation)
        if self._chat.running(_session(request)):
            self._switched[_session(request)] = chosen
        look = [*await self._speak(chosen, request), *await self._account(chosen)]
        if self._chat.running(_session(request)):
            return [*look, gr.skip(), gr.skip()]  # the answer on its way brings them
        return [*look, transcript.messages(shown, words), statuses.speed(shown.turns[-1].speed, words) if shown.turns else ""]

    async def _speak(self, language: Language, request: gr.Request) -> Updates:
        words = WORDS[language]
        return [
            language,
            title(words, leave=bool(getattr(request.state, "person", ""))),
            words.new,
            words.other,
            gr.update(placeholder=words.placeholder, label=words.placeholder),
            words.send,
            words.stop,
            *(
                f'<button type="button" class="example"><b>{escape(example.title)}</b><span>{escape(example.question)}</span></button>'
                for example in words.examples
            ),
            kept.words(words),
            panel.button(words),
            choices_panel.button(words),
            choices_panel.show(await self._watch.current(), words),
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

    async def _panel(self, language: str, request: gr.Request) -> str:
        return panel.show(await self._watch.current(), self._history, _words(language, request))

    async def _settings(self, language: str, request: gr.Request) -> str:
        return choices_panel.show(await self._watch.current(), _words(language, request))

    async def _restore(self, conversation: Any, language: str, request: gr.Request) -> Updates:
        """Show what the browser has kept: after a reload, or in another's place. An answer that is on its way there has nobody
        who waits for it."""
        if running := self._chat.running(_session(request)):
            running.stop(None)
            await running.finished.wait()
            await asyncio.sleep(5 * LOOK)  # for what Gradio still says of it
        shown = conversations.parse(conversation)
        if shown.turns and shown.turns[-1].under_way:
            shown.turns[-1].stage = "lost"
        return self._end(shown, _words(language, request))

    async def _go(self, data: gr.EventData, answering: str, conversation: Any, language: str, request: gr.Request) -> Updates:
        """To another version of a question or an answer."""
        shown = conversations.parse(conversation)
        if (turn := shown.find(kept.turn(data))) and not answering:
            shown.show(turn)
        return self._show(shown, _words(language, request), answering=answering)

    # The conversation

    async def _ask(
        self, question: str, files: Any, answering: str, chosen: Any, conversation: Any, language: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        shown, files = conversations.parse(conversation), attachment.parse(files)
        if answering or not (question.strip() or files):
            return
        shown.ask(question.strip(), files)
        async for updates in self._answer(shown, chosen, language, request, question=""):
            yield updates

    def _example(self, number: int) -> Any:
        async def ask(answering: str, chosen: Any, conversation: Any, language: str, request: gr.Request) -> AsyncGenerator[Updates, None]:
            shown = conversations.parse(conversation)
            if answering:
                return
            shown.ask(_words(language, request).examples[number].question)
            async for updates in self._answer(shown, chosen, language, request):
                yield updates

        return ask

    async def _again(
        self, data: gr.EventData, answering: str, chosen: Any, conversation: Any, language: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Another version of the answer that the event names, or of the last."""
        shown = conversations.parse(conversation)
        if not shown.turns or answering:
            return
        shown.again(shown.find(kept.turn(data)))
        async for updates in self._answer(shown, chosen, language, request):
            yield updates

    async def _proceed(
        self, data: gr.EventData, answering: str, chosen: Any, conversation: Any, language: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Go on with the last answer, where it was cut or stopped."""
        shown = conversations.parse(conversation)
        turn = shown.find(kept.turn(data))
        if answering or not turn or turn is not shown.turns[-1] or not turn.unfinished:
            return
        turn.stage, turn.number = "reading", 0
        async for updates in self._answer(shown, chosen, language, request, go_on=True):
            yield updates

    async def _edit(
        self, data: gr.EditData, answering: str, chosen: Any, conversation: Any, language: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        shown, question = conversations.parse(conversation), str(data.value).strip()
        place = transcript.turn_at(shown, _words(language, request), int(data.index))  # type: ignore[arg-type]
        if answering or not 0 <= place < len(shown.turns):
            return
        turn = shown.turns[place]
        if not question or question == turn.question:
            yield self._show(shown, _words(language, request))
            return
        shown.edit(turn, question)
        async for updates in self._answer(shown, chosen, language, request):
            yield updates

    async def _answer(
        self, shown: Conversation, chosen: Any, language: str, request: gr.Request, *, go_on: bool = False, **first: str
    ) -> AsyncGenerator[Updates, None]:
        """Answer the last question, or go on with its answer; the page follows."""
        words, session = _words(language, request), _session(request)
        shows, hides = gr.update(visible=True), gr.update(visible=False)
        above = transcript.above(shown, words)
        yield [*self._show(shown, words, above, answering="yes")[:4], first.get("question", gr.skip()), hides, shows, hides, shows]
        try:
            async with contextlib.aclosing(self._chat.answer(session, shown, choices.parse(chosen), go_on=go_on)) as moments:
                async for moment in moments:
                    if session in self._switched and words is not (other := WORDS[self._switched[session]]):
                        words, above = other, transcript.above(moment, other)
                    under_way = moment.turns[-1].under_way
                    yield self._show(moment, words, above, answering="yes") if under_way else self._end(moment, words, above)
        finally:
            self._switched.pop(session, None)

    def _show(self, shown: Conversation, words: Words, above: list[transcript.Message] | None = None, *, answering: str = "") -> Updates:
        speed = shown.turns[-1].speed if shown.turns else 0.0
        head = [
            gr.update(value=transcript.messages(shown, words, above), visible=bool(shown.turns)),
            shown.news(),
            answering,
            statuses.speed(speed, words),
        ]
        return [*head, *[gr.skip()] * (len(self._on.flow) - len(head))]

    def _end(self, shown: Conversation, words: Words, above: list[transcript.Message] | None = None) -> Updates:
        """Nothing is under way; the welcome stands where there is no conversation yet."""
        begun, empty = gr.update(visible=bool(shown.turns)), gr.update(visible=not shown.turns)
        return [*self._show(shown, words, above)[:4], gr.skip(), empty, begun, gr.update(visible=True), gr.update(visible=False)]

    async def _stop(self, request: gr.Request) -> None:
        if running := self._chat.running(_session(request)):
            running.stop()


def _language(stored: str, request: gr.Request) -> Language:
    """What the visitor has chosen with the switch, else what the browser asks for."""
    if stored in WORDS:
        return stored
    return preferred(request.headers.get("accept-language", ""))


def _words(stored: str, request: gr.Request) -> Words:
    return WORDS[_language(stored, request)]


def _session(request: gr.Request) -> str:
    return request.session_hash or ""
