"""An engine that says what a test tells it to, over the real wire, and the real API in front of it on a real port.

Both run on one event loop in a thread of their own, so that tests may use blocking clients.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.api.app import create_app
from services.api.server import create_server
from services.shared import manifest, settings, wire
from tests.conftest import environment, free_port

PATIENCE = 60.0  # seconds; the machine may be busy

# A template with its own control tokens, in R1's manner: it opens the thought itself.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}<｜Assistant｜>{{ m.content }}<｜end▁of▁sentence｜>"
    "{% else %}{{ '<｜User｜>' if m.role == 'user' }}{{ m.content }}{% endif %}{% endfor %}{{ '<｜Assistant｜><think>\n' }}"
)
PLAIN_TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}[assistant]"

STARTED = 1_795_503_600.0  # 2026-11-24T07:00:00Z

Step = Callable[[str], wire.Message] | float | Callable[[], None]


def accepted(tokens: int = 7) -> Step:
    return lambda name: wire.Accepted(name, tokens)


def queued(position: int) -> Step:
    return lambda name: wire.Queued(name, position)


def prefill(done: int, total: int, cached: int = 0) -> Step:
    return lambda name: wire.Prefill(name, done, total, cached)


def text(*texts: str) -> list[Step]:
    """Text deltas."""
    return [lambda name, said=said: wire.Delta(name, said, False, 1) for said in texts]  # type: ignore[misc]


def tag(said: str) -> Step:
    """A control or thinking token."""
    return lambda name: wire.Delta(name, said, True, 1)


def finished(reason: str = "stop", **fields: Any) -> Step:
    figures = {"prompt_tokens": 7, "cached_tokens": 2, "generated_tokens": 5, "thought_tokens": 3}
    seconds = {"queue_seconds": 0.5, "prefill_seconds": 0.25, "decode_seconds": 2.0}
    return lambda name: wire.Finished(name, reason, **{**figures, **seconds, **fields})


def failed(code: str, message: str = "a reason", tokens: int = 0, limit: int = 0, retry_after: int = 0) -> Step:
    return lambda name: wire.Failed(name, code, message, tokens, limit, retry_after)


def hold(name: str) -> wire.Message:
    """A step that waits until the request is cancelled."""
    raise AssertionError("never called")


def die(name: str) -> wire.Message:
    """A step at which the engine is killed."""
    raise AssertionError("never called")


class ScriptedEngine:
    """Plays `script` for each request. Times are time.monotonic()."""

    def __init__(self, path: Path, model: Path) -> None:
        self.hello = wire.Hello(
            str(model), 4096, 16384, 4, 2, "limited by a test", "<think>", "</think>", "0", ("poet",), "", STARTED, "haswell"
        )
        self.script: list[Step] = []
        self.requests: list[wire.Generate] = []
        self.prepared: list[wire.Prepare] = []
        self.cancelled: dict[str, float] = {}
        self.observes = True  # answers how it is
        self.waiting = 1
        self.greeting: bytes | None = None  # instead of `hello`
        self.open = 0  # requests that are neither finished nor cancelled
        self._path = path
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def play(self, *steps: Step | list[Step]) -> None:
        """From now on, what every request gets."""
        self.script = [step for entry in steps for step in (entry if isinstance(entry, list) else [entry])]

    def answer(self, *texts: str) -> None:
        """From now on, a whole answer without a thought."""
        self.play(accepted(), tag("</think>"), text(*texts), finished())

    async def start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        """As if killed: no more connections, and those that are open break off."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)
        self.break_off()

    def break_off(self) -> None:
        """All connections break."""
        for task in self._tasks.values():
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        decoder = wire.Decoder()
        writer.write(self.greeting or wire.encode(self.hello))
        try:
            while data := await reader.read(1 << 16):
                for message in decoder.feed(data):
                    self._take(message, writer)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _take(self, message: wire.Message, writer: asyncio.StreamWriter) -> None:
        match message:
            case wire.Generate(id=name):
                self.requests.append(message)
                self.open += 1
                self._tasks[name] = asyncio.create_task(self._play(name, self.script, writer))
                self._tasks[name].add_done_callback(lambda _: self._done(name))
            case wire.Prepare():
                self.prepared.append(message)
            case wire.Cancel(id=name):
                self.cancelled[name] = time.monotonic()
                if name in self._tasks:
                    self._tasks[name].cancel()
            case wire.Count(id=name, prompt=parts):
                writer.write(wire.encode(wire.Counted(name, sum(len(said) for _, said in parts))))
            case wire.Observe(id=name) if self.observes:
                since = {"evicted": 4, "throttled_seconds": 1.5}
                writer.write(wire.encode(wire.Observed(name, self.open, self.waiting, 123, 12.5, 99_000_000, 1000, 2000, **since)))

    def _done(self, name: str) -> None:
        self.open -= 1
        del self._tasks[name]

    async def _play(self, name: str, steps: list[Step], writer: asyncio.StreamWriter) -> None:
        for step in steps:
            if step is hold:
                await asyncio.Event().wait()
            elif step is die:
                self.break_off()
            elif isinstance(step, int | float):
                await asyncio.sleep(step)
            else:
                writer.write(wire.encode(step(name)))  # type: ignore[call-arg]
                await asyncio.sleep(0)


