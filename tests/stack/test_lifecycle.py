"""The stack's life: the first answer, parts that die, starts that are repeated, quotas, and ends."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from typing import Any

import pytest

from tests.stack.conftest import QUESTION, ROOT, SERVICES, Stack, ask, get
from tests.stack.waiting import wait


def test_chickens_and_rabbits_through_both_ports(stack: Stack) -> None:
    for url in (stack.api_url, stack.page_url):
        message = ask(url)
        assert "23" in message["content"] and "12" in message["content"], message
        assert message["reasoning_content"] and "think" not in message["content"]
    status, page = get(stack.page_url)
    assert status == 200 and b"Cloister" in page


def test_the_variant_for_this_cpu_is_loaded(stack: Stack) -> None:
    line = next(line for line in stack.compose("logs", "api").stdout.splitlines() if "loaded model=" in line)
    variant = line.split(" cpu=")[1].split()[0]
    assert variant not in ("native", "none", "x64")


class Stream(threading.Thread):
    """One answer being streamed: how it ended, and when."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.events, self.outcome = url, 0, ""
        self.start()

    def run(self) -> None:
        body = json.dumps({"messages": [{"role": "user", "content": QUESTION}], "stream": True, "max_tokens": 500, "ignore_eos": True})
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", body.encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                for line in response:
                    if line.startswith(b"data:"):
                        self.events += 1
                        if b'"error"' in line:
                            self.outcome = "error event"
                        if b"[DONE]" in line:
                            self.outcome = self.outcome or "done"
            self.outcome = self.outcome or "closed"
        except Exception as error:
            self.outcome = type(error).__name__


@pytest.mark.parametrize("service", [*SERVICES, "door"])
def test_a_killed_container_answers_again_within_ten_seconds(stack: Stack, service: str) -> None:
    streams = [Stream(stack.api_url) for _ in range(8)]
    wait(lambda: all(stream.events > 1 or stream.outcome for stream in streams), 60)
    restarts = stack.inspect(service)["RestartCount"]
    # From inside, so that the engine takes it for a crash: after `docker kill` no restart policy applies.
    stack.run("kill", "-KILL", str(stack.inspect(service)["State"]["Pid"]))
    began = time.monotonic()

    def answered() -> bool:
        page = get(f"{stack.page_url}/livez", timeout=5)[0] == 200
        body: Any = {"messages": [{"role": "user", "content": "1+1=?"}], "max_tokens": 4}
        return page and get(f"{stack.api_url}/v1/chat/completions", body=body, timeout=10)[0] == 200

    wait(answered, 60)
    seconds = time.monotonic() - began
    for stream in streams:
        stream.join(60)
    outcomes = sorted(stream.outcome for stream in streams)
    print(f"{service} killed during eight streams: {outcomes}; next answer after {seconds:.1f} s")
    assert stack.inspect(service)["RestartCount"] == restarts + 1
    assert all(outcomes), "a client was left hanging"
    assert seconds <= 10


def test_up_twice_changes_nothing(stack: Stack) -> None:
    before = {service: stack.container(service) for service in (*SERVICES, "door")}
    stack.run(ROOT / "scripts/up", "--docker", "--detach")
    assert {service: stack.container(service) for service in (*SERVICES, "door")} == before
    assert stack.inspect("init")["State"]["ExitCode"] == 0


def test_down_and_up_again_needs_no_second_download(stack: Stack) -> None:
    stack.run(ROOT / "scripts/down")
    assert stack.compose("ps", "--all", "--quiet").stdout == ""
    began = time.monotonic()
    stack.run(ROOT / "scripts/up", "--docker", "--detach")
    print(f"down and up again: {time.monotonic() - began:.0f} s")
    assert "23" in ask(stack.api_url)["content"]


@pytest.mark.parametrize("cpus, threads", [("0.5", 1), ("1.5", 1)])
def test_the_engine_honours_a_quota(stack: Stack, cpus: str, threads: int) -> None:
    limited = Stack({**stack.env, "CLOISTER_API_CPUS": cpus}, stack.page_url, stack.api_url)
    limited.compose("up", "--detach", "--no-build", "--no-deps", "api")
    try:
        limited.ready()
        status = json.loads(get(f"{stack.api_url}/v1/status")[1])["engine"]
        assert status["threads"] == threads and "CPU quota" in status["threads_reason"]
    finally:
        stack.compose("up", "--detach", "--no-build", "--no-deps", "api")
        stack.ready()


@pytest.mark.parametrize("service", [*SERVICES, "door"])
def test_sigterm_ends_it_within_the_grace_period(stack: Stack, service: str) -> None:
    began = time.monotonic()
    stack.compose("stop", "--timeout", "20", service)
    seconds = time.monotonic() - began
    code = stack.inspect(service)["State"]["ExitCode"]
    stack.compose("start", service)
    stack.ready()
    assert code in (0, 143) and seconds < 15, (code, seconds)
