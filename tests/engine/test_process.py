"""A real engine process over its socket: waiting, hanging up, signals, and that nothing sent to it kills it."""

from __future__ import annotations

import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from services.shared import wire
from tests.engine.process import GREEDY, PATIENCE, Client, EngineProcess, engine, wait_for
from tests.vocabularies import smollm2_gguf

QUESTION = "鸡兔同笼,共有 35 个头,94 条腿,请问鸡和兔各有多少只?"


@pytest.fixture(scope="module")
def running(demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with engine(tmp_path_factory.mktemp("engine"), demo_volume, ENGINE__SEQUENCES=4, ENGINE__QUEUE=20) as process:
        yield process


@pytest.fixture
def client(running: EngineProcess) -> Iterator[Client]:
    connected = running.connect()
    yield connected
    connected.close()


def published(volume: Path, gguf: Path) -> None:
    """A prepared model as init leaves it: the manifest last, then `current`."""
    directory = volume / "models/some/q4"
    directory.mkdir(parents=True)
    (directory / "model.gguf").symlink_to(gguf)
    (directory / "manifest.json").write_text("{}")
    (volume / "current").symlink_to("models/some/q4")


def idle(client: Client) -> bool:
    seen = client.observe()
    return seen.running == seen.waiting == 0


def answered(client: Client, name: str = "sane") -> str:
    """The engine still answers as it should."""
    client.ask(name, QUESTION, max_tokens=20)
    text = ""
    while not isinstance(message := client.until(wire.Delta, wire.Finished, wire.Failed), wire.Finished):
        assert isinstance(message, wire.Delta), message
        if message.id == name:
            text += message.text
    return text


def test_the_greeting_tells_what_is_served(client: Client, demo_volume: Path) -> None:
    hello = client.hello
    assert Path(hello.model) == (demo_volume / "current").resolve()
    assert (hello.context, hello.cells, hello.sequences, hello.threads) == (4096, 16384, 4, 1)
    assert (hello.think_start, hello.think_end) == ("<think>", "</think>")
    assert "threads" in hello.threads_reason


def test_eight_users_at_once(client: Client) -> None:
    names = [f"user {number}" for number in range(8)]
    for name in names:
        client.ask(name, QUESTION, max_tokens=40)
    texts, ends = dict.fromkeys(names, ""), {}
    while len(ends) < 8:
        message = client.until(wire.Delta, wire.Finished)
        if isinstance(message, wire.Delta):
            texts[message.id] += message.text
        else:
            ends[message.id] = message
    assert len(set(texts.values())) == 1 and "设鸡有 x 只" in texts["user 0"]
    assert all(end.generated_tokens == 40 and end.queue_seconds >= 0 for end in ends.values())
    observed = client.observe()
    assert observed.running == observed.waiting == observed.waited == 0 and observed.tokens_per_second > 0
    assert observed.cells_used > 0 and observed.memory > 50e6 and observed.generated_tokens >= 320


def test_count_is_what_a_request_is_charged(client: Client) -> None:
    prompt = ((True, "<｜User｜>"), (False, "</think>鸡🐔" * 50), (True, "<｜Assistant｜>"))
    client.send(wire.Count("c", prompt), wire.Generate("g", prompt, GREEDY, max_tokens=1))
    counted, accepted = client.until(wire.Counted), client.until(wire.Accepted, wire.Finished)
    if isinstance(accepted, wire.Accepted):
        accepted = client.until(wire.Finished)
    assert counted.tokens == accepted.prompt_tokens > 200


def test_a_hang_up_frees_all_its_sequences(running: EngineProcess, client: Client) -> None:
    gone = running.connect()
    for number in range(10):
        gone.ask(f"r{number}", QUESTION, ignore_eos=True)
    wait_for(lambda: (seen := client.observe()).running == 4 and seen.waiting == 6 and seen.waited > 0)
    gone.close()
    wait_for(lambda: idle(client))


def test_a_model_that_is_published_later_is_waited_for(demo_volume: Path, home: Path) -> None:
    volume = home / "volume"
    with engine(home, volume) as process:
        wait_for(lambda: "waiting for init" in process.text())
        assert not process.socket.exists()
        published(volume, (demo_volume / "current/model.gguf").resolve())
        assert answered(process.connect())
        assert process.text().count("waiting for init") == 1
    with engine(home, volume) as process:  # and its socket, left by the killed one, is in nobody's way
        assert answered(process.connect())


def test_waiting_ends_at_once_on_a_signal(home: Path) -> None:
    with engine(home, home / "volume") as process:
        wait_for(lambda: "waiting for init" in process.text())
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(5) == 0


def test_a_broken_model_ends_it_with_a_clear_line(home: Path) -> None:
    (home / "broken.gguf").write_bytes(b"GGUF, but not really")
    published(home / "volume", home / "broken.gguf")
    with engine(home, home / "volume") as process:
        assert process.process.wait(PATIENCE) == 1
        assert "llama.cpp can't load it; prepare the model again" in process.text()


def test_a_wrong_setting_ends_it_with_a_clear_line(home: Path) -> None:
    with engine(home, home / "volume", ENGINE__CONTEXT=0) as process:
        assert process.process.wait(PATIENCE) == 2
        assert "CLOISTER_ENGINE__CONTEXT must be from 64" in process.text()
    deep = home / ("d" * 120)
    deep.mkdir()
    with engine(deep, home / "volume") as process:
        assert process.process.wait(PATIENCE) == 2
        assert "longer than 107 bytes" in process.text()


def test_the_socket_is_for_its_owner_only(running: EngineProcess, client: Client) -> None:
    assert running.socket.stat().st_mode & 0o777 == 0o600


@pytest.mark.alone
def test_a_cancel_within_250_ms_during_a_long_prefill(home: Path) -> None:
    """Real weights and one step of 2048 tokens, which takes seconds. Timed from the cancel to the idle engine."""
    published(home / "volume", smollm2_gguf())
    prompt = ((True, "<|im_start|>user\n"), (False, "one two three four " * 1800), (True, "<|im_end|>\n<|im_start|>assistant\n"))
    with engine(home, home / "volume", ENGINE__BATCH=2048) as process:
        client, times = process.connect(), []
        assert client.hello.think_end is None and client.hello.context == 8192
        for number in range(3):
            client.send(wire.Generate(f"r{number}", prompt, GREEDY))
            assert client.until(wire.Accepted).prompt_tokens > 7000
            wait_for(lambda: client.observe().running)
            time.sleep(0.3 + 0.2 * number)  # well inside of the first step
            began = time.monotonic()
            client.send(wire.Cancel(f"r{number}"))
            wait_for(lambda: idle(client))
            times.append(time.monotonic() - began)
            assert client.observe().cells_used < 2048, "the step had ended already"
        print("cancelled after", ", ".join(f"{1000 * t:.0f} ms" for t in times))
        assert min(times) < 0.25, times
        client.send(wire.Generate("after", (prompt[0], (False, "Hi"), prompt[2]), GREEDY, max_tokens=3))
        assert client.until(wire.Finished).generated_tokens == 3


def test_a_signal_ends_it_within_5_s_and_the_streams_are_told(demo_volume: Path, home: Path) -> None:
    with engine(home, demo_volume, ENGINE__SEQUENCES=4) as process:
        client = process.connect()
        for number in range(8):
            client.ask(f"r{number}", QUESTION, ignore_eos=True)
        client.until(wire.Delta)
        began = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        told = [message for message in client.rest() if isinstance(message, wire.Failed)]
        assert process.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 5
        assert {(m.id, m.code) for m in told} == {(f"r{number}", "shutdown") for number in range(8)}
        assert not process.socket.exists()
        assert "stopped" in process.text()


def test_a_signal_while_it_tokenizes_or_loads_ends_it_as_well(demo_volume: Path, home: Path) -> None:
    with engine(home, demo_volume) as process:
        client = process.connect()
        client.ask("huge", " " * 3_000_000)
        assert client.observe().waiting == 0
        began = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 5
    with engine(home, demo_volume) as process:
        wait_for(lambda: "threads" in process.text().rpartition("stopped")[2])
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(5) in (0, -signal.SIGTERM)


def test_killed_it_can_be_started_again_at_once(demo_volume: Path, home: Path) -> None:
    with engine(home, demo_volume) as process:
        client = process.connect()
        client.ask("a", QUESTION, ignore_eos=True)
        client.until(wire.Delta)
        process.process.send_signal(signal.SIGKILL)
        assert not any(isinstance(message, wire.Finished) for message in client.rest())
    with engine(home, demo_volume) as process:
        assert answered(process.connect())


def test_no_text_reaches_the_log(running: EngineProcess, client: Client) -> None:
    client.ask("log", QUESTION + " zebra-crossing", max_tokens=30, stop=("giraffe",))
    client.until(wire.Finished)
    client.ask("x", "zebra-crossing " * 3000)
    assert client.until(wire.Failed).code == "context_length_exceeded"
    text = running.text()
    assert "request=log" in text and "finished" in text
    assert not [word for word in ("zebra", "giraffe", "鸡", "设", "🐔") if word in text]


def test_a_prompt_of_megabytes_is_refused_with_its_numbers_while_others_go_on(client: Client) -> None:
    client.ask("huge", "x" * 2_000_000)
    client.ask("small", QUESTION, max_tokens=10)
    first = client.until(wire.Finished, wire.Failed)
    assert first.id == "small"
    refused = client.until(wire.Failed)
    assert refused.code == "context_length_exceeded" and refused.prompt_tokens > 200_000 and refused.limit == 4096


# --- whatever is sent to it ---

TEXTS = [
    "",
    "\0",
    "\0" * 1000,
    "</think>" * 300,
    "<think>",
    "鸡" * 3000,
    "🐔" * 500,
    "\uffff\ufffe",
    "a" * 100_000,
    " " * 30_000,
    "\n\r\n\t",
]
NUMBERS: list[object] = [
    0, 1, -1, 0.5, 1.0, 2.0, 1e-12, 1e300, -1e300, 1e-300, float("nan"), float("inf"), -float("inf"),
    2**31 - 1, 2**31, 2**63, -(2**63), None, "1", True, [], {},
]  # fmt: skip


def odd_request(source: random.Random) -> bytes:
    """A request with some odd fields, as msgpack."""
    sampling = {name: source.choice(NUMBERS) for name in wire.Sampling.__dataclass_fields__ if source.random() < 0.15}
    text = source.choice(TEXTS) if source.random() < 0.5 else QUESTION
    prompt: object = [[True, "<｜User｜>"], [False, text], [source.random() < 0.9, "<｜Assistant｜>"]]
    fields: dict[str, object] = {
        "id": source.choice(["a", "b", f"r{source.randrange(10**6)}", "", "\0", "x" * 10_000]),
        "prompt": source.choice([[], [[False, ""]], "text", None, [[1, 2]], [["a"]]]) if source.random() < 0.1 else prompt,
        "sampling": sampling,
        "max_tokens": source.choice(NUMBERS) if source.random() < 0.3 else source.randint(1, 12),
        "stop": source.choice([["x" * 100_000] * 16, [""], "stop", [5], ["\0"], ["。", "鸡"]]) if source.random() < 0.3 else [],
        "ignore_eos": source.choice(NUMBERS) if source.random() < 0.1 else source.random() < 0.3,
        "in_thought": source.random() < 0.5,
    }
    for name in list(fields):
        if source.random() < 0.01:
            del fields[name]
    return bytes(msgpack.packb(["Generate", fields]))


def odd_bytes(source: random.Random) -> bytes:
    """A message, a damaged one, or noise."""
    match source.randrange(12):
        case 0:
            return source.randbytes(source.randint(1, 200))
        case 1:
            data = bytearray(odd_request(source)[:5000])
            for _ in range(source.randint(1, 4)):
                data[source.randrange(len(data))] = source.randrange(256)
            return bytes(data)
        case 2:
            kind = source.choice(["Hello", "Sampling", "Accepted", "Count", "Observe", "Cancel", "Failed", "nothing"])
            return bytes(msgpack.packb([kind, {source.choice(["id", "prompt", "x"]): source.choice([*NUMBERS, "a", [[True, "a"]]])}]))
        case 3 | 4:
            return wire.encode(wire.Cancel(source.choice(["a", "b", "unknown", ""])))
        case 5:
            return wire.encode(wire.Count("c", ((False, source.choice(TEXTS)),))) + wire.encode(wire.Observe("o"))
        case _:
            return odd_request(source)


def test_twenty_seconds_of_odd_messages(running: EngineProcess, client: Client) -> None:
    """Random requests, values and noise on many connections that come and go; afterwards everything is as before."""
    before, source = answered(client, "before"), random.Random(20261124)
    connections: list[socket.socket] = []
    sent, ends = 0, time.monotonic() + 20
    while time.monotonic() < ends:
        if len(connections) < 4:
            connections.append(socket.socket(socket.AF_UNIX))
            connections[-1].connect(str(running.socket))
            connections[-1].setblocking(False)
        peer = source.choice(connections)
        try:
            peer.send(odd_bytes(source))
            sent += 1
            while peer.recv(1 << 20):
                if source.random() < 0.5:
                    break
            gone = source.random() < 0.05
        except BlockingIOError:
            gone = False
        except ConnectionError:
            gone = True
        if gone:
            peer.close()
            connections.remove(peer)
        assert running.process.poll() is None, running.text()[-2000:]
        time.sleep(0.001)
    for peer in connections:
        peer.close()
    print(f"{sent} messages")
    assert sent > 300
    wait_for(lambda: idle(client))
    assert answered(client, "after") == before
    assert "Traceback" not in running.text()
    assert not [word for word in ("can't go on", "鸡", "🐔", "xxxxx") if word in running.text()]


def test_the_log_is_one_line_an_event(running: EngineProcess, client: Client) -> None:
    """Whatever name a client gives its request."""
    client.ask("x\n2026-01-01T00:00:00Z error engine forged", QUESTION, max_tokens=2)
    assert client.rest() == []
    assert "forged" not in running.text()
