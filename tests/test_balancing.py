"""docker/haproxy.cfg with the real HAProxy and scripted replicas: a conversation stays where it is, goes elsewhere while that one has no
room, and a replica that falls silent takes only its own streams with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.diagnosis.swarm.replicas import read
from tests import haproxy
from tests.conftest import free_port

SUBNET = "127.93.7.0/29"  # six addresses, of which three have a replica
REPLICAS = ("127.93.7.1", "127.93.7.3", "127.93.7.6")
pytestmark = [pytest.mark.alone, haproxy.NEEDED]  # a replica that is late counts as dead


class Replica:
    """Says its address; `room`, `leaving` and `silent` are what a test makes of it."""

    def __init__(self, address: str) -> None:
        self.address, self.room, self.leaving, self.silent, self.asked = address, True, False, False, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lengths = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length:")]
                await reader.readexactly(int(lengths[0]) if lengths else 0)
                await self.answer(head.split()[1], writer)
        writer.close()

    async def answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        while self.silent:
            await asyncio.sleep(0.05)
        if path == "/stream":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                if not self.silent:
                    writer.write(b"5\r\nhello\r\n")
                    await writer.drain()
                await asyncio.sleep(0.05)
        refused = {"/readyz/room": self.leaving or not self.room, "/readyz": self.leaving, "/livez": False}
        status, said = ("404 no", "") if refused.get(path) else ("200 OK", self.address)
        self.asked += path not in refused
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(said)}\r\n\r\n{said}".encode())
        await writer.drain()


class Balanced:
    """HAProxy before the replicas."""

    def __init__(self, port: int, alive: int, replicas: dict[str, Replica]) -> None:
        self.port, self.alive, self.replicas = port, alive, replicas

    async def open(self, path: str, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        return reader, writer

    def ask(self, body: bytes) -> str:
        """Which replica answers; what is no answer is an empty text."""

        async def asked() -> str:
            reader, writer = await self.open("/v1/chat/completions", body)
            answer = (await reader.read()).decode()
            writer.close()
            return answer.rpartition("\r\n")[2] if " 200 " in answer[:16] else ""

        return asyncio.run(asked())

    def statistics(self) -> str:
        """HAProxy's, as CSV."""
        address = f"http://127.0.0.1:{self.alive}/stats;csv"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=20) as answer:
            return str(answer.read().decode())

    def until(self, condition: Any, within: float = 30) -> float:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < within
            time.sleep(0.05)
        return time.monotonic() - began


@pytest.fixture
def balanced(tmp_path: Path) -> Iterator[Balanced]:
    """Three of six addresses are alive."""
    replicas, port = {address: Replica(address) for address in REPLICAS}, free_port()
    loops: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = queue.SimpleQueue()

    async def run() -> None:
        for replica in replicas.values():
            await asyncio.start_server(replica.serve, replica.address, port, limit=1 << 20)
        ended = asyncio.Event()
        loops.put((asyncio.get_running_loop(), ended))
        await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    loop, ended = loops.get(timeout=30)
    try:
        with haproxy.running(tmp_path, SUBNET, port, alive=len(REPLICAS)) as (front, inside):
            yield Balanced(front, inside, replicas)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)


def talk(number: int, turns: int, *, system: str = "", length: int = 0, parts: bool = False, ascii: bool = False) -> bytes:
    """A conversation after so many turns; `ascii`: with other letters as escapes."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for turn in range(turns):
        question = f'{number} asks {turn} "of }} this" 鸡兔同笼' + "x" * length
        messages.append({"role": "user", "content": [{"type": "text", "text": question}] if parts else question})
        if turn < turns - 1:
            messages.append({"role": "assistant", "content": f"answer {turn}"})
    return json.dumps({"model": "any", "stream": False, "messages": messages}, ensure_ascii=ascii).encode()


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "system": {"system": "Be kind."},
    "long": {"length": 40_000},
    "parts": {"parts": True},
    "system and parts": {"system": "Be kind.", "parts": True},
    "escaped": {"ascii": True},
    "escaped with system": {"system": "要友好。", "ascii": True},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_conversation_stays_with_its_replica(balanced: Balanced, kind: dict[str, Any]) -> None:
    homes = [{balanced.ask(talk(number, turns, **kind)) for turns in (1, 2, 3, 4)} for number in range(40)]
    assert all(len(home) == 1 for home in homes)
    assert set.union(*homes) == set(REPLICAS), "each of them has some"


def test_it_goes_elsewhere_while_its_replica_has_no_room(balanced: Balanced) -> None:
    home = balanced.ask(talk(1, 1))
    balanced.replicas[home].room = False
    balanced.until(lambda: balanced.ask(talk(1, 2)) != home)
    balanced.replicas[home].room = True
    balanced.until(lambda: balanced.ask(talk(1, 3)) == home)


def test_it_tells_the_doctor_whom_it_sees(balanced: Balanced) -> None:
    def seen() -> dict[str, str]:
        return {name: row["status"].split()[0] for name, row in read(balanced.statistics()).items()}

    there = {"a1", "a3", "a6"}  # the places of REPLICAS in the subnet
    balanced.until(lambda: {name for name, status in seen().items() if status == "UP"} == there)
    balanced.replicas[REPLICAS[1]].room = False
    balanced.until(lambda: seen()["a3"] == "NOLB")
    assert seen()["a2"] == "DOWN"


def test_it_is_answered_when_nobody_has_room(balanced: Balanced) -> None:
    for replica in balanced.replicas.values():
        replica.room = False
    for _ in range(30):
        assert balanced.ask(talk(1, 1)) in REPLICAS
        time.sleep(0.1)


def test_the_beginning_of_an_answer_is_not_held_back(balanced: Balanced) -> None:
    async def first() -> float:
        began = time.monotonic()
        reader, writer = await balanced.open("/stream", talk(1, 1))
        await reader.readuntil(b"hello")
        writer.close()
        return time.monotonic() - began

    assert min(asyncio.run(first()) for _ in range(10)) < 0.15  # 200 ms, where HAProxy lets the kernel wait for more


def test_nothing_goes_to_one_that_is_about_to_stop_not_even_when_nobody_has_room(balanced: Balanced) -> None:
    for replica in balanced.replicas.values():
        replica.room = False
    going = balanced.replicas[REPLICAS[0]]
    going.leaving = True
    rest = set(REPLICAS) - {going.address}
    balanced.until(lambda: balanced.statistics().count("NOLB") == len(REPLICAS) + 1)  # all of `near`, and one of `any`
    assert {balanced.ask(talk(number, 1)) for number in range(40)} == rest
    assert going.asked == 0


def test_a_stream_survives_that_its_replica_is_about_to_stop_and_is_cut_when_it_falls_silent(balanced: Balanced) -> None:
    home = balanced.replicas[balanced.ask(talk(1, 1))]

    async def watched() -> tuple[float, bytes]:
        reader, writer = await balanced.open("/stream", talk(1, 1))
        await reader.readuntil(b"hello")
        home.room, home.leaving = False, True
        for _ in range(60):  # three seconds
            await reader.readuntil(b"hello")
        home.silent, began = True, time.monotonic()
        rest = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return time.monotonic() - began, rest

    seconds, rest = asyncio.run(watched())
    assert seconds < 5
    assert not rest.endswith(b"0\r\n\r\n"), "whoever reads it can tell that it is not whole"
    assert balanced.ask(talk(1, 2)) in set(REPLICAS) - {home.address}
