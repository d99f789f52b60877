"""swarm.yaml: it is what compose.yaml says, in words that `docker stack deploy` of Docker 20.10 knows."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from scripts.swarming.expression import translated
from scripts.swarming.mount import tmpfs, volume
from scripts.swarming.service import Unknown
from scripts.swarming.stack import stack, text
from services.api.server import LAST_WORDS
from tests.conftest import ROOT

COMPOSE = (ROOT / "compose.yaml").read_text()
FILE = (ROOT / "swarm.yaml").read_text()
STACK: dict[str, Any] = yaml.safe_load(FILE)
# Of the schema of version 3.9; what else is there is refused, or, worse, taken and forgotten (tmpfs, security_opt, build, restart).
KNOWN = {"cap_add", "cap_drop", "deploy", "dns", "environment", "image", "logging", "networks", "ports", "read_only", "secrets"}
KNOWN |= {"command", "healthcheck", "hostname", "stop_grace_period", "stop_signal", "sysctls", "volumes"}


def test_swarm_yaml_is_up_to_date() -> None:
    assert text(stack(COMPOSE)) == FILE, "compose.yaml has changed: python -m scripts.swarming"


def test_what_compose_says_anew_must_be_thought_of() -> None:
    with pytest.raises(Unknown, match=r"services\.ui\.hostname"):
        stack(COMPOSE.replace("  ui:\n", "  ui:\n    hostname: page\n"))


def test_every_service_has_only_what_a_stack_knows() -> None:
    compose = yaml.safe_load(COMPOSE)
    assert set(STACK["services"]) == {*compose["services"], "relay", "balancer", "store", "copy", "depot"}
    for name, service in STACK["services"].items():
        assert set(service) <= KNOWN, name
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["deploy"]["resources"]["limits"].keys() >= {"pids", "memory"}, name
        assert service["deploy"]["endpoint_mode"] == "dnsrr", name


def test_limits_secrets_and_settings_are_those_of_compose() -> None:
    for name, service in yaml.safe_load(COMPOSE)["services"].items():
        there = STACK["services"][name]
        assert there["deploy"]["resources"]["limits"]["memory"] == service["mem_limit"]
        assert there.get("secrets") == service.get("secrets")
        assert there["environment"].keys() >= service["environment"].keys()
    assert set(STACK["secrets"]) == set(yaml.safe_load(COMPOSE)["secrets"])


def test_what_ends_is_not_taken_back_for_having_ended() -> None:
    """Swarm counts every task that ends while it looks as one that failed."""
    actions = {name: service["deploy"]["update_config"]["failure_action"] for name, service in STACK["services"].items()}
    assert {name for name, action in actions.items() if action != "rollback"} == {"init", "copy"}


def test_its_expressions_are_of_the_kinds_that_a_stack_knows() -> None:
    known = re.compile(r"\$\{[A-Za-z_]\w*(:?[-?][^}]*)?\}")
    assert "$" not in known.sub("", FILE)
    assert translated("${A:+/run/a}") == "${SWARM_A:-}"
    assert translated(["${CLOISTER_BIND:-127.0.0.1}"]) == ["0.0.0.0"]


def test_each_has_more_time_to_stop_than_what_it_waits_for() -> None:
    """An answer, the api, the engine after it, the container; and a balancer checks twice while the api says that it is about to stop."""
    api = STACK["services"]["api"]
    drain, grace = (int(api["environment"][f"CLOISTER_API__{name}"]) for name in ("DRAIN", "GRACE"))
    assert api["stop_grace_period"] == "5m"
    assert 2 < drain < grace < grace + LAST_WORDS < int(api["environment"]["SUPERVISE_GRACE"]) <= 5 * 60 - 10
    compose = yaml.safe_load(COMPOSE)["services"]["api"]
    assert compose["stop_grace_period"] == "20s", "[api] grace is 5, and the engine has 10"


def test_nothing_inside_has_a_way_out() -> None:
    inside = {name for name, network in STACK["networks"].items() if network.get("internal")}
    assert inside == {"inside", "replicas", "counting", "models"}
    for name in inside:
        assert STACK["networks"][name]["driver_opts"] == {"encrypted": ""}
    for name, service in STACK["services"].items():
        outside = set(service["networks"]) - inside
        assert outside == {"init": {"setup"}, "door": {"edge"}}.get(name, set()), name
    assert STACK["services"]["api"]["networks"] == ["replicas", "counting"]


def test_only_the_replicas_reach_the_store_that_counts_for_all_of_them() -> None:
    assert [name for name, service in STACK["services"].items() if "counting" in service["networks"]] == ["api", "store"]
    store = STACK["services"]["store"]
    assert store["networks"] == ["counting"] and "ports" not in store and "secrets" not in store
    assert (store["deploy"]["mode"], store["deploy"]["replicas"]) == ("replicated", 1)
    assert STACK["services"]["api"]["environment"]["CLOISTER_API__STORE"] == "redis://store:6379"
    assert "CLOISTER_API__STORE" not in COMPOSE, "one machine counts for itself"


def test_answers_pass_through_the_relay_and_the_balancer_which_finish_them() -> None:
    services = STACK["services"]
    assert services["gateway"]["environment"]["GATEWAY_UPSTREAM"] == "relay-{{.Node.ID}}:8080"
    assert services["ui"]["environment"]["CLOISTER_UI__API"] == "http://relay-{{.Node.ID}}:8080"
    upstream = {"RELAY_UPSTREAM": "http://balancer-{{.Node.ID}}:8080", "RELAY_CLUSTER": "http://balancer-{{.Node.ID}}:8081"}
    assert services["door"]["environment"]["DOOR_GATEWAY"] == "gateway-{{.Node.ID}}"
    named = {name: service["hostname"] for name, service in services.items() if "hostname" in service}
    assert named == {name: f"{name}-{{{{.Node.ID}}}}" for name in ("gateway", "relay", "balancer")}
    assert services["relay"]["environment"] == upstream and services["relay"]["networks"] == ["inside"]
    for name in ("relay", "balancer"):
        assert services[name]["stop_grace_period"] == "5m" and services[name]["deploy"]["update_config"]["order"] == "start-first"
        assert name.upper() in services[name]["image"] and "cloister.entry" in str(services[name]["deploy"]["placement"])


def test_mounts_are_in_the_order_in_which_an_update_of_a_service_puts_them() -> None:
    """Otherwise scripts/swarm could not label the api with its model without replacing all replicas at once."""
    for name, service in STACK["services"].items():
        mounts = [(mounted.get("source", ""), mounted["target"]) for mounted in service.get("volumes", ())]
        assert mounts == sorted(mounts), name


def test_no_path_of_one_machine_is_in_it() -> None:
    for service in STACK["services"].values():
        assert all(mounted["type"] in ("volume", "tmpfs") for mounted in service.get("volumes", ()))
    assert volume("${CLOISTER_SOURCE:-./docker/source}:/source/${CLOISTER_SOURCE_NAME:-none}:ro") is None
    assert volume("./var/adapters:/a:ro") == {"type": "volume", "source": "adapters", "target": "/a", "read_only": True}
    assert tmpfs("/tmp:size=256m,mode=1777") == {"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 256 << 20}}


def test_one_node_prepares_the_model_and_the_others_copy_it() -> None:
    places = {name: set(service["deploy"]["placement"]["constraints"]) for name, service in STACK["services"].items()}
    first, api = "node.labels.cloister.first == true", "node.labels.cloister.api == true"
    assert places["init"] == places["depot"] == {first}
    assert places["copy"] == {api, "node.labels.cloister.first != true"} and places["api"] == {api}
    init, copy, depot = (STACK["services"][name] for name in ("init", "copy", "depot"))
    assert copy["image"] == init["image"] and copy["volumes"] == init["volumes"]
    assert "secrets" not in copy and set(copy["environment"]) == {"CLOISTER_MODEL__PEER", "CLOISTER_LOG__LEVEL"}
    assert copy["environment"]["CLOISTER_MODEL__PEER"] == "http://depot:8080"
    assert copy["networks"] == depot["networks"] == ["models"]
    shown = [mounted for mounted in depot["volumes"] if mounted["type"] == "volume"]
    assert {mounted["source"] for mounted in shown} == {"model", "progress"} and all(mounted["read_only"] for mounted in shown)
    assert "secrets" not in depot and depot["command"][3] == "docker/Caddyfile.depot"
    assert STACK["services"]["api"]["deploy"]["labels"] == {"cloister.model": "${SWARM_MODEL:-}", "cloister.opens": "${SWARM_OPENS:-}"}
    assert STACK["services"]["api"]["environment"]["CLOISTER_ENGINE__MODEL"] == '{{index .Service.Labels "cloister.opens"}}'
