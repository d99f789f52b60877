"""200 connections, 16 of them active, aborts at random, on the real engine with the demo model: nothing leaks, every answer is whole.

Shorter than a person would let it run: `python -m tests.load` takes 10 minutes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests import load
from tests.conftest import ROOT, environment, free_port

SECONDS = float(os.environ.get("LOAD_SECONDS", "60"))
PERIODS = 3
# What leaks grows in every period; what the allocator keeps from one large moment on grows once, at any time (28 MB were seen).
LEAK, GROWTH = 4 << 20, 60 << 20  # bytes
CELLS, CONTEXT = 4096, 1024
LOAD = {"connections": 200, "active": 16, "aborts": 0.4}


@contextmanager
def appliance(home: Path, volume: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Engine and API as programs, without page; the API's address and the processes."""
    port = free_port()
    env = environment(home, API__PORT=port, ENGINE__CELLS=CELLS, ENGINE__CONTEXT=CONTEXT, ENGINE__STORE=4, PATHS__VOLUME=volume)
    with ExitStack() as stack:
        processes = {}
        for name in ("engine", "api"):
            log = stack.enter_context((home / f"{name}.log").open("wb"))
            process = subprocess.Popen([sys.executable, "-m", f"services.{name}"], cwd=ROOT, env=env, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes[name] = process.pid
        yield f"http://127.0.0.1:{port}", processes


async def ready(client: httpx.AsyncClient) -> None:
    for _ in range(1200):
        try:
            if (await client.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise AssertionError("it did not become ready")


async def fill(client: httpx.AsyncClient) -> list[int]:
    """Tokens of answers that together need every cell there is: that works only when none has been lost."""
    body = {"messages": [{"role": "user", "content": "1+1"}], "ignore_eos": True, "max_tokens": CONTEXT - 60}
    answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(CELLS // CONTEXT)))
    return [answer.json()["usage"]["completion_tokens"] for answer in answers]


@pytest.mark.timeout(int(SECONDS) + 600)
def test_under_load_nothing_leaks_and_every_answer_is_whole(demo_volume: Path, tmp_path: Path) -> None:
    async def drive() -> None:
        async with load.visitors(url, LOAD["connections"] + 20) as client:
            await ready(client)
            await fill(client)  # a page of the KV cache is memory once it has been written to
            await load.run(client, 10, **LOAD)
            seen = [await load.settled(client, processes)]
            for seed in range(1, PERIODS + 1):
                outcome = await load.run(client, SECONDS / PERIODS, seed=seed, **LOAD)
                seen.append(await load.settled(client, processes, seen[0].files))
                print(outcome, seen[-1], sep="\n")
                assert outcome.broken == [] and not outcome.refused
                assert outcome.finished > 10 and outcome.aborted > 5
                assert (seen[-1].running, seen[-1].waiting) == (0, 0) and seen[-1].cells_used <= CELLS
                assert all(seen[-1].files[name] <= seen[0].files[name] for name in processes), (seen[0].files, seen[-1].files)
            for name in processes:
                memory = [figures.memory[name] for figures in seen]
                assert min(later - earlier for earlier, later in pairwise(memory)) < LEAK and memory[-1] - memory[0] < GROWTH, (
                    name,
                    memory,
                )
            assert await fill(client) == [CONTEXT - 60] * (CELLS // CONTEXT)
            status = (await client.get("/v1/status")).json()["engine"]
            assert status["running"] == 0

    with appliance(tmp_path, demo_volume) as (url, processes):
        asyncio.run(drive())
    logs = (tmp_path / "api.log").read_text() + (tmp_path / "engine.log").read_text()
    assert " error " not in logs.lower(), logs[-3000:]
    assert not [word for word in ("鸡", "Chickens", "palindrome", "回文", "**") if word in logs]
