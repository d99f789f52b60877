"""How ./install sees that a swarm has replaced its replicas, or has taken them back: its words on what an engine says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

SHELLS = (["dash"], ["busybox", "sh"])
OLD = "cloister_ui 100 rollback_completed"  # of a change long ago


def told(folder: Path, shell: list[str], program: str, *states: str) -> str:
    """What the program says, with the functions of swarm.sh and an engine whose services are in these states, before and now."""
    for name, lines in zip(("now", "next"), states, strict=True):
        (folder / name).write_text(lines + "\n")
    engine = folder / "docker"
    engine.write_text(f"""#!/bin/sh
case "$1 $2" in
  "service ls") sed -n = {folder}/now ;;
  "service inspect") sed -n "$5p" {folder}/now ;;
esac
""")
    engine.chmod(0o755)
    head = ". ./scripts/installing/common.sh; . ./scripts/installing/swarm.sh; project=cloister; before=$(updates); "
    command = [*shell, "-euc", f"{head} cp {folder}/next {folder}/now; {program}"]
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_it_waits_while_a_service_changes(tmp_path: Path, shell: list[str]) -> None:
    program = "if replaced; then echo done; else echo waits; fi"
    assert told(tmp_path, shell, program, OLD, f"cloister_api 200 updating\n{OLD}") == "waits\n"
    assert told(tmp_path, shell, program, OLD, f"cloister_api 200 rollback_started\n{OLD}") == "waits\n"
    assert told(tmp_path, shell, program, OLD, f"cloister_api 200 completed\n{OLD}") == "done\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("state", ["rollback_completed", "rollback_paused", "paused"])
def test_what_the_swarm_took_back_is_a_failure_that_is_named(tmp_path: Path, shell: list[str], state: str) -> None:
    program = "if fell_back; then echo failed; else echo fine; fi"
    said = told(tmp_path, shell, program, OLD, f"cloister_api 200 {state}\n{OLD}")
    assert "the swarm has taken cloister_api back" in said and said.endswith("failed\n") and "cloister_ui" not in said
    assert told(tmp_path, shell, program, OLD, f"cloister_api 200 completed\n{OLD}") == "fine\n"
    assert told(tmp_path, shell, program, "", "") == "fine\n"
