"""A real engine process and a plain client of its socket, for tests."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from services.shared import wire
from tests.conftest import ROOT, environment

T = TypeVar("T")
PATIENCE = 60.0  # seconds; the machine may be busy
GREEDY = wire.Sampling(temperature=0)


class EngineProcess:
    """`python -m services.engine` on a volume; `home` holds its socket and its log."""

    def __init__(self, home: Path, volume: Path, **settings: object) -> None:
        self.home = home
        self.log = home / "engine.log"
        self.socket = home / "run" / "engine.sock"
        fixed = {"PATHS__VOLUME": volume, "ENGINE__THREADS": 1}
        env = environment(home, **{**fixed, **settings})
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "services.engine"], cwd=ROOT, env=env, stdout=log, stderr=log)

    def connect(self) -> Client:
        """A connection to the engine, once it listens."""

        def attempt() -> Client | None:
            assert self.process.poll() is None, self.text()
            try:
                return Client(self.socket)
            except (FileNotFoundError, ConnectionRefusedError):
                return None

        return wait_for(attempt)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)


class Client:
    """One connection; `hello` is what the engine greeted it with."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self._decoder = wire.Decoder()
        self._messages: list[wire.Message] = []
        hello = self.next()
        assert isinstance(hello, wire.Hello)
        self.hello = hello

    def send(self, *messages: wire.Message) -> None:
        self.socket.sendall(b"".join(map(wire.encode, messages)))

    def ask(self, name: str, text: str, sampling: wire.Sampling = GREEDY, **fields: object) -> None:
        """A question in R1's format."""
        prompt = ((True, "<｜begin▁of▁sentence｜><｜User｜>"), (False, text), (True, "<｜Assistant｜><think>\n"))
        self.send(wire.Generate(name, prompt, sampling, in_thought=True, **fields))  # type: ignore[arg-type]

    def next(self) -> wire.Message | None:
        """The next message, None at the connection's end."""
        while not self._messages:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                return None
            if not data:
                return None
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    def until(self, *kinds: type) -> wire.Message:
        """The next message of one of these kinds; the others are dropped."""
        while not isinstance(message := self.next(), kinds):
            assert message is not None, "the connection was closed"
        return message

    def rest(self) -> list[wire.Message]:
        """All messages up to the connection's end."""
        return list(iter(self.next, None))

    def observe(self) -> wire.Observed:
        self.send(wire.Observe("observe"))
        observed: wire.Observed = self.until(wire.Observed)
        return observed

    def close(self) -> None:
        self.socket.close()


def wait_for(condition: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """What the condition gives once it gives something."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)
    return found


@contextmanager
def engine(home: Path, volume: Path, **settings: object) -> Iterator[EngineProcess]:
    running = EngineProcess(home, volume, **settings)
    try:
        yield running
    finally:
        running.end()
