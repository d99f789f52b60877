"""scripts/doctor --swarm: a whole swarm, and one with a node, a label or a service made wrong at a time."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from scripts.diagnosis import swarm
from scripts.diagnosis.swarm import ask, members, services
from tests.conftest import ROOT, environment
from tests.doctor.conftest import one, visit
from tests.doctor.seen import NODE, SECOND, Seen, config


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_a_whole_node(seen: Seen, tmp_path: Path) -> None:
    """It was made with --plain on a kernel without ESP, of which two lines warn."""
    found = swarm.judge(seen.cluster, config(tmp_path, MODEL__NAME="demo"))
    assert {item.found.partition(":")[0] for item in found if item.level != "ok"} == {
        "vm",
        "inside, replicas go from node to node in plain text",
    }
    one(found, "ok", "swarm", "a swarm of 1 node, and all of them answer")
    one(found, "ok", "services", "api 1, balancer 1, door 1, gateway 1, init 1, ui 1")
    one(found, "ok", "networks", "61 addresses, and 4 are needed")
    one(found, "ok", "networks", "the ports 7860, 8000 are taken by the door")
    one(found, "ok", "replicas", "the balancer on vm sees the replicas on vm")
    one(found, "ok", "replicas", "Cloister demo, q4_k_m, sha256 1738707f6e2c on vm")


def test_two_whole_nodes(seen: Seen, tmp_path: Path) -> None:
    found = swarm.judge(seen.second().cluster, config(tmp_path, MODEL__NAME="demo"))
    assert not [item for item in found if item.level in ("BAD", "skip")], found
    one(found, "ok", "services", "api 2, balancer 2, door 2, gateway 2, init 2, ui 2")
    one(found, "ok", "networks", "8 are needed")
    one(found, "ok", "nodes", "vm2: its clock is this one's")
    for name in ("vm", "vm2"):
        one(found, "ok", "replicas", f"the balancer on {name} sees the replicas on vm, vm2")
    one(found, "ok", "replicas", "on vm, vm2", "sha256")


@pytest.mark.parametrize(
    ("swarm_state", "words"),
    [
        ({"LocalNodeState": "inactive", "ControlAvailable": False}, "is in no swarm"),
        ({"LocalNodeState": "active", "ControlAvailable": False}, "is a worker"),
        ({"LocalNodeState": "error", "Error": "manager stopped: failed to listen"}, "error: manager stopped"),
        ({"LocalNodeState": "locked"}, "is locked"),
    ],
)
def test_an_engine_that_manages_nothing(seen: Seen, tmp_path: Path, swarm_state: dict[str, object], words: str) -> None:
    seen.told["info"]["Swarm"] |= swarm_state
    seen.told["nodes"] = []
    assert [item.topic for item in swarm.judge(seen.cluster, config(tmp_path))] == ["swarm"], "nothing else can be judged"
    one(members.examine(seen.cluster), "BAD", "swarm", words)


def test_one_node_by_itself(seen: Seen, tmp_path: Path) -> None:
    seen.told |= {"nodes": [], "services": [], "tasks": []}
    seen.told["info"]["Swarm"]["ControlAvailable"] = False
    found = swarm.judge(seen.cluster, config(tmp_path), alone=True)
    one(found, "ok", "swarm", "this engine is a worker of a swarm, by 10.205.0.1")
    one(found, "warn", "nodes", "vm: the kernel has no ESP")
    one(found, "ok", "networks", "vm: the ports 7860, 8000 are taken by the door")
    assert {item.topic for item in found} == {"swarm", "nodes", "networks"}


def test_managers_that_have_no_quorum(seen: Seen) -> None:
    seen.error, seen.told["nodes"] = "Error response from daemon: rpc error: code = Unknown desc = The swarm does not have a leader.", []
    assert "--force-new-cluster" in one(members.examine(seen.cluster), "BAD", "swarm", "does not have a leader").todo


def test_nodes_that_are_gone_or_rest(seen: Seen) -> None:
    seen.second().told["nodes"][1]["Status"] |= {"State": "down", "Message": "heartbeat failure"}
    assert SECOND in one(members.examine(seen.cluster), "BAD", "swarm", "vm2 is down (heartbeat failure)").todo
    seen.told["nodes"][1]["Status"] |= {"State": "ready"}
    seen.told["nodes"][1]["Spec"]["Availability"] = "drain"
    one(members.examine(seen.cluster), "warn", "swarm", "vm2 gets no work: it is set to drain")


@pytest.mark.parametrize(
    ("nodes", "managers", "level", "words"),
    [
        (2, 1, "ok", "1 manager: without it nothing is replaced"),
        (3, 1, "warn", "1 manager of 3 nodes"),
        (2, 2, "warn", "2 managers are worse than 1"),
        (4, 3, "ok", "3 managers: 1 of them may be gone"),
        (4, 4, "warn", "4 managers bear the loss of 1, no more than 3"),
        (6, 5, "ok", "5 managers: 2 of them may be gone"),
    ],
)
def test_managers(seen: Seen, nodes: int, managers: int, level: str, words: str) -> None:
    one(members.examine(seen.nodes(nodes, managers).cluster), level, "swarm", words)


def test_a_manager_that_is_lost(seen: Seen) -> None:
    seen.nodes(3, 3).told["nodes"][2]["ManagerStatus"]["Reachability"] = "unreachable"
    found = members.examine(seen.cluster)
    one(found, "BAD", "swarm", "the manager vm3 is not to be reached")
    assert not [item for item in found if "may be gone" in item.found]


def test_versions(seen: Seen) -> None:
    seen.nodes(3, 1).told["nodes"][1]["Description"]["Engine"]["EngineVersion"] = "24.0.7"
    one(members.examine(seen.cluster), "warn", "swarm", "different versions", "vm2 24.0.7")
    seen.told["nodes"][2]["Description"]["Engine"]["EngineVersion"] = "19.03.15"
    seen.told["client"] = "18.09.1"
    found = members.examine(seen.cluster)
    one(found, "BAD", "swarm", "newer is needed: vm3 has 19.03.15")
    one(found, "BAD", "swarm", "docker's command is 18.09.1")


def test_labels(seen: Seen) -> None:
    labels = [node["Spec"]["Labels"] for node in seen.nodes(3, 1).told["nodes"]]
    for name in labels:
        name.clear()
    found = members.examine(seen.cluster)
    one(found, "BAD", "swarm", "cloister.api=true, so none answers")
    one(found, "BAD", "swarm", "cloister.entry=true, so none has the published ports")
    one(found, "warn", "swarm", "nothing runs on vm, vm2, vm3")
    seen.service("init")["Spec"]["TaskTemplate"]["Placement"]["Constraints"] = ["node.labels.cloister.first == true"]
    one(members.examine(seen.cluster), "BAD", "swarm", "so none fetches the model")
    labels[0]["cloister.first"] = "true"
    one(members.examine(seen.cluster), "ok", "swarm", "cloister.first: vm")
    labels[1]["cloister.first"] = "true"
    one(members.examine(seen.cluster), "BAD", "swarm", "vm, vm2 are all labelled")


def test_nothing_of_the_stack(seen: Seen) -> None:
    seen.told["services"], seen.told["tasks"] = [], []
    assert "scripts/swarm up" in one(services.examine(seen.cluster), "warn", "services", "nothing of the stack cloister").todo


def test_a_stack_that_was_cut_short(seen: Seen) -> None:
    """What is declared is read of swarm.yaml as it is."""
    declared = ask._declared((ROOT / "swarm.yaml").read_text())
    assert {"init", "api", "ui", "gateway", "door", "balancer"} < set(declared) and "replicas" not in declared
    cluster = seen.cluster
    cluster.declared = ("init", "api", "relay", "store")
    one(services.examine(cluster), "BAD", "services", "relay, store of swarm.yaml is not there")


def test_services_that_are_not_there(seen: Seen) -> None:
    seen.second().task("api", SECOND)["Status"] = {"State": "rejected", "Err": "No such image: sha256:ab"}
    seen.task("ui")["Status"] = {"State": "starting"}
    seen.task("init", SECOND)["Status"] |= {"State": "running"}
    seen.told["tasks"].remove(seen.task("door", SECOND))
    found = services.examine(seen.cluster)
    assert (
        "docker service logs cloister_api"
        in one(found, "BAD", "services", "api does not run on vm2 (rejected, No such image: sha256:ab)").todo
    )
    one(found, "warn", "services", "ui is coming up on vm (starting)")
    one(found, "warn", "services", "init is at work on vm2")
    one(found, "BAD", "services", "door does not run on vm2 (no task)")
    one(found, "ok", "services", "balancer 2, gateway 2")
    seen.task("init", SECOND)["Status"] = {"State": "failed", "ContainerStatus": {"ExitCode": 3}, "Err": ""}
    one(services.examine(seen.cluster), "BAD", "services", "init did not end its work on vm2 (failed, exit code 3)")
    for node in seen.told["nodes"]:
        node["Spec"]["Labels"] = {"cloister.entry": "true"}
    one(services.examine(seen.cluster), "BAD", "services", "api runs nowhere")


def test_a_service_that_may_be_anywhere(seen: Seen) -> None:
    """One replica for two nodes, which Swarm puts on either."""
    seen.second().service("gateway")["Spec"]["Mode"] = {"Replicated": {"Replicas": 1}}
    seen.told["tasks"].remove(seen.task("gateway"))
    one(services.examine(seen.cluster), "ok", "services", "gateway 1,")
    seen.task("gateway", SECOND)["Status"] = {
        "State": "pending",
        "Err": "no suitable node (scheduling constraints not satisfied on 2 nodes)",
    }
    one(services.examine(seen.cluster), "warn", "services", "gateway is coming up (pending, no suitable node")
    seen.task("gateway", SECOND)["Status"] = {"State": "failed", "Err": "task: non-zero exit (1)"}
    one(services.examine(seen.cluster), "BAD", "services", "gateway runs 0 times instead of 1 (failed, task: non-zero exit (1))")


def test_a_service_for_the_rest_of_the_nodes(seen: Seen) -> None:
    """As copy, which has nothing to do where there is but the first node."""
    rules = seen.second().service("init")["Spec"]["TaskTemplate"]["Placement"]["Constraints"]
    rules.append("node.labels.cloister.first != true")
    one(services.examine(seen.cluster), "ok", "services", "init 2")
    for count, node in enumerate(seen.told["nodes"]):
        node["Spec"]["Labels"]["cloister.first"] = "true"
        one(services.examine(seen.cluster), "ok", "services", f"init {1 - count}")


def test_a_node_that_is_down_lacks_nothing(seen: Seen) -> None:
    """Its services are not missed: members tell of the node."""
    seen.second().told["nodes"][1]["Status"]["State"] = "down"
    seen.told["tasks"] = [task for task in seen.told["tasks"] if task["NodeID"] == NODE]
    assert {item.level for item in services.examine(seen.cluster)} == {"ok"}


def test_what_failed_lately(seen: Seen) -> None:
    for minute in ("09:01", "09:09"):
        failed = copy.deepcopy(seen.task("api")) | {"ID": minute, "CreatedAt": f"2026-11-28T{minute}:00Z"}
        failed["Status"] = {"State": "failed", "Timestamp": f"2026-11-28T{minute}:30.123456789Z", "Err": f"exit at {minute}"}
        seen.told["tasks"].append(failed)
    found = services.examine(seen.cluster)
    assert (
        "CLOISTER_API_MEMORY" in one(found, "warn", "services", "api has failed 2 times within an hour on vm, last with exit at 09:09").todo
    )
    seen.told["now"] += 3600
    assert not [item for item in services.examine(seen.cluster) if item.level != "ok"]


@pytest.mark.parametrize(
    ("state", "level", "words"),
    [
        ("paused", "BAD", "the change of api was stopped on its way"),
        ("rollback_paused", "BAD", "the change of api was stopped on its way"),
        ("rollback_completed", "warn", "failed and was taken back: update rolled back"),
        ("updating", "warn", "api is being replaced"),
    ],
)
def test_how_a_change_ended(seen: Seen, state: str, level: str, words: str) -> None:
    seen.service("api")["UpdateStatus"] = {"State": state, "Message": "update rolled back due to failure or early termination of task"}
    one(services.examine(seen.cluster), level, "services", words)


def test_an_older_image(seen: Seen) -> None:
    seen.task("ui")["Spec"]["ContainerSpec"]["Image"] = "sha256:older"
    one(services.examine(seen.cluster), "warn", "services", "ui on vm is of an older image")


def test_arguments_and_no_engine(tmp_path: Path) -> None:
    nobody = environment(tmp_path, MODEL__NAME="demo") | {"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"}
    seen = visit(tmp_path, "--swarm", env=nobody)
    assert len(seen.findings) == 1 and seen.code == 1
    seen.found("BAD", "swarm", "no Docker engine answers")
