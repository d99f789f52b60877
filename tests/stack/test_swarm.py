"""The appliance on two machines: one after the other of what a swarm's life has, on real engines with a cable between them.

The tests build on each other, in the order in which they stand here. What takes long and what is measured: tests/stack/scaling.py.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from tests.stack.cluster import Cluster, cluster
from tests.stack.conftest import QUESTION, ROOT, Stack
from tests.stack.nodes import plug, pull, thin
from tests.stack.waiting import wait

INSIDE = ("api", "ui", "gateway", "balancer", "relay", "store", "depot")


@pytest.fixture(scope="module")
def swarm(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The appliance on the first machine; the second one is there and belongs to nobody."""
    stack.run(ROOT / "scripts/swarm", "build", timeout=1200)
    with cluster(tmp_path_factory.mktemp("swarm"), stack.env["CLOISTER_TAG"]) as made:
        made.swarm("up", "--plain", "--no-build", made.first.address)
        yield made


def test_one_machine_answers(swarm: Cluster) -> None:
    status, said = swarm.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}]})
    answer = said["choices"][0]["message"]["content"]
    assert status == 200 and "23" in answer and "12" in answer
    wait(lambda: len(swarm.replicas()) == 1, 20, swarm.explain)


def test_another_machine_joins_and_the_first_one_does_not_notice(swarm: Cluster) -> None:
    before, asked = swarm.tasks("api")[0], swarm.journal.read_text()
    with swarm.load(3, 60) as requests:
        swarm.swarm("join", swarm.second.host)
        wait(lambda: len(swarm.replicas()) == 2, 180, swarm.explain)
        time.sleep(3)
    assert requests and not (lost := [request for request in requests if request.failed]), lost
    assert swarm.tasks("api")[0] == before
    assert swarm.answered(swarm.second) > 0
    assert swarm.journal.read_text() == asked != "", "the hub was asked again"
    assert swarm.digest(swarm.first) == swarm.digest(swarm.second)


def test_nothing_gets_out_of_any_container_of_any_machine(swarm: Cluster) -> None:
    said = swarm.run("verify-isolation", "--swarm", swarm.first.address)
    tried = [line.split(": ")[0] for line in said.splitlines() if "ways closed" in line]
    there = [f"{service} on this machine" for service in INSIDE] + [f"api on {swarm.second.host}"]
    assert sorted(tried) == sorted(there) and "nothing gets out of 8 containers on 2 machines" in said


def test_a_conversation_goes_where_its_beginning_is_in_the_cache(swarm: Cluster) -> None:
    before = [swarm.answered(node) for node in (swarm.first, swarm.second)]
    for turns in swarm.conversations(16):
        for (earlier, _), (_, cached) in itertools.pairwise(turns):
            assert cached >= earlier - 2, turns  # the opening of the thinking is not said again
    after = [swarm.answered(node) for node in (swarm.first, swarm.second)]
    assert all(now > then for now, then in zip(after, before, strict=True)), "both have answered"


def test_a_key_may_do_as_much_as_on_one_machine(swarm: Cluster) -> None:
    """The questions differ, so that they go to both machines."""
    began = time.monotonic()
    asked = [{"messages": [{"role": "user", "content": f"{n} + {n}"}], "max_tokens": 1} for n in range(16)]
    codes = [swarm.ask("/v1/chat/completions", body, key="limited")[0] for body in asked]
    refilled = (time.monotonic() - began) * 8 / 60
    assert 8 <= codes.count(200) <= 8 + refilled and codes.count(200) + codes.count(429) == 16


def test_the_state_shows_both_machines(swarm: Cluster) -> None:
    shown = swarm.ask("/v1/status")[1]["cluster"]["replicas"]
    assert [replica["state"] for replica in shown] == ["up", "up"], shown
    assert len({replica["model"]["sha256"] for replica in shown}) == 1
    assert {replica["name"] for replica in shown} == swarm.replicas()


