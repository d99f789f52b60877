"""What the API adds to the engine alone: the same questions over HTTP and over the engine's own socket, in turns.

`python -m tests.overhead URL SOCKET` on an appliance that runs; the rate of one stream among 1 and 16, and the time to the first token.
Clients are plain sockets: what a client library takes of the CPU would count as the API's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from services.api.conversation import Message, Wanted
from services.api.model import ServedModel
from services.shared import wire

WORDS = 12  # of a question
TEXT = re.compile(rb'"(reasoning_)?content":"[^"]')  # of an event with text


@dataclass(frozen=True)
class Timing:
    """Of one stream: seconds from the question to the first token, and tokens a second after it."""

    first: float
    rate: float


class Alone:
    """The engine's own socket. Open it before, close it in the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._model: ServedModel

    async def open(self) -> None:
        """Learn what the engine serves, for the template and the sampling that the API would use."""
        reader, writer = await asyncio.open_unix_connection(str(self._path))
        (hello,) = wire.Decoder().feed(await reader.read(1 << 16))
        writer.close()
        assert isinstance(hello, wire.Hello)
        self._model = await ServedModel.load(hello)

    async def close(self) -> None:
        """End the template's process."""
        await self._model.close()

    async def ask(self, question: str, tokens: int) -> Timing:
        """Have one question answered with so many tokens."""
        assert self._model.template, "without a template there is nothing to compare"
        prompt = await self._model.template.render([Message("user", question)])
        request = wire.Generate("r", prompt.parts, self._model.sampling(Wanted()), tokens, ignore_eos=True, in_thought=prompt.in_thought)
        reader, writer = await asyncio.open_unix_connection(str(self._path))
        decoder, sent, first = wire.Decoder(), time.perf_counter(), 0.0
        writer.write(wire.encode(request))
        while data := await reader.read(1 << 16):
            for message in decoder.feed(data):
                assert not isinstance(message, wire.Failed), message
                if isinstance(message, wire.Delta) and not first:
                    first = time.perf_counter()
                if isinstance(message, wire.Finished):
                    writer.close()
                    return _timing(sent, first, tokens)
        raise AssertionError("the engine hung up")


class Served:
    """The API's chat completions, streamed."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)

    async def ask(self, question: str, tokens: int) -> Timing:
        """Have one question answered with so many tokens."""
        host, port = self._address.hostname or "127.0.0.1", self._address.port or 80
        reader, writer = await asyncio.open_connection(host, port)
        messages = [{"role": "user", "content": question}]
        body = json.dumps({"messages": messages, "max_tokens": tokens, "ignore_eos": True, "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        sent, first = time.perf_counter(), 0.0
        writer.write(head.encode() + body)
        seen = b""
        while b"data: [DONE]" not in seen:
            data = await reader.read(1 << 16)
            assert data, "the API hung up"
            assert first or (seen + data).startswith(b"HTTP/1.1 200"), seen + data
            seen = (seen if not first else seen[-20:]) + data
            first = first or (time.perf_counter() if TEXT.search(seen) else 0.0)
        writer.close()
        return _timing(sent, first, tokens)


def _timing(sent: float, first: float, tokens: int) -> Timing:
    return Timing(first - sent, (tokens - 1) / (time.perf_counter() - first))


async def compare(url: str, socket: Path, *, users: int, tokens: int, rounds: int) -> dict[str, Timing]:
    """Medians of both ways over all streams of all rounds, which alternate."""
    alone = Alone(socket)
    await alone.open()
    ways: dict[str, Alone | Served] = {"alone": alone, "served": Served(url)}
    words = (Path(__file__).parents[1] / "scripts/benchmark/words.txt").read_text().split()
    source = random.Random(time.time_ns())
    found: dict[str, list[Timing]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            questions = [" ".join(source.choices(words, k=WORDS)) for _ in range(users)]
            found[name] += await asyncio.gather(*(ways[name].ask(question, tokens) for question in questions))
    await alone.close()
    return {
        name: Timing(statistics.median(t.first for t in timings), statistics.median(t.rate for t in timings))
        for name, timings in found.items()
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description="what the API adds to the engine alone")
    parser.add_argument("url")
    parser.add_argument("socket", type=Path)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    await compare(given.url, given.socket, users=1, tokens=given.tokens, rounds=1)
    for users in given.users:
        found = await compare(given.url, given.socket, users=users, tokens=given.tokens, rounds=given.rounds)
        alone, served = found["alone"], found["served"]
        print(f"{users} users: a stream {served.rate:.2f} tokens/s, the engine alone {alone.rate:.2f}: {served.rate / alone.rate:.3f}")
        print(f"{users} users: first token {served.first * 1000:.1f} ms, the engine alone {alone.first * 1000:.1f} ms")


if __name__ == "__main__":
    asyncio.run(main())
