"""`python -m scripts.benchmark`: arguments to a plan, results to the terminal and files. Its help stands in scripts/bench.

Exit codes: 0 measured, 1 a target is missed, 2 wrong arguments, or an endpoint that fails or answers too little.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts.benchmark import chart, run, targets
from scripts.benchmark.client import Client, EndpointError
from scripts.benchmark.report import Report
from scripts.benchmark.run import Case, Measurements, Plan
from scripts.benchmark.scenarios import SCENARIOS, Sizes
from scripts.benchmark.targets import Target

KERNELS = {"--kernels", "--rounds", "--json"}  # the options that go together with --kernels
TUNING = {"--tune", "--quick", "--rounds", "--tokens", "--json", "--svg"}  # the options that go together with --tune
PROMPT, QUICK_PROMPT, QUICK_TOKENS, QUICK_ROUNDS = 512, 128, 16, 2  # of --tune
OWN = "cloister"  # the first endpoint's label where none is given
LABELLED = re.compile(r"([\w.-]+)=(.*)", re.DOTALL)


class Wrong(Exception):
    """The arguments don't fit together."""


def parser() -> argparse.ArgumentParser:
    """The arguments; what they mean stands in scripts/bench."""
    found = argparse.ArgumentParser(
        prog="scripts/bench", add_help=False, allow_abbrev=False, usage="scripts/bench [--against URL ...]; see --help"
    )
    found.add_argument("--url", default="http://127.0.0.1:8000")
    found.add_argument("--against", action="append", default=[])
    found.add_argument("--scenario", action="append", choices=SCENARIOS)
    found.add_argument("--users", type=_counts, default=(1, 4, 8, 16))
    found.add_argument("--rounds", type=_at_least(1), default=3)
    found.add_argument("--tokens", type=_at_least(2), default=48)
    found.add_argument("--words", type=_at_least(1), default=2000)
    found.add_argument("--idle", type=float, default=10.0)
    found.add_argument("--settle", type=float, default=15.0)
    found.add_argument("--timeout", type=float, default=600.0)
    found.add_argument("--seed", type=int, default=int(time.time()))
    found.add_argument("--body", action="append", default=[])
    found.add_argument("--pid", action="append", default=[])
    found.add_argument("--target", action="append", default=[])
    found.add_argument("--no-targets", action="store_true")
    found.add_argument("--tune", action="store_true")
    found.add_argument("--quick", action="store_true")
    found.add_argument("--kernels", action="store_true")
    found.add_argument("--json", type=Path)
    found.add_argument("--svg", type=Path)
    return found


def main(arguments: list[str]) -> int:
    given = parser().parse_args(arguments)
    for file in filter(None, (given.json, given.svg)):
        if not file.parent.is_dir():
            return _fail(f"there is no folder {file.parent} for {file.name}")
    # a run that is ended from outside keeps what it has measured, as with Ctrl-C, which shells have their background jobs ignore
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    options = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
    try:
        if given.kernels:
            return measure_kernels(given, options)
        if given.tune or given.quick:
            return measure_machine(given, options)
        report, wanted = prepare(given)
    except Wrong as error:
        return _fail(str(error))
    _say(f"seed {report.plan.seed}")
    try:
        asyncio.run(_measure(report))
    except EndpointError as error:
        report.error = str(error)
    except KeyboardInterrupt:
        report.error = "stopped"
    report.verdicts = targets.judge(wanted, report.medians(), report.labels[0], report.baseline)
    if report.measurements.figures:
        sys.stdout.write(report.table())
    _write(given, report.json(), chart.svg(report) if report.measurements.figures else None)
    if report.error:
        return _fail(report.error)
    return 0 if all(verdict.met for verdict in report.verdicts) else 1


def measure_machine(given: argparse.Namespace, options: set[str]) -> int:
    """Measure what this machine does best with, and propose settings.

    Raises:
        Wrong: the arguments don't fit together, a setting is wrong, or no model is prepared.
    """
    # here, as measuring endpoints needs nothing of what the appliance is made of
    from scripts.benchmark import tune, tune_chart, tune_report
    from services.shared import settings

    if not given.tune:
        raise Wrong("--quick goes together with --tune")
    if others := sorted(options - TUNING):
        raise Wrong(f"--tune asks no endpoint, so {', '.join(others)} has no meaning with it: it takes {', '.join(sorted(TUNING))}")
    rounds = QUICK_ROUNDS if given.quick and "--rounds" not in options else given.rounds
    tokens = QUICK_TOKENS if given.quick and "--tokens" not in options else given.tokens
    load = tune.Load(QUICK_PROMPT if given.quick else PROMPT, tokens, rounds, given.quick)
    try:
        tuning = tune.prepare(settings.load(os.environ), load, datetime.now(UTC).isoformat(timespec="seconds"))
    except (tune.TuneError, settings.SettingsError) as error:
        raise Wrong(str(error)) from error
    if tuning.busy:
        _say(f"warning: {tuning.busy}")
    try:
        tune.run(tuning, _say)
    except tune.TuneError as error:
        tuning.error = str(error)
    except KeyboardInterrupt:
        tuning.error = "stopped"
    measured = any(row.rounds for phase in tuning.phases for row in phase.rows)
    if measured:
        sys.stdout.write(tune_report.table(tuning))
    _write(given, tune_report.json(tuning), tune_chart.svg(tuning) if measured else None)
    return _fail(tuning.error) if tuning.error else 0


