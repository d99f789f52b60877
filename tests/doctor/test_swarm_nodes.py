"""scripts/doctor --swarm: a node, a network or a replica made wrong at a time; and what is sent into the nodes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from scripts.diagnosis.finding import Finding
from scripts.diagnosis.swarm import engines, networks, probe, replicas
from tests.doctor.conftest import one
from tests.doctor.seen import NODE, RECORDED, SECOND, Seen, config

MODEL = engines.Wanted("the model", 3e9, 4e9)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def examined(seen: Seen, *, plain: bool = False) -> list[Finding]:
    return engines.examine(seen.cluster, MODEL, plain=plain)


def test_a_kernel_that_can_encrypt(seen: Seen) -> None:
    here = seen.machines[0]
    one(examined(seen), "BAD", "nodes", "no ESP or AES-GCM (ENOSYS)", "--plain")
    one(examined(seen, plain=True), "warn", "nodes", "can't be encrypted")
    here["esp"], here["seen"]["kernel"] = {"error": ""}, {}
    one(examined(seen), "ok", "nodes", "the kernel can encrypt networks")
    here["esp"] = {"error": "no image"}
    one(examined(seen), "skip", "nodes", "whether the kernel can encrypt networks was not found out: no image")
    here["seen"]["kernel"] = {"CONFIG_INET_ESP": "m", "CONFIG_NETFILTER_XT_MATCH_BPF": "m"}
    one(examined(seen), "ok", "nodes", "the kernel can encrypt networks")
    here["seen"]["kernel"] |= {"CONFIG_NETFILTER_XT_MATCH_BPF": "n", "CONFIG_NETFILTER_XT_MATCH_U32": "n"}
    one(examined(seen), "BAD", "nodes", "xt_bpf and xt_u32")


def test_a_daemon(seen: Seen) -> None:
    here = seen.machines[0]
    one(examined(seen), "ok", "nodes", "nothing in a container can gain privileges")
    here["seen"]["no_new_privileges"] = False
    assert '"no-new-privileges": true' in one(examined(seen), "warn", "nodes", "may gain privileges").todo
    here["seen"] = {"error": "it has no image of the stack"}
    one(examined(seen), "skip", "nodes", "can gain privileges was not found out: it has no image of the stack")
    one(examined(seen), "skip", "nodes", "memory and disk was not found out")
    here["info"]["LiveRestoreEnabled"] = True
    assert '"live-restore": false' in one(examined(seen), "BAD", "nodes", "live-restore is on").todo


def test_clocks(seen: Seen) -> None:
    seen.second()
    there = seen.machines[1]
    for seconds, level, words in ((1.0, "ok", "is this one's"), (-30.0, "warn", "s off this one"), (4000.0, "BAD", "certificates")):
        there["asked"] = RECORDED["asked"] - seconds
        one(examined(seen), level, "nodes", "vm2: its clock", words)
    there["asked"], there["took"] = RECORDED["asked"] - 20, 40.0
    one(examined(seen), "ok", "nodes", "vm2: its clock"), "whoever answers late may have the same time"


def test_room_for_the_model(seen: Seen) -> None:
    here = seen.machines[0]
    here["seen"] |= {"memory_available": 1e9, "disk_free": 2e9}
    one(examined(seen), "ok", "nodes", "1.0 GB of memory and 2.0 GB of disk are free")
    seen.task("api")["Status"]["State"], here["model"] = "failed", {}
    one(examined(seen), "BAD", "nodes", "the model takes 3.0 GB of memory")
    one(examined(seen), "BAD", "nodes", "preparing the model takes 4.0 GB of disk")
    seen.told["nodes"][0]["Spec"]["Labels"] = {"cloister.entry": "true"}
    one(examined(seen), "ok", "nodes", "1.0 GB of memory and 2.0 GB of disk are free")


def test_images_and_engines_that_are_not_there(seen: Seen) -> None:
    seen.second()
    seen.machines[1]["missing"] = ["api", "ui"]
    seen.silent = ["ssh://root@vm3"]
    found = examined(seen)
    assert "scripts/swarm join ssh://vm2" in one(found, "BAD", "nodes", "vm2 lacks the images of api, ui").todo
    one(found, "BAD", "nodes", "no engine answers at ssh://root@vm3")
    seen.machines.pop()
    one(examined(seen), "skip", "nodes", "vm2 was not looked at: run scripts/doctor --swarm --node there")


def test_encryption(seen: Seen, tmp_path: Path) -> None:
    assert networks.plain(seen.cluster)
    for short in ("inside", "replicas"):
        seen.network(short)["Options"]["encrypted"] = ""
    assert not networks.plain(seen.cluster)
    one(networks.examine(seen.cluster, config(tmp_path)), "ok", "networks", "inside, replicas are encrypted")
    del seen.network("inside")["Options"]["encrypted"]
    one(networks.examine(seen.cluster, config(tmp_path)), "warn", "networks", "inside go from node to node in plain text")


def test_the_subnet(seen: Seen, tmp_path: Path) -> None:
    def found() -> list[Finding]:
        return networks.examine(seen.cluster, config(tmp_path))

    seen.subnet = "10.213.9.0/26"
    one(found(), "warn", "networks", "have the subnet 10.213.8.0/26, and CLOISTER_SWARM_SUBNET is 10.213.9.0/26")
    seen.machines[0]["seen"]["routes"].append({"network": "10.213.0.0/16", "by": "eth0"})
    one(found(), "BAD", "networks", "10.213.8.0/26 is also 10.213.0.0/16 by eth0 on vm")
    seen.told["networks"] = [{"Name": "other", "IPAM": {"Config": [{"Subnet": "10.213.9.0/25"}]}}]
    one(found(), "BAD", "networks", "10.213.9.0/26 is also 10.213.9.0/25 by Docker's network other")
    seen.subnet = "10.213.9.1/26"
    one(found(), "BAD", "networks", "is no subnet")
    seen.subnet = "10.213.0.0/16"
    one(found(), "BAD", "networks", "more addresses than a balancer tries")


@pytest.mark.parametrize(("nodes", "level"), [(1, "ok"), (2, "ok"), (3, "warn"), (4, "BAD")])
def test_addresses(seen: Seen, tmp_path: Path, nodes: int, level: str) -> None:
    """Four a node, of the thirteen that a /28 has."""
    seen.nodes(nodes, 1).subnet = "10.213.8.0/28"
    seen.told["networks"] = []
    one(networks.examine(seen.cluster, config(tmp_path)), level, "networks", f"13 addresses, and {4 * nodes} are needed")


def test_ports_between_nodes(seen: Seen, tmp_path: Path) -> None:
    seen.second().machines[0]["seen"]["reached"] = {"10.205.0.2:7946": "open"}
    one(networks.examine(seen.cluster, config(tmp_path)), "ok", "networks", "vm reaches all others on 7946/tcp")
    seen.machines[1]["seen"]["reached"] = {"10.205.0.1:2377": "silent", "10.205.0.1:7946": "refused"}
    found = networks.examine(seen.cluster, config(tmp_path))
    assert "2377/tcp" in one(found, "BAD", "networks", "vm2 does not reach vm on port 2377: no answer").todo
    assert "7946/udp" in one(found, "BAD", "networks", "vm2 does not reach vm on port 7946: nobody listens").todo
    seen.network("replicas")["Peers"].pop()
    one(networks.examine(seen.cluster, config(tmp_path)), "BAD", "networks", "the engines here and on vm2 don't tell each other")


def test_published_ports(seen: Seen, tmp_path: Path) -> None:
    here = seen.machines[0]
    here["door"] = False
    one(networks.examine(seen.cluster, config(tmp_path)), "BAD", "networks", "port 7860 is taken by")
    here["seen"]["tcp"] = [2377]
    one(networks.examine(seen.cluster, config(tmp_path)), "ok", "networks", "the ports 7860, 8000 are free")
    here["door"] = True
    one(networks.examine(seen.cluster, config(tmp_path)), "BAD", "networks", "the door runs, and nobody listens on port 8000")


@pytest.mark.parametrize(
    ("status", "check", "level", "words"),
    [
        ("NOLB", "L7OKC", "ok", "spares vm2"),
        ("DOWN", "L7STS", "warn", "waits for the replica on vm2"),
        ("DOWN", "L4TOUT", "BAD", "(DOWN, L4TOUT) -> let 4789/udp"),
        ("DOWN", "L4CON", "BAD", "(DOWN, L4CON) -> docker service logs"),
    ],
)
def test_a_replica_that_a_balancer_does_not_see(seen: Seen, status: str, check: str, level: str, words: str) -> None:
    text = seen.second().machines[0]["balancer"]
    row = next(line for line in text.splitlines() if line.startswith("near,a5,"))
    seen.machines[0]["balancer"] = text.replace(row, row.replace(",UP,", f",{status},").replace(",L7OK,", f",{check},"))
    one(replicas.examine(seen.cluster), level, "replicas", "the balancer on vm ", words)


def test_a_replica_that_no_balancer_has(seen: Seen) -> None:
    seen.task("api")["NetworksAttachments"][0]["Addresses"] = ["10.213.8.9/26"]
    one(replicas.examine(seen.cluster), "BAD", "replicas", "does not see the replica on vm (unknown, no check)")
    seen.machines[0]["balancer"] = ""
    one(replicas.examine(seen.cluster), "skip", "replicas", "the balancer on vm does not tell")


def test_models(seen: Seen) -> None:
    seen.second().machines[1]["model"]["model"]["sha256"] = "f" * 64
    one(replicas.examine(seen.cluster), "BAD", "replicas", "different models", "vm2: Cloister demo, q4_k_m, sha256 ffffffffffff")
    seen.machines[1]["model"] = {"error": "No such file"}
    one(replicas.examine(seen.cluster), "warn", "replicas", "no model is prepared on vm2 yet")


def test_two_nodes_of_one_name(seen: Seen) -> None:
    seen.second().told["nodes"][1]["Description"]["Hostname"] = "vm"
    assert [seen.cluster.name(node) for node in (NODE, SECOND)] == ["vm (10.205.0.1)", "vm (10.205.0.2)"]


def test_a_kernels_answer_and_routes() -> None:
    assert struct.unpack("=IHH", probe.association()[:8]) == (len(probe.association()), probe.NEWSA, probe.REQUEST | probe.ACK)
    table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    table += "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\nbr0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
    assert probe.routes(table) == [{"network": "192.168.0.0/24", "by": "br0"}]
