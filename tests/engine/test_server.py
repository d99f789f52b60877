"""The socket and the worker's thread with a scripted model: who gets which message, and what a connection's end does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgpack
import pytest

from services.engine.engine import Engine
from services.engine.server import LONG, Server
from services.engine.worker import Worker
from services.shared import wire
from tests.engine.scripted import Reply, ScriptedModel, script

GREEDY = wire.Sampling(temperature=0)
HELLO = wire.Hello("/models/scripted", 1000, 4000, 4, 1, "a test", "<think>", "</think>", "0")
ENDLESS = script("", then=ord("x"))


class SlowModel(ScriptedModel):
    """Takes a moment for each step, unless it is cut short."""

    def __init__(self, reply: Reply, seconds: float) -> None:
        super().__init__(reply, cells=4000, slots=8, step=256)
        self.seconds = seconds
        self.aborts = 0
        self._flag = threading.Event()

    def decode(self, chunks: list) -> list[list[int]]:  # type: ignore[type-arg]
        if self._flag.wait(self.seconds):
            self.aborts += 1
            self.abort_next = 1
        return super().decode(chunks)

    def abort(self) -> None:
        self._flag.set()

    def rearm(self) -> None:
        self._flag.clear()


class Running:
    """A served engine."""

    def __init__(self, path: Path, engine: Engine, model: SlowModel, server: Server, worker: Worker) -> None:
        self.path, self.engine, self.model, self.server, self.worker = path, engine, model, server, worker
        self.failed = threading.Event()

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_unix_connection(self.path))
        assert await client.next() == HELLO
        return client

    async def idle(self) -> None:
        """Wait until nothing runs or waits."""
        await until(lambda: not self.engine._sequences)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = wire.Decoder()
        self._messages: list[wire.Message] = []

    def send(self, *messages: wire.Message) -> None:
        self.writer.write(b"".join(map(wire.encode, messages)))

    def ask(self, name: str, text: str = "q", **fields: object) -> None:
        self.send(wire.Generate(name, ((False, text), (True, "<answer>")), GREEDY, **fields))  # type: ignore[arg-type]

    async def next(self) -> wire.Message | None:
        """The next message, None at the connection's end."""
        while not self._messages:
            try:
                data = await asyncio.wait_for(self.reader.read(1 << 16), 20)
            except ConnectionError:
                return None
            if not data:
                return None
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    async def until(self, kind: type) -> wire.Message:
        """The next message of this kind; the others are dropped."""
        while not isinstance(message := await self.next(), kind):
            assert message is not None, "the connection was closed"
        return message

    async def closed(self) -> bool:
        """Read to the end, which must come."""
        while await self.next() is not None:
            pass
        return True


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        await asyncio.sleep(0.002)


@asynccontextmanager
async def serving(path: Path, reply: Reply, seconds: float = 0.0, queue: int = 100) -> AsyncIterator[Running]:
    server = Server(path, HELLO, lambda name: wire.Observed(name, len(engine.scheduler.running), 0, engine.kv.used, 0.0, 0, 0, 0))
    model = SlowModel(reply, seconds)
    engine = Engine(model, context=1000, cells=4000, sequences=4, slots=8, step=256, queue=queue, emit=server.emit)
    running: Running
    worker = Worker(engine, model, failed=lambda: running.failed.set())
    server.worker, server.engine, engine.flush = worker, engine, server.flush
    running = Running(path, engine, model, server, worker)
    worker.start()
    task = asyncio.create_task(server.serve())
    await until(path.exists)
    try:
        yield running
    finally:
        worker.stop()
        await asyncio.to_thread(worker.join, 20)
        task.cancel()


