"""The chat in a terminal: one question, or a conversation; thinking dimmed, the answer plain.

Only the answer goes to standard output; thinking (where a person can see it), progress and errors go to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine, Mapping
from typing import TextIO

from services.shared import secret
from services.shared.settings import Settings
from services.ui.client import Answer, ApiError, Client, Finished, Queued, Reading, Thought
from services.ui.conversation import Conversation
from services.ui.status import sentence
from services.ui.texts import WORDS, Words, preferred, spoken

DIM, PLAIN, CLEAR = "\x1b[2m", "\x1b[0m", "\r\x1b[K"

# How long to wait for an API that does not answer at all, in seconds: none is no reason to wait when nothing listens.
STARTING_PATIENCE = 3.0


def main(arguments: list[str], config: Settings, environ: Mapping[str, str]) -> int:
    """Run with these command line arguments. The exit code: 0, 1 after an error, 130 after Ctrl-C."""
    words = WORDS[preferred(environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or "")]
    parser = argparse.ArgumentParser(prog="scripts/chat", description=words.terminal_usage)
    parser.add_argument("question", nargs="*", help="the question; all words together")
    parser.add_argument("--url", default=f"http://{_reachable(config.api.host)}:{config.api.port}", help="the API (default: %(default)s)")
    parser.add_argument("--no-thinking", action="store_true", help="do not show the thinking")
    chosen = parser.parse_args(arguments)
    try:
        key = secret.plain(config.ui.key)
    except secret.SecretError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    terminal = Terminal(chosen.url, words, key=key, show_thinking=not chosen.no_thinking and sys.stderr.isatty())
    question = " ".join(chosen.question).strip()
    if not question and not sys.stdin.isatty():
        question = sys.stdin.read().strip()
    with asyncio.Runner() as runner:
        try:
            return terminal.once(runner, question) if question else terminal.converse(runner)
        finally:
            runner.run(terminal.close())


class Terminal:
    """One conversation in a terminal."""

    def __init__(self, url: str, words: Words, *, show_thinking: bool, key: str = "") -> None:
        self._client, self._words = Client(url, key=key), words
        self._conversation = Conversation()
        self._thinking = show_thinking
        self._progress = _Line(sys.stderr)

    async def close(self) -> None:
        await self._client.close()

    def once(self, runner: asyncio.Runner, question: str) -> int:
        """One question, one answer."""
        try:
            runner.run(self._ready())
            runner.run(self._answer(question))
        except ApiError as error:
            self._complain(error)
            return 1
        except KeyboardInterrupt:
            self._progress.clear()
            sys.stdout.write("\n" if sys.stdout.isatty() else "")
            return 130
        return 0

    def converse(self, runner: asyncio.Runner) -> int:
        """Questions and answers until /quit or the end of the input."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  input() gets line editing and history from it
        try:
            model = runner.run(self._ready())
        except ApiError as error:
            self._complain(error)
            return 1
        except KeyboardInterrupt:
            self._progress.clear()
            return 130
        sys.stderr.write(self._dimmed(self._words.terminal_hello.format(model=model)) + "\n")
        while True:
            try:
                question = input("\n> ").strip()
            except EOFError:
                sys.stderr.write("\n")
                return 0
            except KeyboardInterrupt:
                continue
            if question == "/quit":
                return 0
            if question == "/new":
                self._conversation = Conversation()
            elif question:
                self._turn(runner, question)

    def _turn(self, runner: asyncio.Runner, question: str) -> None:
        """One question of a conversation; it stays one whatever happens to the answer."""
        try:
            interrupted = runner.run(self._until_interrupted(self._answer(question)))
        except ApiError as error:
            self._complain(error)
            return
        except KeyboardInterrupt:  # before or after the answer itself
            interrupted = True
        if interrupted:
            self._progress.clear()
            sys.stderr.write(f"\n{self._dimmed(self._words.terminal_stopped)}\n")

    async def _until_interrupted(self, answer: Coroutine[None, None, None]) -> bool:
        """Await the answer; True when Ctrl-C ended it. Cancels it until it ends: a cancel that meets arriving data is lost in the HTTP
        client now and then."""
        interrupted = asyncio.Event()
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(answer)
        waiting = asyncio.ensure_future(interrupted.wait())
        loop.add_signal_handler(signal.SIGINT, interrupted.set)
        try:
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
            while interrupted.is_set() and not task.done():
                task.cancel()
                await asyncio.wait((task,), timeout=0.2)
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            waiting.cancel()
        if task.cancelled():
            return True
        task.result()
        return False

    async def _ready(self) -> str:
        """Wait for the model, showing how far it is; its title.

        Raises:
            ApiError: nothing listens, or the model could not be prepared.
        """
        waited = 0.0
        while True:
            status = await self._client.status()
            if status.state == "ready":
                self._progress.clear()
                return f"{status.model.title} · {status.model.quant}" if status.model else ""
            if status.state == "failed":
                raise ApiError("failed", sentence(status, self._words))
            if status.state == "starting":
                if waited >= STARTING_PATIENCE:
                    raise ApiError("nobody", self._words.terminal_nobody.format(url=self._client.url))
                waited += 0.5
            else:
                waited = 0.0
                step = (status.progress.step if status.progress else None) or status.state
                self._progress.show(sentence(status, self._words), step)
            await asyncio.sleep(0.5)

    async def _answer(self, question: str) -> None:
        """Ask and print as it comes."""
        self._conversation.ask(question)
        turn = self._conversation.turns[-1]
        loop, words = asyncio.get_running_loop(), self._words
        began, dim, last = 0.0, False, ""
        try:
            async with contextlib.aclosing(self._client.stream(self._conversation.messages())) as events:
                async for event in events:
                    match event:
                        case Queued(position):
                            text = words.queued_next if position <= 1 else words.queued.format(before=position - 1)
                            self._progress.show(text)
                        case Reading(done, total):
                            self._progress.show(words.reading_percent.format(percent=100 * done // max(total, 1)))
                        case Thought(text):
                            began = began or loop.time()
                            if self._thinking:
                                self._progress.clear()
                                _write(sys.stderr, text if dim else DIM + text)
                                dim, last = True, text
                            else:
                                self._progress.show(f"{words.thinking} · {spoken(words, loop.time() - began)}")
                        case Answer(text):
                            self._progress.clear()
                            if dim:
                                time = words.thought.format(time=spoken(words, loop.time() - began))
                                _write(sys.stderr, f"{'' if last.endswith(chr(10)) else chr(10)}{time}{PLAIN}\n\n")
                                dim = False
                            turn.answer += text
                            _write(sys.stdout, text)
                        case Finished("length"):
                            self._progress.clear()
                            _write(sys.stderr, f"\n{words.cut}\n")
                        case Finished():
                            pass
        finally:
            self._progress.clear()
            if dim:
                _write(sys.stderr, PLAIN + "\n")
            if turn.answer and not turn.answer.endswith("\n"):
                _write(sys.stdout, "\n")

    def _complain(self, error: ApiError) -> None:
        self._progress.clear()
        if error.code in ("nobody", "failed"):
            text = error.message
        else:
            trouble = self._words.troubles.get(error.code, self._words.troubles[""])
            text = f"{trouble}\n{self._words.detail.format(detail=error.message)}"
        sys.stderr.write(f"{text}\n")

    def _dimmed(self, text: str) -> str:
        return f"{DIM}{text}{PLAIN}" if sys.stderr.isatty() else text


class _Line:
    """One line of progress that replaces itself on a terminal; elsewhere a line for each new step."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._shown, self._step = stream, False, ""

    def show(self, text: str, step: str = "") -> None:
        """Show the text; where it can't be replaced, only if its step is a new one."""
        if self._stream.isatty():
            _write(self._stream, f"{CLEAR}{DIM}{text}{PLAIN}")
            self._shown = True
        elif step and step != self._step:
            _write(self._stream, text + "\n")
            self._step = step

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            _write(self._stream, CLEAR)
            self._shown = False


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def _reachable(host: str) -> str:
    """An address to connect to, for one to listen on."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
