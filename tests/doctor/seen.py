"""What a real engine told of a real swarm, and of the same with something changed.

swarm.json: one node with the whole stack, engine 20.10.24, without what no finding reads. A second node is the first one again.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from scripts.diagnosis.swarm.cluster import Cluster, Machine
from services.shared import settings
from services.ui.told import Told
from tests.conftest import ROOT, environment

RECORDED = json.loads((ROOT / "tests/doctor/swarm.json").read_text())
NODE = RECORDED["nodes"][0]["ID"]
SECOND = "second" + NODE[6:]
STATISTICS = RECORDED["balancer"]


class Seen:
    """What was told, to be changed before it becomes a cluster."""

    def __init__(self) -> None:
        self.told = copy.deepcopy(RECORDED)
        self.machines = [dict(self.told)]
        self.silent: list[str] = []
        self.subnet = "10.213.8.0/26"
        self.error = ""

    def second(self) -> Seen:
        """The node again, as worker at 10.205.0.2, which can be asked, too."""
        node = copy.deepcopy(self.told["nodes"][0])
        node |= {"ID": SECOND, "Status": {"State": "ready", "Addr": "10.205.0.2"}, "ManagerStatus": None}
        node["Description"]["Hostname"] = "vm2"
        self.told["nodes"].append(node)
        for task in copy.deepcopy(self.told["tasks"]):
            task |= {"ID": task["ID"][::-1], "NodeID": SECOND}
            for attached in task["NetworksAttachments"]:
                attached["Addresses"] = [address.replace("10.213.8.2/", "10.213.8.5/") for address in attached["Addresses"]]
            self.told["tasks"].append(task)
        for network in self.told["networks"]:
            network["Peers"] = [*network.get("Peers", ()), {"Name": "b", "IP": "10.205.0.2"}]
        row = next(line for line in STATISTICS.splitlines() if line.startswith("near,a2,"))
        again = copy.deepcopy(RECORDED) | {"host": "ssh://vm2", "balancer": f"{STATISTICS}\n{row.replace('near,a2,', 'near,a5,')}"}
        again["info"]["Swarm"] |= {"NodeID": SECOND, "ControlAvailable": False}
        self.machines[0]["balancer"] = again["balancer"]
        self.machines.append(again)
        return self

    def nodes(self, number: int, managers: int) -> Seen:
        """So many of them, and so many of these manage; no engine but this one is asked."""
        first = self.told["nodes"][0]
        for count in range(1, number):
            node = copy.deepcopy(first) | {"ID": f"{count}{NODE[1:]}"}
            node["Description"]["Hostname"] = f"vm{count + 1}"
            if count >= managers:
                node["ManagerStatus"] = None
            self.told["nodes"].append(node)
        return self

    def service(self, short: str) -> Any:
        return next(one for one in self.told["services"] if one["Spec"]["Name"] == f"cloister_{short}")

    def task(self, short: str, node: str = NODE) -> Any:
        """The newest one there."""
        there = [one for one in self.told["tasks"] if one["ServiceID"] == self.service(short)["ID"] and one["NodeID"] == node]
        return max(there, key=lambda task: task["CreatedAt"])

    def network(self, short: str) -> Any:
        return next(one for one in self.told["networks"] if one["Name"] == f"cloister_{short}")

    @property
    def cluster(self) -> Cluster:
        wrapped = {name: [Told(one) for one in self.told[name]] for name in ("nodes", "services", "tasks", "networks")}
        machines = [
            Machine(
                *(
                    machine.get("host", ""),
                    Told(machine["info"]),
                    machine["asked"],
                    machine["took"],
                    Told(machine["seen"]),
                    Told(machine["esp"]),
                ),
                missing=tuple(machine.get("missing", ())),
                door=machine.get("door", True),
                model=Told(machine["model"]),
                balancer=machine["balancer"],
            )
            for machine in self.machines
        ]
        more = {"machines": machines, "silent": self.silent, "subnet": self.subnet, "error": self.error, "now": self.told["now"]}
        return Cluster("cloister", Told(self.told["info"]), self.told["client"], **wrapped, **more)  # type: ignore[arg-type]


def config(home: Path, **more: object) -> settings.Settings:
    return settings.load(environment(home, **more))