def scene(play: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(play(), 60)

    asyncio.run(bounded())


def test_who_comes_hears_at_once_whether_it_is_accepted(path: Path) -> None:
    """And not when the step under way has ended: until then a client of the API has no header of its answer."""

    async def play() -> None:
        async with serving(path, ENDLESS, seconds=30, queue=2) as running:
            client = await running.connect()
            client.ask("first")
            await client.until(wire.Accepted)
            await until(lambda: running.engine.kv.free_slots == 3)  # its step is under way, and takes half a minute
            began = time.monotonic()
            for number in range(6):
                client.ask(f"{number}", max_tokens=1)
            told = [await client.next() for _ in range(6)]
            client.ask("long", "x" * 1000)
            told.append(await client.next())
            assert time.monotonic() - began < 10 and running.engine.decode_seconds == 0
            assert [type(message).__name__ for message in told] == ["Accepted"] * 5 + ["Failed"] * 2
            assert [message.code for message in told[5:]] == ["overloaded", "context_length_exceeded"]  # type: ignore[union-attr]
            running.model.seconds = 0
            client.send(wire.Cancel("first"))  # cuts it short
            for _ in range(5):
                await client.until(wire.Finished)
            await running.idle()
            client.ask("more", max_tokens=1)  # nothing is left of those who came
            assert isinstance(await client.until(wire.Finished), wire.Finished) and not running.engine._coming

    scene(play)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engine.sock"


def test_a_request_is_answered(path: Path) -> None:
    async def play() -> None:
        async with serving(path, script("hi")) as running:
            client = await running.connect()
            client.ask("a")
            assert await client.next() == wire.Accepted("a", 2)
            assert await client.next() == wire.Delta("a", "h", False, 1)
            assert await client.next() == wire.Delta("a", "i", False, 2)
            assert isinstance(await client.next(), wire.Finished)
            await running.idle()

    scene(play)


def test_answers_find_their_connection(path: Path) -> None:
    """Two clients may use the same ids."""

    async def play() -> None:
        async with serving(path, lambda tokens: tokens[len(tokens) - 2 - (len(tokens) - 2) // 2]) as running:
            clients = [await running.connect() for _ in range(3)]
            for number, client in enumerate(clients):
                client.ask("same", str(number), max_tokens=2)
            for number, client in enumerate(clients):
                delta = await client.until(wire.Delta)
                assert delta.text == str(number)
                await client.until(wire.Finished)

    scene(play)


def test_count_and_observe(path: Path) -> None:
    async def play() -> None:
        async with serving(path, ENDLESS, 0.01) as running:
            client = await running.connect()
            client.send(wire.Count("c", ((True, "<answer>"), (False, "<answer>"))), wire.Observe("o"))
            replies = [await client.next(), await client.next()]
            assert wire.Counted("c", 9) in replies
            assert any(isinstance(reply, wire.Observed) and (reply.id, reply.running) == ("o", 0) for reply in replies)
            client.ask("a")
            await client.until(wire.Delta)
            client.send(wire.Observe("p"))
            observed = await client.until(wire.Observed)
            assert observed.running == 1 and observed.cells_used >= 2

    scene(play)


def test_after_a_cancel_nothing_more_comes_and_the_id_is_free(path: Path) -> None:
    async def play() -> None:
        async with serving(path, ENDLESS) as running:
            client = await running.connect()
            for number in range(30):
                client.ask("again", "q" * (number + 1), max_tokens=number % 3)
                client.send(wire.Cancel("again"))
            client.ask("again", "the last", max_tokens=3)
            events = []
            while not isinstance(events[-1] if events else None, wire.Finished):
                events.append(await client.next())
            assert events[0] == wire.Accepted("again", 9), "an event of a cancelled request"
            assert [event.text for event in events if isinstance(event, wire.Delta)] == ["x"] * 3
            await running.idle()

    scene(play)


def test_the_end_of_a_cancelled_request_is_not_that_of_a_later_one(path: Path) -> None:
    """What the worker had said before it heard of the cancel arrives after the id has been taken again."""

    async def play() -> None:
        async with serving(path, ENDLESS, 0.005) as running:
            client = await running.connect()
            client.ask("again")
            await client.until(wire.Delta)
            (connection,) = running.server._connections.values()
            stale = connection.active["again"]
            client.send(wire.Cancel("again"))
            client.ask("again", max_tokens=3)
            await until(lambda: connection.active.get("again", stale) != stale)
            running.server._deliver(stale, wire.Finished("again", "stop", 0, 0, 777, 0, 0.0, 0.0, 0.0))
            assert (await client.until(wire.Finished)).generated_tokens == 3

    scene(play)


def test_an_id_in_use_closes_the_connection_and_frees_its_requests(path: Path) -> None:
    async def play() -> None:
        async with serving(path, ENDLESS, 0.005) as running:
            other, client = await running.connect(), await running.connect()
            other.ask("a")
            await other.until(wire.Delta)
            client.ask("a")
            client.ask("a")
            assert await client.closed()
            await until(lambda: len(running.engine._sequences) == 1)
            await other.until(wire.Delta)

    scene(play)


def test_a_request_cuts_short_what_is_read_for_nobody(path: Path) -> None:
    async def play() -> None:
        async with serving(path, script("ok"), 3.0) as running:
            client = await running.connect()
            client.send(wire.Prepare("p", ((False, "p" * 900),)))
            await until(lambda: running.engine.yielding)
            began = time.monotonic()
            client.ask("a")
            await until(lambda: running.model.aborts == 1)
            assert time.monotonic() - began < 2
            await client.until(wire.Delta)
            assert running.model.steps == 2  # the one that was cut short, and the request's first

    scene(play)


def test_what_shall_be_prepared_must_be_a_prompt(path: Path) -> None:
    async def play() -> None:
        async with serving(path, script("ok")) as running:
            client = await running.connect()
            client.send(wire.Prepare("p", ("no", "prompt")))  # type: ignore[arg-type]
            assert await client.closed()

    scene(play)


def test_a_hang_up_frees_everything(path: Path) -> None:
    async def play() -> None:
        async with serving(path, ENDLESS, 0.005) as running:
            client = await running.connect()
            for number in range(10):
                client.ask(f"r{number}")
            await until(lambda: len(running.engine.scheduler.running) == 4 and len(running.engine.scheduler.waiting) == 6)
            began = time.monotonic()
            client.writer.close()
            await running.idle()
            assert time.monotonic() - began < 3, "the answers went on to their end"  # which takes 13 s
            assert running.engine.kv.free_slots == 4 and running.model.open_samplers == 0
            await until(lambda: not running.server._connections)

    scene(play)


def test_a_cancel_cuts_a_long_step_short(path: Path) -> None:
    async def play() -> None:
        async with serving(path, ENDLESS, 10.0) as running:
            client = await running.connect()
            client.ask("a")
            await until(lambda: bool(running.engine.scheduler.running))
            began = time.monotonic()
            client.send(wire.Cancel("a"))
            await running.idle()
            assert time.monotonic() - began < 2
            assert running.model.aborts == 1

    scene(play)


def test_cancels_that_mean_nothing_cut_nothing_short(path: Path) -> None:
    async def play() -> None:
        async with serving(path, script("ok"), 0.05) as running:
            client, storm = await running.connect(), await running.connect()
            client.ask("a")
            await client.until(wire.Accepted)
            while not running.model.steps or running.engine._sequences:
                storm.send(*[wire.Cancel(name) for name in ("a", "unknown", "")])
                await asyncio.sleep(0.001)
            assert running.model.aborts == 0

    scene(play)


def test_hasty_clients_do_not_keep_a_patient_one_from_its_answer(path: Path) -> None:
    """Others ask and hang up without end; each cut step costs the patient one its part of it."""

    async def play() -> None:
        async with serving(path, script("hello"), 0.1) as running:
            patient, hasty = await running.connect(), await running.connect()
            patient.ask("a")
            await patient.until(wire.Accepted)
            done, number = asyncio.create_task(patient.until(wire.Finished)), 0
            while not done.done():
                number += 1
                hasty.ask(f"r{number}")
                await asyncio.sleep(0.01)
                hasty.send(wire.Cancel(f"r{number}"))
                assert number < 600, "the patient one starves"
            assert (await done).generated_tokens == 6

    scene(play)


def frame(name: str, **fields: object) -> bytes:
    """A message of any shape."""
    return bytes(msgpack.packb([name, fields]))


GOOD = {"id": "a", "prompt": [[False, "q"], [True, "<answer>"]]}
BROKEN = {
    "no msgpack": b"\xc1\xc1\xc1\xc1",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a number": msgpack.packb(5),
    "an unknown message": frame("Reboot", id="a"),
    "an unknown field": frame("Cancel", id="a", force=True),
    "a missing field": frame("Generate", id="a"),
    "fields that are none": msgpack.packb(["Cancel", 5]),
    "a field without a name": msgpack.packb(["Cancel", {5: 5}]),
    "a name that is none": msgpack.packb([{}, {}]),
    "a message for clients": wire.encode(HELLO),
    "a message that is a part": wire.encode(wire.Sampling()),
    "an id that is too long": frame("Cancel", id="x" * 101),
    "an id with a line break": frame("Cancel", id="a\nb"),
    "an id that is no text": frame("Generate", **{**GOOD, "id": 5}),
    "an id that is a table": frame("Generate", **{**GOOD, "id": {"a": 1}}),
    "an id that is a list": frame("Observe", id=["a"]),
    "sampling of another version": frame("Generate", **GOOD, sampling={"mirostat": 2}),
    "sampling that is none": frame("Generate", **GOOD, sampling=7),
    "a count of nothing": frame("Count", id="a", prompt=None),
    "half of a surrogate pair": b"\x92\xa6Cancel\x81\xa2id\xa3\xed\xa0\x80",
    "lists without end": b"\x91" * 100_000,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_garbage_closes_only_its_own_connection(path: Path, data: bytes) -> None:
    async def play() -> None:
        async with serving(path, ENDLESS, 0.005) as running:
            other, client = await running.connect(), await running.connect()
            other.ask("a")
            await other.until(wire.Delta)
            client.writer.write(data)
            assert await client.closed()
            await other.until(wire.Delta)
            assert running.worker.is_alive() and not running.failed.is_set()

    scene(play)


INVALID = {
    "a prompt that is text": {"prompt": "hello"},
    "a prompt of texts": {"prompt": ["hello"]},
    "a part without a mark": {"prompt": [["hello"]]},
    "a part with a number": {"prompt": [[True, 5]]},
    "a part of bytes": {"prompt": [[True, b"\xff"]]},
    "a mark that is a number": {"prompt": [[1, "hello"]]},
    "no prompt": {"prompt": None},
    "an empty prompt": {"prompt": []},
    "max_tokens below zero": {"max_tokens": -1},
    "max_tokens that is text": {"max_tokens": "5"},
    "max_tokens that is a float": {"max_tokens": 5.0},
    "stop that is text": {"stop": "a"},
    "stop that is empty": {"stop": [""]},
    "stop that is a number": {"stop": [5]},
    "ignore_eos that is text": {"ignore_eos": "no"},
    "no sampling": {"sampling": None},
} | {
    f"{name} {value!r}": {"sampling": {name: value}}
    for name in ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
    for value in (float("nan"), float("inf"), float("-inf"), 1e30, -1e30, "1", None, True, [])
}
INVALID |= {f"top_k {value!r}": {"sampling": {"top_k": value}} for value in (-1, 2**31, 1.5, float("nan"), None, "5")}
INVALID |= {f"seed {value!r}": {"sampling": {"seed": value}} for value in (1.5, "5", float("nan"), True)}
INVALID |= {"repeat_penalty 0": {"sampling": {"repeat_penalty": 0.0}}, "temperature below zero": {"sampling": {"temperature": -0.1}}}


def test_requests_that_make_no_sense_are_refused_and_the_connection_stays(path: Path) -> None:
    async def play() -> None:
        async with serving(path, script("ok")) as running:
            client = await running.connect()
            for number, (name, fields) in enumerate(INVALID.items()):
                if "sampling" in fields and fields["sampling"] is None:
                    continue  # the decoder refuses it, see above
                client.writer.write(frame("Generate", **{**GOOD, "id": f"r{number}", **fields}))
                refused = await client.next()
                assert isinstance(refused, wire.Failed) and (refused.id, refused.code) == (f"r{number}", "invalid"), (name, refused)
            client.ask("sane")
            await client.until(wire.Finished)

    scene(play)


ODD = {
    "huge max_tokens": {"max_tokens": 2**63},
    "many stop strings": {"stop": [chr(0x4E00 + n) for n in range(5000)]},
    "long stop strings": {"stop": ["x" * 100_000 + "y", "x" * 100_000]},
    "NUL bytes": {"prompt": [[False, "\0\0"], [True, "\0<answer>\0"]]},
    "thousands of parts": {"prompt": [[bool(n % 2), "ab"[n % 2]] for n in range(400)]},
    "empty parts": {"prompt": [[True, ""]] * 1000 + [[True, "<answer>"]]},
    "huge seeds": {"sampling": {"seed": 2**64 - 1}},
    "negative seeds": {"sampling": {"seed": -(2**63)}},
    "whole numbers for floats": {"sampling": {"temperature": 1, "top_p": 1}},
}


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD.keys())
def test_odd_but_valid_requests_are_answered(path: Path, fields: dict[str, object]) -> None:
    async def play() -> None:
        async with serving(path, lambda tokens: ord("z")) as running:
            client = await running.connect()
            client.writer.write(frame("Generate", **{"max_tokens": 5, **GOOD, **fields}))
            await client.until(wire.Finished)

    scene(play)


def test_a_client_that_does_not_read_is_let_go(path: Path) -> None:
    async def play() -> None:
        async with serving(path, script("ok")) as running:
            deaf = await running.connect()
            with pytest.raises(ConnectionError):
                for _ in range(1000):
                    deaf.send(*[wire.Observe("n" * 100)] * 1000)
                    await deaf.writer.drain()
            client = await running.connect()
            client.ask("a")
            await client.until(wire.Finished)
            await until(lambda: len(running.server._connections) == 1)

    scene(play)


def test_tokenizing_a_huge_prompt_stops_nobody(path: Path) -> None:
    async def play() -> None:
        async with serving(path, script("ok")) as running:
            held, plain = threading.Event(), running.model.vocabulary.plain
            running.model.vocabulary.plain = lambda text: (text != "huge" or held.wait(20)) and plain(text)  # type: ignore[method-assign]
            client = await running.connect()
            client.ask("huge", "huge")
            client.ask("a")
            assert (await client.until(wire.Finished)).id == "a"
            client.send(wire.Cancel("huge"), wire.Observe("o"))
            await client.until(wire.Observed)
            held.set()
            client.ask("b", "huge")
            assert [(await client.next()).id for _ in range(4)] == ["b"] * 4  # type: ignore[union-attr]
            assert running.engine.prompt_tokens == 2 + 5

    scene(play)


def test_nor_do_many_of_them(path: Path) -> None:
    async def play() -> None:
        async with serving(path, script("ok")) as running:
            held, plain = threading.Event(), running.model.vocabulary.plain
            running.model.vocabulary.plain = lambda text: held.wait(20) and [120] * 1000 if len(text) > LONG else plain(text)  # type: ignore[method-assign]
            client = await running.connect()
            for number in range(5):
                client.ask(f"huge {number}", "x" * (LONG + 1))
            client.ask("a")
            assert (await client.until(wire.Finished)).id == "a" and not held.is_set()
            held.set()
            refused = [await client.until(wire.Failed) for _ in range(5)]
            assert {failed.code for failed in refused} == {"context_length_exceeded"}

    scene(play)


def test_a_failure_of_the_model_tells_everybody_and_ends_the_worker(path: Path) -> None:
    async def play() -> None:
        async with serving(path, ENDLESS, 0.005) as running:
            client = await running.connect()
            client.ask("a")
            client.ask("b")
            await client.until(wire.Delta)
            running.model._reply = lambda tokens: 1 // 0
            failed = [await client.until(wire.Failed), await client.until(wire.Failed)]
            assert {(f.id, f.code) for f in failed} == {("a", "internal"), ("b", "internal")}
            assert await asyncio.to_thread(running.failed.wait, 5)

    scene(play)


def test_stopping_tells_everybody(path: Path) -> None:
    async def play() -> None:
        async with serving(path, ENDLESS, 0.3) as running:
            client = await running.connect()
            for number in range(6):
                client.ask(f"r{number}")
            await until(lambda: len(running.engine._sequences) == 6)
            running.worker.stop()
            assert {(await client.until(wire.Failed)).code for _ in range(6)} == {"shutdown"}

    scene(play)
