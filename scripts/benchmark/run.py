"""The interleaved run: in each round every endpoint once for each case, in alternating order, each time on an idle machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchmark.client import Client, EndpointError
from scripts.benchmark.prompts import Prompts
from scripts.benchmark.scenarios import FEW, SCENARIOS, Figures, Sizes

STAT = Path("/proc/stat")
LOOK = 0.5  # seconds over which the machine's load is looked at
BUSY = 0.2  # processors at work below which the machine counts as idle


@dataclass(frozen=True)
class Case:
    """A scenario at a number of users; 0 where the scenario has its own."""

    scenario: str
    users: int = 0

    @property
    def name(self) -> str:
        return f"{self.scenario}.{self.users}" if self.users else self.scenario


@dataclass
class Measurements:
    """What was measured: the values of all rounds by figure ("distinct.8.rate") and label, and the prompts' tokens by case and label."""

    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    prompts: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, name: str, label: str, value: float) -> None:
        self.figures.setdefault(name, {}).setdefault(label, []).append(value)


@dataclass(frozen=True)
class Plan:
    """What to measure and how often. `settle`: seconds that each pause waits at most for an idle machine."""

    cases: Sequence[Case]
    sizes: Sizes
    rounds: int
    seed: int
    settle: float
    processes: Mapping[str, Sequence[int]] = field(default_factory=dict)


async def measure(clients: Sequence[Client], plan: Plan, into: Measurements, say: Callable[[str], None]) -> None:
    """Run the plan; `into` is filled while it goes on, so that what was measured before an error is not lost.

    Raises:
        EndpointError: an endpoint fails or answers too little, or its process is gone.
    """
    for client in clients:
        await client.find_model()
    for client in clients:
        await client.ask(Prompts(plan.seed, "warm-up", 0).question(), FEW)
    for number in range(plan.rounds):
        for at, case in enumerate(plan.cases):
            for client in clients if (number + at) % 2 == 0 else reversed(clients):
                await _idle(plan.settle)
                figures = await _one(client, case, number, plan, into)
                first = SCENARIOS[case.scenario].figures[0]
                say(f"round {number + 1} of {plan.rounds}  {case.name:12} {client.label:16} {first} {figures[first]:.3g}")
        for label, pids in plan.processes.items():
            try:
                found = memory(pids)
            except (OSError, KeyError) as error:
                raise EndpointError(f"{label}: one of its processes {', '.join(map(str, pids))} has ended") from error
            for name, value in found.items():
                into.add(f"memory.{name}", label, value)


async def _one(client: Client, case: Case, number: int, plan: Plan, into: Measurements) -> Figures:
    prompts = Prompts(plan.seed, case.name, number)
    figures, answers = await SCENARIOS[case.scenario].run(client, prompts, case.users, plan.sizes)
    for name in SCENARIOS[case.scenario].figures:
        into.add(f"{case.name}.{name}", client.label, figures[name])
    into.prompts.setdefault(case.name, {})[client.label] = max(a.prompt_tokens for a in answers)
    return figures


def memory(pids: Sequence[int]) -> Figures:
    """Resident memory of processes now and at its peak, in MB, added up.

    Raises:
        OSError, KeyError: no such process, or one that has ended.
    """
    found = {"VmRSS": 0, "VmHWM": 0}
    for pid in pids:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        for name in found:
            found[name] += int(lines[name].split()[0]) * 1024
    return {"rss": found["VmRSS"] / 1e6, "peak": found["VmHWM"] / 1e6}


async def _idle(settle: float) -> None:
    """Wait until the processors rest, `settle` seconds at most: an endpoint may go on computing after its answer."""
    loop = asyncio.get_running_loop()
    end = loop.time() + settle
    while (left := end - loop.time()) > 0:
        began, before = loop.time(), _busy()
        await asyncio.sleep(min(LOOK, left))
        if (_busy() - before) / 100 / (loop.time() - began) < BUSY:
            return


def _busy() -> int:
    """Hundredths of a second that processors have worked since the start; it always seems to work where this can't be known."""
    if not STAT.exists():
        return int(asyncio.get_running_loop().time() * 100)
    user, nice, system, _idle, _wait, interrupts, soft, *_ = (int(n) for n in STAT.read_text().split("\n", 1)[0].split()[1:])
    return user + nice + system + interrupts + soft
