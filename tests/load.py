"""Load with aborts at random: many open connections, some of them active at a time, for as long as one likes.

`python -m tests.load URL --seconds 600 --process api=PID --process engine=PID` does it by hand against what runs; test_load.py for less
long. Owns the traffic and the figures before and after; what they may be is the test's to say.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import ssl
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

PATIENCE = 120.0  # seconds without a byte
TLS = ssl.create_default_context()  # one for all: each takes 20 ms, in which nobody asks anything
QUESTIONS = (
    "鸡兔同笼,共有 35 个头,94 条腿,请问鸡和兔各有多少只?",
    "Chickens and rabbits share a cage: 35 heads and 94 legs. How many of each are there?",
    "What is 17 × 6?",
    "写一个 Python 函数判断回文字符串。",
    "甲乙两人轮流掷骰子,谁先掷出6谁赢,甲先掷,求甲获胜的概率。",
    "如果所有猫都会飞,而咪咪是一只猫,那么咪咪会飞吗?",
)


@dataclass
class Outcome:
    """What became of the requests. `broken`: what was wrong with answers that ended but were not whole."""

    finished: int = 0
    aborted: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    tokens: int = 0


@dataclass(frozen=True)
class Figures:
    """Resident bytes and open file descriptors by process, and the engine's load."""

    memory: dict[str, int]
    files: dict[str, int]
    running: int
    waiting: int
    cells_used: int


async def figures(client: httpx.AsyncClient, processes: Mapping[str, int]) -> Figures:
    """As they are now."""
    load = (await client.get("/v1/status")).json()["engine"]
    memory = {name: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for name, pid in processes.items()}
    files = {name: sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for name, pid in processes.items()}
    return Figures(memory, files, load["running"], load["waiting"], load["cells_used"])


async def settled(client: httpx.AsyncClient, processes: Mapping[str, int], files: Mapping[str, int] | None = None) -> Figures:
    """The figures once nothing runs any more, and no more files are open than these, if that comes about in time."""
    deadline = time.monotonic() + PATIENCE
    while True:
        now = await figures(client, processes)
        quiet = not now.running and not now.waiting and all(now.files[name] <= most for name, most in (files or {}).items())
        if quiet or time.monotonic() > deadline:
            return now
        await asyncio.sleep(0.2)


async def ask(client: httpx.AsyncClient, outcome: Outcome, chance: random.Random, aborts: float) -> None:
    """One question on one of the client's connections, broken off at some moment with a probability of `aborts`."""
    question = chance.choice(QUESTIONS)
    asked = {"role": "user", "content": question.replace("35", str(chance.randint(30, 40)))}
    body = {"messages": [asked], "stream": True, "stream_options": {"include_usage": True}, "seed": chance.randint(0, 1 << 30)}
    abort_after = chance.choice((0, 1, chance.randint(2, 60))) if chance.random() < aborts else None
    chunks: list[dict[str, Any]] = []
    done = False
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            outcome.refused[response.status_code] += 1
            return
        if abort_after == 0:
            outcome.aborted += 1
            return
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                chunks.append(json.loads(line[6:]))
                if abort_after is not None and len(chunks) > abort_after:
                    outcome.aborted += 1
                    return
    outcome.finished += 1
    outcome.tokens += next((chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")), 0)
    if problem := wrong(chunks, done):
        outcome.broken.append(f"{question[:20]}: {problem}")


def wrong(chunks: list[dict[str, Any]], done: bool) -> str | None:
    """Why these are not a whole answer, or None."""
    if error := next((chunk["error"] for chunk in chunks if "error" in chunk), None):
        return f"an error in the middle: {error}"
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    thought = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    answer = "".join(delta.get("content") or "" for delta in deltas)
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    usage = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    if not done or len(reasons) != 1 or len(usage) != 1:
        return f"it ended with {reasons}, {len(usage)} usages and {'a' if done else 'no'} [DONE]"
    if reasons == ["stop"] and not (thought and answer):
        return "thought or answer is empty"
    if "�" in thought + answer or "think>" in thought + answer:
        return "parts of characters or tags are in the text"
    if len({chunk["id"] for chunk in chunks}) != 1:
        return "chunks of several answers are in it"
    if not 0 < usage[0]["completion_tokens_details"]["reasoning_tokens"] <= usage[0]["completion_tokens"]:
        return f"its figures are odd: {usage[0]}"
    return None


async def run(client: httpx.AsyncClient, seconds: float, *, connections: int, active: int, aborts: float, seed: int = 0) -> Outcome:
    """So many connections stay open, of which so many are active at a time, for so many seconds; then what runs is waited for."""
    outcome, chance = Outcome(), random.Random(seed)
    ends, gate = time.monotonic() + seconds, asyncio.Semaphore(active)

    async def visitor() -> None:
        while time.monotonic() < ends:
            async with gate:
                if time.monotonic() < ends:
                    await ask(client, outcome, chance, aborts)
            await asyncio.sleep(0)

    await asyncio.gather(*(hold_open(client, ends, chance) for _ in range(connections - active)), *(visitor() for _ in range(2 * active)))
    return outcome


async def hold_open(client: httpx.AsyncClient, ends: float, chance: random.Random) -> None:
    """A connection of somebody who is there and asks now and then how it is."""
    async with httpx.AsyncClient(base_url=client.base_url, headers=client.headers, timeout=PATIENCE, verify=TLS) as own:
        while (left := ends - time.monotonic()) > 0:
            # It was idle for as long as the server keeps such, and was closed at that moment: it is made anew.
            with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):
                await own.get("/livez")
            await asyncio.sleep(min(left, chance.uniform(1, 4)))


def visitors(url: str, connections: int, key: str = "") -> httpx.AsyncClient:
    """The client through which the active ones ask."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=2)
    return httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=PATIENCE)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--active", type=int, default=16)
    parser.add_argument("--aborts", type=float, default=0.4, help="share of the requests that are broken off")
    parser.add_argument("--key", default="")
    parser.add_argument("--process", action="append", default=[], help="NAME=PID whose memory and files are told")
    given = parser.parse_args()
    processes = {name: int(pid) for name, _, pid in (entry.partition("=") for entry in given.process)}
    async with visitors(given.url, given.connections, given.key) as client:
        load = {"connections": given.connections, "active": given.active, "aborts": given.aborts}
        await run(client, min(20, given.seconds), **load)
        print("before", before := await settled(client, processes), flush=True)
        print(await run(client, given.seconds, **load), flush=True)
        print("after ", await settled(client, processes, before.files))


if __name__ == "__main__":
    asyncio.run(main())
