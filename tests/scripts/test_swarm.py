"""scripts/swarm with a scripted docker: another model is in use only once every node has it, and can be taken back; a change has ended
once everything is replaced."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

# Two nodes, one and two; one is the first. Tasks of init and copy end at the second look, and copy takes what init has made.
DOCKER = """
import json, os, sys
from pathlib import Path
here = Path(os.environ["FAKE"])
state = json.loads((here / "state.json").read_text())
args, line = sys.argv[1:], " ".join(sys.argv[1:])

def version(service):
    return f"{state['spec'].get(service, '')} {state['force'].get(service, 0)}"

def run(service):
    for node in ("one",) if service == "init" else ("two",):
        state["runs"] += 1
        state["tasks"][f"{service}@{node}"] = {"version": version(service), "looks": 0, "run": state["runs"]}

def last(flag):
    return args[args.index(flag) + 1]

service = args[-1].partition("_")[2]
if line.startswith("info --format {{.Swarm.ControlAvailable}}"):
    print("true")
elif line.startswith("info --format {{.Swarm.NodeID}}"):
    print("one")
elif line.startswith("image inspect"):
    print("sha256:" + args[-1].removeprefix("sha256:"))
elif line.startswith("node ls"):
    nodes = ["one"] if "first" in line else ["one", "two"]
    print("\\n".join(f"{node} Ready Active" if "{{.Status}}" in line else node for node in nodes))
elif line.startswith("node inspect") and "cloister.entry" in line:
    print("true")
elif line.startswith("network inspect"):
    sys.exit(1)
elif line.startswith("stack deploy"):
    state["log"].append("deploy " + os.environ["CLOISTER_MODEL__NAME"])
    state["label"], state["opened"] = os.environ["SWARM_MODEL"], os.environ["SWARM_OPENS"]
    for name, spec in (("init", os.environ["CLOISTER_MODEL__NAME"]), ("copy", "")):
        if state["spec"].get(name) != spec:
            state["spec"][name] = spec
            run(name)
elif line.startswith("service ls"):
    print("api")
elif line.startswith("service inspect") and "UpdateStatus" in line:
    print(state["updates"].pop(0) if len(state["updates"]) > 1 else state["updates"][0])
elif line.startswith("service inspect"):
    print(state["label"] if "cloister.model" in line else version(service))
elif line.startswith("service ps"):
    task = f"{service}@{last('--filter').removeprefix('node=')}"
    found = state["tasks"][task]
    found["looks"] += 1
    fails = state["fails"] == service and found["looks"] > 1
    print(f"{task}#{found['run']}", "Failed" if fails else "Complete" if found["looks"] > 1 else "Running", "3 seconds ago")
    if fails and service == "init":
        state["spec"]["init"] = "taken back"
elif line.startswith("inspect --type task"):
    print(state["tasks"][args[-1].partition("#")[0]]["version"])
elif line.startswith("service logs"):
    print("" if state["quiet"] else f"2026-01-01T00:00:00Z info    init   ready {state['spec']['init']} q8_0 0123456789ab in /models")
elif line.startswith("service update"):
    copied = service == "api" and "copy@two" in state["tasks"] and state["tasks"]["copy@two"]["looks"] > 1
    if "--label-add" in line:
        labels = dict(label.split("=", 1) for label in args if label.startswith("cloister."))
        state["label"], state["opened"] = labels["cloister.model"], labels["cloister.opens"]
    if "--force" in line:
        state["force"][service] = state["force"].get(service, 0) + 1
        if service == "copy":
            run("copy")
    state["log"].append(" ".join(["update", service, *(["forced"] if "--force" in line else []), *(["copied"] if copied else [])]))
elif line.startswith("ps "):
    print("container")
if args[0] not in ("info", "node", "image", "network"):  # these may run beside each other
    (here / "state.json").write_text(json.dumps(state))