class Stand:
    """The API on `url`, the scripted engine behind it, and the files that init would have written."""

    def __init__(self, home: Path, *, patience: float = PATIENCE, **config: object) -> None:
        self.home = home
        self.port = free_port()
        self.config = settings.load(environment(home, API__PORT=self.port, **config))
        self.url = f"http://127.0.0.1:{self.port}"
        self.model = home / "volume/models/scripted/q4"
        self.model.mkdir(parents=True)
        self.config.paths.progress.parent.mkdir(parents=True, exist_ok=True)
        self.prepare()
        self.app = create_app(self.config)
        self.loop: asyncio.AbstractEventLoop
        self.engine: ScriptedEngine
        self._server = create_server(self.app, "127.0.0.1", self.port, self.app.state.appliance, patience=patience)
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def prepare(self, template: str | None = TEMPLATE, **fields: Any) -> None:
        """Write the manifest of the model that the engine says it has loaded."""
        files = (manifest.File("model.safetensors", 7, "1" * 64),)
        source = manifest.Source("hub", repo="some/scripted", revision="main", commit="c0ffee", files=files)
        card = {
            "name": "scripted",
            "title": "Scripted Model",
            "quant": "q4_k_m",
            "model": manifest.File("model.gguf", 5, "0" * 64),
            "source": source,
            "architecture": "qwen2",
            "parameters": 9,
            "context_length": 8192,
            "chat_template": template,
            "bos_token": "<｜begin▁of▁sentence｜>",
            "eos_token": "<｜end▁of▁sentence｜>",
            "generation": {"temperature": 0.6, "top_p": 0.95},
            "tools": {"cloister": "0.1.0"},
            "created": "2026-11-24T07:00:00Z",
        }
        manifest.Manifest(**{**card, **fields}).write(self.model)

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine = ScriptedEngine(self.config.paths.socket, self.model)
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.005)
        self._started.set()
        await serving
        await self.engine.stop()

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(PATIENCE)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run this on the API's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def engine_up(self) -> None:
        """Start the engine; returns when the API can answer."""
        self.do(self.engine.start())
        until(lambda: self.app.state.appliance.state() == "ready")

    def engine_down(self) -> None:
        self.do(self.engine.stop())
        until(lambda: self.app.state.appliance.engine.hello is None)

    def restart(self) -> None:
        """Another engine, which reads what has been prepared meanwhile."""
        self.engine_down()
        self.engine_up()


@contextmanager
def stand(home: Path, *, engine: bool = True, patience: float = PATIENCE, **config: object) -> Iterator[Stand]:
    """`patience`: seconds that the API has with clients who don't read."""
    standing = Stand(home, patience=patience, **config)
    standing.start()
    try:
        if engine:
            standing.engine_up()
        yield standing
    finally:
        standing.stop()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.002)
