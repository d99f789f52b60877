"""What the relay makes of the balancer's account and of the metrics of several replicas."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.relay.cluster import seen
from services.relay.metrics import joined

STATUS = {  # near, any, last
    "a1": ("UP", "UP", "UP", 9, 5),
    "a2": ("NOLB", "UP", "UP", 9, 5),
    "a3": ("NOLB", "NOLB", "UP", 9, 5),
    "a4": ("DOWN", "DOWN", "UP", 0, 5),
    "a5": ("DOWN", "DOWN", "DOWN", 9, 5),
    "a6": ("DOWN", "DOWN", "DOWN", 9, 700),
    "a7": ("DOWN", "DOWN", "DOWN", 0, 5),
    "a8": ("UP 1/2", "UP", "UP", 0, 5),
}


def test_states_are_those_of_the_balancers_checks() -> None:
    lines = ["# pxname,svname,stot,status,lastchg", "near,BACKEND,9,UP,1", "api,FRONTEND,9,OPEN,", "one,a1,5,no check,3"]
    for name, (*checks, sessions, since) in STATUS.items():
        lines += [f"{backend},{name},{sessions},{check},{since}" for backend, check in zip(("near", "any", "last"), checks, strict=True)]
    found = {"a1": "up", "a2": "full", "a3": "draining", "a4": "starting", "a5": "down", "a8": "up"}
    assert seen("\n".join(lines)) == found, "nobody has ever lived at a7, and a6 has long been gone"


def test_metrics_of_several_are_one_text_that_prometheus_reads() -> None:
    text = (
        "# HELP a_seconds Seconds\n# TYPE a_seconds histogram\n"
        'a_seconds_bucket{le="+Inf",why="x{}\\" y"} 3.0\na_seconds_count 3.0\na_seconds_sum 1.5\n'
        "# HELP b_total B\n# TYPE b_total counter\nb_total 2.0\n"
    )
    families = list(text_string_to_metric_families(joined([("a1", text), ("a2", text + "# HELP c C\n# TYPE c gauge\nc NaN\n")])))
    assert [family.name for family in families] == ["a_seconds", "b", "c"] and families[0].type == "histogram"
    assert [(s.name, s.labels["replica"], s.value) for s in families[1].samples] == [("b_total", "a1", 2), ("b_total", "a2", 2)]
    assert {s.labels.get("why") for s in families[0].samples} == {None, 'x{}" y'}
    with pytest.raises(ValueError):
        joined([("a1", "<html>")])
