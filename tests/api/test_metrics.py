"""/metrics: what is counted, that a dashboard asks for nothing else, and that nobody's text becomes a label."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.shared import hardware
from services.shared.secret import digest
from tests.api.scripted import Stand, accepted, failed, finished, hold, stand, tag, text, until
from tests.conftest import ROOT

CHAT = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "q"}]}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Stand]:
    with stand(tmp_path) as standing:
        yield standing


def read(api: Stand, **headers: str) -> dict[str, float]:
    """Samples by name and labels, as Prometheus would write them."""
    response = httpx.get(api.url + "/metrics", headers=headers)
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/plain; version=")
    samples = [sample for family in text_string_to_metric_families(response.text) for sample in family.samples]
    return {s.name + "".join(f" {k}={v}" for k, v in sorted(s.labels.items())): s.value for s in samples}


def test_answers_are_counted_with_their_tokens_and_times(fresh: Stand) -> None:
    fresh.engine.play(
        accepted(), text("thought"), tag("</think>"), text("a"), finished(queue_seconds=0.5, prefill_seconds=0.25, decode_seconds=2.0)
    )
    for stream in (False, True):
        assert httpx.post(fresh.url + CHAT, json={**QUESTION, "stream": stream}, timeout=60).status_code == 200
    seen = read(fresh)
    assert seen["cloister_answers_total outcome=stop"] == 2
    tokens = {name: seen[f"cloister_{name}_tokens_total"] for name in ("prompt", "cached", "generated", "thought")}
    assert tokens == {"prompt": 14, "cached": 4, "generated": 10, "thought": 6}
    assert (seen["cloister_queue_seconds_sum"], seen["cloister_first_token_seconds_sum"]) == (1.0, 1.5)
    assert (seen["cloister_token_seconds_count"], seen["cloister_token_seconds_sum"]) == (2, 2 * 2.0 / 4)
    assert seen[f"cloister_requests_total dialect=openai route={CHAT} status=200"] == 2
    assert seen["cloister_request_seconds_count dialect=openai"] == 2


def test_the_engines_own_figures(fresh: Stand) -> None:
    seen = read(fresh)
    assert (seen["cloister_engine_up"], seen["cloister_waiting"], seen["cloister_cells_used"], seen["cloister_cells"]) == (1, 1, 123, 16384)
    assert seen["cloister_memory_bytes process=engine"] == 99_000_000
    assert abs(seen["cloister_memory_bytes process=api"] - hardware.resident()) < 100e6
    assert seen["cloister_throttled_seconds_total"] == 1.5 and seen["cloister_evictions_total"] == 4
    fresh.engine_down()
    seen = read(fresh)
    assert seen["cloister_engine_up"] == 0 and "cloister_running" not in seen and "cloister_memory_bytes process=api" in seen


def test_what_fails_or_is_given_up_is_counted_too(fresh: Stand) -> None:
    fresh.engine.play(failed("overloaded"))
    assert httpx.post(fresh.url + CHAT, json=QUESTION, timeout=60).status_code == 429
    fresh.engine.play(accepted(), tag("</think>"), text("a"), hold)
    with httpx.stream("POST", fresh.url + CHAT, json={**QUESTION, "stream": True}, timeout=60) as response:
        next(line for line in response.iter_lines() if '"a"' in line)
    until(lambda: fresh.engine.cancelled)
    until(lambda: f"cloister_requests_total dialect=openai route={CHAT} status=aborted" in read(fresh))
    seen = read(fresh)
    assert seen["cloister_answers_total outcome=overloaded"] == seen["cloister_answers_total outcome=cancelled"] == 1
    assert seen["cloister_generated_tokens_total"] == 1 and seen["cloister_token_seconds_count"] == 0


def test_labels_are_few_whatever_is_asked_for(fresh: Stand) -> None:
    for path in ("/zebra", "/v1/models/zebra", "/v1/models/zebra2", "/docs/zebra", "/%ff"):
        httpx.get(fresh.url + path)
    httpx.request("ZEBRA", fresh.url + "/v1/models")
    httpx.get(fresh.url + "/v1/models", headers={"Host": "zebra.example"})
    text_ = httpx.get(fresh.url + "/metrics").text
    assert "zebra" not in text_.lower()
    routes = set(re.findall(r'cloister_requests_total{.*route="([^"]*)"', text_))
    assert routes <= {"none", "/v1/models", "/v1/models/{name:path}", "/docs/{name}"} and "/v1/models/{name:path}" in routes


def test_a_key_is_needed_where_there_are_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"anna {digest('cl-a').hex()} rpm=1\n")
    with stand(tmp_path, API__KEYS=tmp_path / "keys") as api:
        assert httpx.get(api.url + "/metrics").status_code == 401
        for _ in range(3):
            assert read(api, Authorization="Bearer cl-a")["cloister_engine_up"] == 1


def test_the_dashboard_and_the_page_about_it_name_metrics_that_exist(fresh: Stand) -> None:
    fresh.engine.answer("a")
    httpx.post(fresh.url + CHAT, json=QUESTION, timeout=60)
    there = {name.split()[0] for name in read(fresh)}
    dashboard = json.loads((ROOT / "config/grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(queries) > 20
    there.add("cloister_replica_up")  # a swarm's relay tells it (services/relay/cluster.py)
    for query in queries:
        asked = set(re.findall(r"[a-z_]*cloister_[a-z_]+", query))
        assert asked and asked <= there, query
        assert query.count('{replica=~"$replica"}') == len(re.findall(r"cloister_[a-z_]+", query)), query
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in there}
    told = set(re.findall(r"`(cloister_[a-z_]+)", (ROOT / "docs/monitoring.md").read_text()))
    assert told == families


def test_throttling_is_read_from_the_cgroup(tmp_path: Path) -> None:
    files = {
        "v2/proc/self/cgroup": "0::/a/b\n",
        "v2/sys/fs/cgroup/a/b/cpu.stat": "usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000\n",
        "v2/sys/fs/cgroup/a/cpu.stat": "usage_usec 9\nthrottled_usec 500000\n",
        "v1/proc/self/cgroup": "4:cpu,cpuacct:/x\n",
        "v1/sys/fs/cgroup/cpu/x/cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 1500000000\n",
        "none/proc/self/cgroup": "0::/\n",
        "none/sys/fs/cgroup/cpu.stat": "garbage\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert [hardware.throttled(tmp_path / name) for name in ("v2", "v1", "none")] == [3.0, 1.5, 0.0]