def measure_kernels(given: argparse.Namespace, options: set[str]) -> int:
    """Measure what the parts of a step take with the model in use.

    Raises:
        Wrong: the arguments don't fit together, a setting is wrong, or no model is prepared.
    """
    from scripts.benchmark import kernels, tune
    from scripts.benchmark.probe import ProbeError
    from services.shared import settings

    if others := sorted(options - KERNELS):
        raise Wrong(f"{', '.join(others)} has no meaning with --kernels: it takes {', '.join(sorted(KERNELS))}")
    load = tune.Load(0, 0, given.rounds, quick=False)
    try:
        found = kernels.Kernels(tune.prepare(settings.load(os.environ), load, datetime.now(UTC).isoformat(timespec="seconds")))
    except (tune.TuneError, settings.SettingsError) as error:
        raise Wrong(str(error)) from error
    if found.tuning.busy:
        _say(f"warning: {found.tuning.busy}")
    try:
        kernels.measure(found, _say)
    except (ProbeError, RuntimeError) as error:  # the engine's ModelError is one, and can't be imported before libgomp is set
        found.error = str(error)
    except KeyboardInterrupt:
        found.error = "stopped"
    if found.rounds:
        sys.stdout.write(kernels.table(found))
    _write(given, kernels.json(found), None)
    return _fail(found.error) if found.error else 0


def _write(given: argparse.Namespace, results: dict[str, Any], picture: str | None) -> None:
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if given.svg and picture:
        given.svg.write_text(picture, encoding="utf-8")


def prepare(given: argparse.Namespace) -> tuple[Report, list[Target]]:
    """An empty report with its plan, and the targets.

    Raises:
        Wrong: the arguments don't fit together.
    """
    ends = [_endpoint(given.url, OWN), *(_endpoint(text, None) for text in given.against)]
    labels = [label for label, _ in ends]
    if len(set(labels)) < len(labels):
        raise Wrong(f"two endpoints have one label ({', '.join(labels)}): name them, as in --against other=URL")
    if len({url.rstrip("/").removesuffix("/v1") for _, url in ends}) < len(ends):
        raise Wrong("two endpoints have one address: the second would find the first one's prompts in the cache")
    bodies = _bodies(given.body, labels)
    clients = [Client(label, url, bodies.get(label, {}), given.timeout) for label, url in ends]
    names = given.scenario or list(SCENARIOS)
    cases = [Case(name, users) for name in dict.fromkeys(names) for users in (given.users if SCENARIOS[name].by_users else (0,))]
    sizes = Sizes(given.tokens, given.words, given.idle)
    plan = Plan(cases, sizes, given.rounds, given.seed, given.settle, _processes(given.pid, labels))
    baseline = labels[1] if given.against else None
    started = datetime.now(UTC).isoformat(timespec="seconds")
    report = Report(clients, baseline, plan, started, Measurements())
    built_in = targets.BUILT_IN if baseline and not given.no_targets else ()
    return report, [*built_in, *(_target(text, report) for text in given.target)]


async def _measure(report: Report) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for client in report.clients:
            await stack.enter_async_context(client)
        await run.measure(report.clients, report.plan, report.measurements, _say)


def _endpoint(text: str, label: str | None) -> tuple[str, str]:
    found = LABELLED.fullmatch(text)
    label, url = (found[1], found[2]) if found and "://" not in found[1] else (label, text)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host:
        raise Wrong(f"{text!r} is no address: it needs a URL such as http://127.0.0.1:9000, or other=http://127.0.0.1:9000")
    return label or f"{host}:{port}" if port else label or host, url


def _labelled(text: str, labels: list[str], option: str) -> tuple[str, str]:
    found = LABELLED.fullmatch(text)
    if not found or found[1] not in labels:
        raise Wrong(f"{option} {text!r} names none of the endpoints {', '.join(labels)}")
    return found[1], found[2]


def _bodies(texts: list[str], labels: list[str]) -> dict[str, dict[str, Any]]:
    bodies: dict[str, dict[str, Any]] = {}
    for text in texts:
        own, fields = (labels, text) if text.lstrip().startswith("{") else _one_label(text, labels)
        try:
            found = json.loads(fields)
        except ValueError as error:
            raise Wrong(f"--body {text!r} is no JSON: {error}") from error
        for label in own:
            bodies[label] = {**bodies.get(label, {}), **found}
    return bodies


def _one_label(text: str, labels: list[str]) -> tuple[list[str], str]:
    label, rest = _labelled(text, labels, "--body")
    return [label], rest


def _processes(texts: list[str], labels: list[str]) -> dict[str, list[int]]:
    processes: dict[str, list[int]] = {}
    for text in texts:
        label, numbers = _labelled(text, labels, "--pid")
        try:
            processes.setdefault(label, []).extend(int(number) for number in numbers.split(","))
            run.memory(processes[label])
        except (ValueError, OSError, KeyError) as error:
            raise Wrong(f"--pid {text!r} is no running process") from error
    return processes


def _target(text: str, report: Report) -> Target:
    try:
        target = targets.parse(text)
    except ValueError as error:
        raise Wrong(str(error)) from error
    if target.relative and not report.baseline:
        raise Wrong(f"target {text!r} compares, so it needs an --against")
    figures = [f"{case.name}.{figure}" for case in report.plan.cases for figure in SCENARIOS[case.scenario].figures]
    needed = [report.labels[0], *([report.baseline] if target.relative and report.baseline else [])]
    if all(label in report.plan.processes for label in needed):
        figures += ["memory.rss", "memory.peak"]
    if target.figure not in figures:
        raise Wrong(f"target {text!r}: {target.figure} is not measured here, only {', '.join(figures)}")
    return target


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_at_least(1)(part) for part in text.split(",")))


def _at_least(least: int) -> Any:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


def _fail(sentence: str) -> int:
    _say(sentence)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