def test_the_doctor_looks_at_both_machines_and_finds_nothing_wrong(swarm: Cluster) -> None:
    said = swarm.run("doctor", "--swarm")
    assert "doctor: 0 wrong" in said and said.count("has the very images of the stack") == 2, said


def test_another_image_comes_without_a_failed_request(swarm: Cluster) -> None:
    later = swarm.later()
    others = [swarm.tasks(service) for service in ("gateway", "ui", "balancer")]
    with swarm.load(3, 200) as requests:
        swarm.swarm("up", "--plain", "--no-build", CLOISTER_TAG="later")
        wait(lambda: swarm.images("api") == [later, later] and len(swarm.replicas()) == 2, 180, swarm.explain)
    assert len(requests) > 5 and not (lost := [request for request in requests if request.failed]), lost
    assert [swarm.tasks(service) for service in ("gateway", "ui", "balancer")] == others


def test_back_again_and_to_another_model_without_a_failed_request(swarm: Cluster) -> None:
    tag, was = swarm.env["CLOISTER_TAG"], swarm.digest(swarm.first)
    before = swarm.first.docker("image", "inspect", "--format", "{{.Id}}", f"cloister-api:{tag}")
    with swarm.load(3, 200) as requests:
        swarm.swarm("rollback")
        wait(lambda: swarm.images("api") == [before, before] and len(swarm.replicas()) == 2, 180, swarm.explain)
        swarm.swarm("up", "--plain", "--no-build", CLOISTER_MODEL__QUANT="q8_0")
        wait(lambda: len(swarm.replicas()) == 2, 180, swarm.explain)
    assert len(requests) > 5 and not (lost := [request for request in requests if request.failed]), lost
    assert was != swarm.digest(swarm.first) == swarm.digest(swarm.second)
    wait(lambda: swarm.quants() == {"q8_0"}, 60, swarm.explain)
    there = [swarm.tasks(service) for service in ("api", "gateway", "relay", "balancer")]
    swarm.swarm("up", "--plain", "--no-build", CLOISTER_MODEL__QUANT="q8_0")
    assert [swarm.tasks(service) for service in ("api", "gateway", "relay", "balancer")] == there, "nothing has changed"


def test_a_machine_falls_silent_and_its_streams_are_told(swarm: Cluster) -> None:
    """Also where it is an entry: what came in by the other one does not pass through its gateway, relay or balancer."""
    swarm.open(swarm.second)
    second = swarm.server(swarm.second)
    with swarm.load(12, 1000) as requests:
        time.sleep(3)
        wait(lambda: swarm.running(second) > 1, 60, swarm.explain)  # so many that each takes seconds: they still run a moment later
        pull(swarm.second)
        pulled = time.time()
        time.sleep(15)
    cut = [request for request in requests if request.failed]
    assert cut and all(
        request.began < pulled and (request.told or request.status == 503) and request.ended - pulled < 5 for request in cut
    ), cut
    assert [request for request in requests if request.began > pulled], "somebody asked afterwards"
    plug(swarm.second)
    wait(lambda: len(swarm.replicas()) == 2, 120, swarm.explain)


def test_a_machine_that_was_away_comes_back_with_the_model_of_the_others(swarm: Cluster) -> None:
    """Over a thin line, so that it could begin with its old model long before it has the new one."""
    gone = swarm.server(swarm.second)
    pull(swarm.second)
    wait(lambda: swarm.state(swarm.second) == "down", 120)
    swarm.swarm("up", "--plain", "--no-build", CLOISTER_MODEL__QUANT="q6_k")
    assert swarm.quants() == {"q6_k"} and gone not in swarm.replicas()
    thin(swarm.first, mbit=40)
    plug(swarm.second)
    wait(lambda: len(swarm.replicas()) == 2 and swarm.quants() == {"q6_k"}, 180, swarm.explain)
    assert "is not here yet" in swarm.second.docker("logs", swarm.container(swarm.second, "api"))
    assert swarm.digest(swarm.first) == swarm.digest(swarm.second)
