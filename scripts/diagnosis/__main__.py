"""`python -m scripts.diagnosis`: look, judge topic by topic, and tell. Its help stands in scripts/doctor.

Exit codes: 0 nothing is wrong, 1 something is, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.diagnosis import (
    clock,
    configuration,
    cpu,
    disk,
    finding,
    installation,
    memory,
    permissions,
    ports,
    programs,
    report,
    speed,
    swarm,
    talk,
    usage,
    volume,
    walls,
)
from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene, docker_answers, look
from services.shared import settings

Topic = Callable[[Scene], list[Finding]]
TOPICS: tuple[Topic, ...] = (
    *(configuration.examine, programs.examine, ports.examine, cpu.examine, memory.examine, disk.examine, volume.examine),
    *(talk.examine, speed.examine, usage.examine, walls.examine, clock.examine, permissions.examine),
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/doctor", add_help=False, allow_abbrev=False, usage="see scripts/doctor --help")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--swarm", action="store_true")
    parser.add_argument("--node", action="store_true")
    given = parser.parse_args(arguments)
    if given.node and not given.swarm:
        parser.error("--node goes with --swarm only")
    if given.report and given.swarm:
        parser.error("--report is of one machine, and does not go with --swarm")
    if given.report and not given.report.absolute().parent.is_dir():
        parser.error(f"there is no folder {given.report.parent} for {given.report.name}")
    show: Callable[[Finding], object] = (lambda _: None) if given.json else (lambda one: print(one.line(), flush=True))  # noqa: T201
    if given.swarm:
        scene, findings = None, swarm.examine(dict(os.environ), alone=given.node, show=show)
    else:
        scene, findings = examine(dict(os.environ), quick=given.quick, show=show)
    if given.json:
        sys.stdout.write(json.dumps([dataclasses.asdict(one) for one in findings], ensure_ascii=False, indent=1) + "\n")
    if given.report and scene:
        report.write(given.report, scene, findings)
        _say(f"the report is in {given.report}: without texts, names, addresses and keys; read it before you hand it on")
    number, warnings = finding.wrong(findings), sum(one.level == "warn" for one in findings)
    _say(f"{number} wrong, {warnings} to look at, {len(findings)} findings")
    return 1 if number else 0


def examine(environ: dict[str, str], *, quick: bool, show: Callable[[Finding], object]) -> tuple[Scene, list[Finding]]:
    """Every topic; each finding is shown as soon as it is known. With wrong settings the scene is empty."""
    found: list[Finding] = []

    def add(more: list[Finding]) -> None:
        for one in more:
            show(one)
        found.extend(more)

    try:
        config = settings.load(environ)
    except settings.SettingsError as error:
        add(installation.examine(environ, containers=docker_answers(environ)))
        notes = Notes("settings")
        notes.bad(str(error), "correct it in .env or in the environment")
        notes.skip("with a wrong setting nothing starts, so nothing else was looked at")
        add(notes.all)
        return Scene(settings.load({}), environ), found
    scene = look(config, environ, quick=quick)
    add(installation.examine(environ, containers=scene.mode == "docker" or (scene.docker and scene.mode == "none")))
    for topic in TOPICS:
        add(topic(scene))
    return scene, found


def _say(text: str) -> None:
    sys.stderr.write(f"doctor: {text}\n")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads only the beginning, such as head, is no error
    sys.exit(main(sys.argv[1:]))