"""


class Swarm:
    """A checkout's scripts/swarm, and what its docker was told."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "scripts/swarming").mkdir(parents=True)
        for name in ("swarm", "environment", "docker", "swarming/model.sh"):
            shutil.copy(ROOT / "scripts" / name, home / "scripts" / name)
        shutil.copy(ROOT / "swarm.yaml", home)
        (home / "bin").mkdir()
        (home / "bin/docker").write_text(f"#!{sys.executable} -IS\n{DOCKER}")
        (home / "bin/sleep").write_text("#!/bin/sh\n")
        for tool in (home / "bin").iterdir():
            tool.chmod(0o755)
        (home / "var/secrets").mkdir(parents=True)
        for name in ("api_keys", "page_password"):
            (home / "var/secrets" / name).write_text("hash\n")
        self.state: dict[str, Any] = {
            "spec": {},
            "force": {},
            "tasks": {},
            "label": "",
            "log": [],
            "fails": "",
            "quiet": False,
            "runs": 0,
            "opened": "",
            "updates": [""],
        }

    def run(self, *arguments: str, model: str = "", fails: str = "", tag: str = "0.1.0") -> subprocess.CompletedProcess[str]:
        (self.home / "state.json").write_text(json.dumps(self.state | {"log": [], "fails": fails}))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("CLOISTER_", "SWARM_", "HF_"))}
        env = clean | {"PATH": f"{self.home / 'bin'}:{os.environ['PATH']}", "FAKE": str(self.home), "CLOISTER_TAG": tag}
        if model:
            env["CLOISTER_MODEL__NAME"] = model
        done = subprocess.run([self.home / "scripts/swarm", *arguments], env=env, text=True, capture_output=True, check=False, timeout=240)
        self.state = json.loads((self.home / "state.json").read_text())
        return done

    def told(self, *arguments: str, model: str = "") -> list[str]:
        done = self.run(*arguments, model=model)
        assert done.returncode == 0, done.stderr
        log: list[str] = self.state["log"]
        return log


@pytest.fixture
def swarm(tmp_path: Path) -> Swarm:
    return Swarm(tmp_path)


UP = ("up", "--no-build")


def test_replicas_are_replaced_only_for_another_model_and_after_all_have_it(swarm: Swarm) -> None:
    assert swarm.told(*UP, model="small") == ["deploy small", "update api"], "nothing runs that had to be replaced"
    assert swarm.told(*UP, model="small") == ["deploy small"]
    assert swarm.state["label"] == swarm.state["opened"] == "small q8_0 0123456789ab"
    assert swarm.told(*UP, model="large") == ["deploy large", "update copy forced", "update api forced copied"]
    assert swarm.state["label"] == swarm.state["opened"] == "large q8_0 0123456789ab"


def test_replicas_that_get_another_image_keep_their_model_until_all_have_the_other_one(swarm: Swarm) -> None:
    swarm.told(*UP, model="small")
    assert swarm.run(*UP, model="large", fails="copy", tag="later").returncode == 1
    assert swarm.state["opened"] == "small q8_0 0123456789ab"


def test_where_init_logs_too_little_replicas_open_what_is_in_use(swarm: Swarm) -> None:
    swarm.state["quiet"] = True
    swarm.told(*UP, model="small")
    swarm.told(*UP, model="large")
    assert swarm.state["label"].startswith("task init@one#") and swarm.state["opened"] == ""


def test_rollback_goes_to_what_ran_before_and_back_again(swarm: Swarm) -> None:
    swarm.told(*UP, model="small")
    assert "nothing is known here" in swarm.run("rollback").stderr
    swarm.told(*UP, model="large")
    assert swarm.told("rollback") == ["deploy small", "update copy forced", "update api forced copied"]
    assert swarm.told("rollback")[0] == "deploy large"


@pytest.mark.parametrize(("fails", "said"), [("init", "init has failed and was taken back"), ("copy", "copy fails on node two")])
def test_a_model_that_not_all_nodes_can_have_is_not_used(swarm: Swarm, fails: str, said: str) -> None:
    swarm.told(*UP, model="small")
    swarm.told(*UP, model="medium")
    done = swarm.run(*UP, model="large", fails=fails)
    assert done.returncode == 1 and said in done.stderr, (done.stderr, swarm.state)
    assert not [told for told in swarm.state["log"] if told.startswith("update api")]
    assert swarm.state["label"] == "medium q8_0 0123456789ab"
    assert swarm.told("rollback")[0] == "deploy medium", "what worked last, not what worked before that"


LONG_AGO = "cloister_ui 100 rollback_completed"


def test_a_change_has_ended_once_all_is_replaced(swarm: Swarm) -> None:
    swarm.state["updates"] = [LONG_AGO, *(f"cloister_api 200 {state}\n{LONG_AGO}" for state in ("updating", "updating", "completed"))]
    swarm.told(*UP, model="small")
    assert swarm.state["updates"] == [f"cloister_api 200 completed\n{LONG_AGO}"]


@pytest.mark.parametrize("state", ["rollback_completed", "rollback_paused", "paused"])
def test_what_the_swarm_takes_back_is_a_failure_that_is_named(swarm: Swarm, state: str) -> None:
    swarm.state["updates"] = [LONG_AGO, f"cloister_api 200 rollback_started\n{LONG_AGO}", f"cloister_api 200 {state}\n{LONG_AGO}"]
    done = swarm.run(*UP, model="small")
    assert done.returncode == 1 and "the swarm has taken api back" in done.stderr and "taken ui back" not in done.stderr
    assert swarm.state["updates"] == [f"cloister_api 200 {state}\n{LONG_AGO}"]
    assert "nothing is known here" in swarm.run("rollback").stderr, "it is nothing to go back to"
