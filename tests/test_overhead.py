"""The measurement of what the API adds to the engine, small: both ways answer the same questions in full."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from tests.overhead import compare
from tests.test_load import appliance, ready


def test_both_ways_are_measured(demo_volume: Path, tmp_path: Path) -> None:
    async def measure(url: str) -> None:
        async with httpx.AsyncClient(base_url=url) as client:
            await ready(client)
        found = await compare(url, tmp_path / "run/engine.sock", users=2, tokens=12, rounds=2)
        assert set(found) == {"alone", "served"}
        assert all(timing.first > 0 and timing.rate > 0 for timing in found.values())

    with appliance(tmp_path, demo_volume) as (url, _):
        asyncio.run(measure(url))
