"""The chat in a terminal: as a program in a pipe, and as a person sees it on a real (pseudo) terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ui.texts import EN, ZH
from tests.conftest import ROOT, environment, free_port
from tests.ui import fake as say
from tests.ui.fake import FakeApi

PROGRAM = [sys.executable, "-m", "services.ui", "chat"]


def run(home: Path, *arguments: str, text: str | None = None, language: str = "en_US.UTF-8") -> subprocess.CompletedProcess[str]:
    """The program in a pipe."""
    env = environment(home) | {"LC_ALL": language}
    stdin = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run([*PROGRAM, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False, **stdin)  # type: ignore[call-overload,no-any-return]


class Person:
    """Somebody at a terminal."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.pid, self._tty = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execve(sys.executable, [*PROGRAM, *arguments], environment(home) | {"LC_ALL": "en_US.UTF-8", "TERM": "xterm"})
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._tty, text.encode())

    def until(self, text: str) -> str:
        """What appeared since the last time, up to this text and with it."""
        deadline = time.monotonic() + 60
        while text not in self.seen:
            ready, _, _ = select.select([self._tty], [], [], 1)
            try:
                self.seen += os.read(self._tty, 65536).decode(errors="replace") if ready else ""
            except OSError:  # the program is gone
                break
            assert time.monotonic() < deadline, self.seen
        assert text in self.seen, self.seen
        before, found, self.seen = self.seen.partition(text)
        return before + found

    def leaves(self) -> int:
        """The exit code."""
        while True:
            try:
                if not os.read(self._tty, 65536):
                    break
            except OSError:
                break
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return code


@pytest.fixture
def person(fake: FakeApi, tmp_path: Path) -> Iterator[Person]:
    someone = Person(tmp_path, "--url", fake.url)
    yield someone
    if someone.pid:
        os.kill(someone.pid, signal.SIGKILL)
        os.waitpid(someone.pid, 0)


def test_in_a_pipe_there_is_the_answer_and_nothing_else(fake: FakeApi, tmp_path: Path) -> None:
    done = run(tmp_path, "--url", fake.url, "Can", "cats fly?")
    assert (done.returncode, done.stdout, done.stderr) == (0, "It **can** fly.\n", "")
    assert fake.asked[0]["messages"] == [{"role": "user", "content": "Can cats fly?"}]


def test_a_question_can_come_through_a_pipe(fake: FakeApi, tmp_path: Path) -> None:
    assert run(tmp_path, "--url", fake.url, text="Can cats\nfly?\n").stdout == "It **can** fly.\n"
    assert fake.asked[0]["messages"][0]["content"] == "Can cats\nfly?"


def test_the_port_comes_from_the_settings(fake: FakeApi, tmp_path: Path) -> None:
    env = environment(tmp_path, API__PORT=fake.port)
    done = subprocess.run([ROOT / "scripts/chat", "hello"], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "It **can** fly.\n")


def test_an_error_is_told_with_what_to_do(fake: FakeApi, tmp_path: Path) -> None:
    fake.default = [*say.answer("Half"), say.error("engine_failed", "signal 6")]
    done = run(tmp_path, "--url", fake.url, "q")
    assert (done.returncode, done.stdout) == (1, "Half\n")
    assert EN.troubles["engine_failed"].todo in done.stderr and "signal 6" in done.stderr and "Traceback" not in done.stderr
    fake.default = [say.refuse(400, "context_length_exceeded", "9000 of 8192")]
    done = run(tmp_path, "--url", fake.url, "q", language="zh_CN.UTF-8")
    assert done.returncode == 1 and ZH.troubles["context_length_exceeded"].what in done.stderr and "9000 of 8192" in done.stderr


def test_a_cut_answer_is_marked(fake: FakeApi, tmp_path: Path) -> None:
    fake.default = [*say.answer("Once upon"), *say.end("length")]
    done = run(tmp_path, "--url", fake.url, "q")
    assert (done.returncode, done.stdout) == (0, "Once upon\n") and EN.cut in done.stderr


def test_when_nothing_listens_it_says_how_to_start(tmp_path: Path) -> None:
    done = run(tmp_path, "--url", f"http://127.0.0.1:{free_port()}", "q")
    assert done.returncode == 1 and "scripts/up" in done.stderr and "Traceback" not in done.stderr


def test_it_waits_for_the_model_and_says_how_far_it_is(fake: FakeApi, tmp_path: Path) -> None:
    fake.status = say.preparing("fetch", 30, 100)
    process = subprocess.Popen(
        [*PROGRAM, "--url", fake.url, "q"], cwd=ROOT, env=environment(tmp_path) | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "Preparing the model: Download, 30 %, 30 B of 100 B\n"
    fake.status = say.preparing("convert", 1, 10, unit="tensors")
    assert process.stderr.readline().startswith("Preparing the model: Convert")
    fake.status = say.READY
    assert process.communicate(timeout=60) == ("It **can** fly.\n", "")


def test_a_model_that_failed_ends_it(fake: FakeApi, tmp_path: Path) -> None:
    fake.status = say.failed("the disk is full")
    done = run(tmp_path, "--url", fake.url, "q")
    assert done.returncode == 1 and "the disk is full" in done.stderr


def test_on_a_terminal_the_thinking_is_dimmed_and_the_answer_is_not(person: Person) -> None:
    person.until("> ")
    person.type("Can cats fly?\n")
    shown = person.until("fly.\r\n")
    assert re.search(r"\x1b\[2mOne cat\. One fact\.\r\nThought for 1 s\x1b\[0m\r\n\r\nIt \*\*can\*\* fly\.", shown), shown


def test_a_conversation_remembers_until_new(fake: FakeApi, person: Person) -> None:
    person.until("> ")
    for line in ("one", "two", "/new", "three"):
        person.type(line + "\n")
        if not line.startswith("/"):
            person.until("fly.")
        person.until("> ")
    asked = [[message["content"] for message in body["messages"]] for body in fake.asked]
    assert asked == [["one"], ["one", "It **can** fly.", "two"], ["three"]]
    person.type("/quit\n")
    assert person.leaves() == 0


def test_ctrl_c_stops_the_answer_and_the_conversation_goes_on(fake: FakeApi, person: Person) -> None:
    fake.scripts["long"] = say.endless()
    person.until("> ")
    person.type("long\n")
    person.until("word word")
    person.type("\x03")
    person.until("stopped")
    assert fake.cancelled.wait(20)
    person.until("> ")
    person.type("short\n")
    person.until("fly.")
    assert fake.asked[-1]["messages"][1]["content"].startswith("word word")
    person.until("> ")
    person.type("\x04")
    assert person.leaves() == 0


def test_an_error_does_not_end_the_conversation(fake: FakeApi, person: Person) -> None:
    fake.scripts["boom"] = [say.error("engine_failed", "signal 6")]
    person.until("> ")
    person.type("boom\n")
    person.until("signal 6")
    person.until("> ")
    person.type("fine\n")
    person.until("fly.")


def test_lines_can_be_edited(fake: FakeApi, person: Person) -> None:
    person.until("> ")
    person.type("ca\x1b[Dx\n")  # left arrow
    person.until("fly.")
    assert fake.asked[0]["messages"][0]["content"] == "cxa"


def test_no_thinking_hides_it(fake: FakeApi, tmp_path: Path) -> None:
    someone = Person(tmp_path, "--url", fake.url, "--no-thinking", "q")
    shown = someone.until("fly.")
    assert someone.leaves() == 0
    assert "One cat" not in shown and "Thinking" in shown
