"""The ring of figures: bounded, with gaps where nothing was told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from services.ui.client import Status
from services.ui.history import History
from services.ui.told import Told
from tests.ui import fake as say


def told(data: dict[str, Any]) -> Status:
    return Status("ready", told=Told(data))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def nothing() -> Status:
    return Status("starting")


def test_a_sample_holds_figures_and_nothing_else(clock: Clock) -> None:
    history = History(nothing, clock=clock)
    history.add(told(say.rich()))
    (sample,) = history.samples()
    expected = {"speed": 21.5, "running": 2, "waiting": 3, "cells": 4096, "memory": 1.6e9, "used": 3e9}
    assert sample.at == 1000.0 and sample.figures == expected


@pytest.mark.parametrize("status", [Status("starting"), told(say.READY), told({"engine": {"tokens_per_second": "fast"}})])
def test_where_nothing_is_told_there_is_a_gap(clock: Clock, status: Status) -> None:
    history = History(nothing, clock=clock)
    history.add(status)
    assert history.samples()[0].figures == {}


def test_only_so_many_are_kept(clock: Clock) -> None:
    history = History(nothing, kept=3, clock=clock)
    for _ in range(5):
        clock.now += 5
        history.add(told(say.rich()))
    assert [sample.at for sample in history.samples()] == [1015, 1020, 1025]
    assert history.age() == 10


def test_a_time_without_samples_is_a_gap(clock: Clock) -> None:
    history = History(nothing, clock=clock)
    for passed in (0, 6, 600):
        clock.now += passed
        history.add(told(say.rich()))
    assert [(sample.at, bool(sample.figures)) for sample in history.samples()] == [(1000, True), (1006, True), (1011, False), (1606, True)]


def test_lately_counts_only_the_times_at_work(clock: Clock) -> None:
    history = History(nothing, every=100, clock=clock)
    for speed in (50.0, 10.0, 0.0, 20.0):
        clock.now += 100
        history.add(told(say.rich(tokens_per_second=speed)))
    assert history.lately("speed", 250) == 15.0
    assert history.lately("speed", 1000) == pytest.approx(80 / 3)
    clock.now += 1000
    assert history.lately("speed", 500) is None


def test_it_looks_again_and_again() -> None:
    looks = []

    async def look() -> Status:
        looks.append(1)
        return told(say.rich()) if len(looks) != 2 else Status("starting")

    async def run() -> History:
        history = History(look, every=0.01)
        recording = asyncio.create_task(history.record())
        while len(looks) < 3:
            await asyncio.sleep(0.005)
        recording.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await recording
        return history

    figures = [bool(sample.figures) for sample in asyncio.run(run()).samples()]
    assert figures[0] and False in figures
