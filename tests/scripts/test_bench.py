"""scripts/bench as a person runs it, against small stand-ins whose speed is known."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scripts.benchmark import scenarios
from scripts.benchmark.client import Answer
from tests.api.scripted import stand, until
from tests.conftest import ROOT
from tests.engine.process import engine

SVG = "{http://www.w3.org/2000/svg}"


@dataclass
class StandIn:
    """An endpoint that speaks the dialect, half thinking and half answer.

    Attributes:
        label: its name in the test.
        delay: seconds a token.
        reading: seconds a word of the prompt.
        stalls: nobody else gets a token while a prompt is read, even if its client has hung up.
        stop_after: tokens after which an answer ends, whatever was asked.
        silent: tokens in front that have no text.
        tells: it says how long the tokens took, in llama-server's way.
        asked: the requests of all stand-ins in their order, as (label, body).
    """

    label: str
    delay: float
    reading: float = 0.0
    stalls: bool = False
    stop_after: int = 1_000_000
    silent: int = 0
    tells: bool = False
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    step: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def read(self, words: int) -> None:
        with self.step if self.stalls else contextlib.nullcontext():
            time.sleep(words * self.reading)

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        words = sum(len(message["content"].split()) for message in body["messages"])
        tokens = min(body["max_tokens"], self.stop_after)
        self.read(words)
        began = due = time.monotonic()
        for number in range(tokens):
            due = max(due + self.delay, time.monotonic() - self.delay)  # a late wake-up does not add up
            time.sleep(max(0.0, due - time.monotonic()))
            with self.step:
                pass
            channel = "reasoning_content" if number < tokens // 2 else "content"
            if number < self.silent:
                continue
            yield {"choices": [{"delta": {channel: f"{channel}-{number}\u2028"}}]}
        yield {"choices": [{"delta": {}, "finish_reason": "length"}]}
        timings = {"predicted_n": tokens, "predicted_ms": 1000 * (time.monotonic() - began)}
        usage = {"completion_tokens": tokens, "prompt_tokens": words}
        yield {"choices": [], "usage": usage, **({"timings": timings} if self.tells else {})}


@contextlib.contextmanager
def serving(*stand_ins: StandIn) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Serve them on ports of their own; gives the list of what all of them are asked."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def handler(this: StandIn) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply("application/json")
                self.wfile.write(json.dumps({"data": [{"id": f"model-of-{this.label}"}]}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append((this.label, body))
                self.reply("text/event-stream")
                with contextlib.suppress(ConnectionError):
                    for event in this.events(body):
                        self.wfile.write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())
                    self.wfile.write(b"data: [DONE]\n\n")

            def reply(self, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    with contextlib.ExitStack() as stack:
        for stand_in in stand_ins:
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler(stand_in)))
            stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield asked


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/bench in a folder that is not the checkout, without long pauses."""
    command = [str(ROOT / "scripts/bench"), "--settle", "0.05", "--seed", "7", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def first_words(body: dict[str, Any]) -> str:
    return " ".join(body["messages"][0]["content"].split()[:3])


def test_twice_as_fast_is_twice_the_ratio_and_meets_its_targets(tmp_path: Path) -> None:
    fast, slow = StandIn("fast", 0.012), StandIn("slow", 0.024)
    with serving(fast, slow) as asked:
        ends = ["--url", f"fast={fast.url}/v1/", "--against", f"slow={slow.url}"]
        files = ["--json", "out.json", "--svg", "out.svg"]
        what = ["--scenario", "distinct", "--scenario", "shared", "--users", "1,3", "--rounds", "2", "--tokens", "12"]
        target = ["--target", "distinct.3.rate >= 1.4x", "--target", "distinct.1.decode >= 20", "--target", "distinct.1.gap.median < 0.9x"]
        done = bench(tmp_path, *ends, *files, *what, *target)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["endpoints"] == [
        {"label": "fast", "url": fast.url, "model": "model-of-fast"},
        {"label": "slow", "url": slow.url, "model": "model-of-slow"},
    ]
    assert (found["baseline"], found["seed"], found["rounds"], found["error"]) == ("slow", 7, 2, None)
    figures = found["figures"]
    assert {name.rsplit(".", 1)[0] for name in figures if name.endswith(".rate")} == {"distinct.1", "distinct.3", "shared.1", "shared.3"}
    for case in ("distinct.1", "distinct.3", "shared.3"):
        for name, least, most in (("rate", 1.5, 2.5), ("decode", 1.5, 2.5), ("gap.median", 0.4, 0.7)):
            assert least < figures[f"{case}.{name}"]["endpoints"]["fast"]["ratio"] < most, (case, name, figures[f"{case}.{name}"])
    one = figures["distinct.1.decode"]
    assert one["unit"] == "tokens/s" and len(one["endpoints"]["fast"]["rounds"]) == 2
    assert 55 < one["endpoints"]["fast"]["median"] < 90 and one["endpoints"]["slow"]["ratio"] == 1
    assert 2.0 < figures["distinct.3.rate"]["endpoints"]["slow"]["median"] / figures["distinct.1.rate"]["endpoints"]["slow"]["median"] < 3.5
    assert 55 <= found["prompt_tokens"]["distinct.1"]["fast"] <= 75
    verdicts = {v["figure"] + v["expression"]: v["met"] for v in found["targets"]}
    assert verdicts == dict.fromkeys(
        ["distinct.1.decode>= 1x", "distinct.3.rate>= 1.4x", "distinct.1.decode>= 20", "distinct.1.gap.median< 0.9x"], True
    )
    row = next(line for line in done.stdout.splitlines() if line.startswith("distinct.1.decode"))
    assert re.fullmatch(r"distinct.1.decode +tokens/s +\d+\.\d +[12]\.\d\dx +\d+\.\d", row), row
    check_chart(tmp_path / "out.svg", ["fast", "slow"], "1 user", "3 users", "Common system prompt")
    check_requests(asked)


def check_chart(file: Path, labels: list[str], *texts: str) -> None:
    root = ElementTree.parse(file).getroot()
    assert root.tag == f"{SVG}svg" and "prefers-color-scheme: dark" in file.read_text()
    written = [e.text or "" for e in root.iter(f"{SVG}text")]
    assert [text for text in written if text in labels] == labels
    for text in texts:
        assert any(text in one for one in written), text
    edge = float(root.attrib["width"])
    assert all(float(e.attrib.get("x", 0)) + float(e.attrib["width"]) <= edge for e in root.iter(f"{SVG}rect"))
    texts_end = [float(e.attrib["x"]) + 7.5 * len(e.text or "") for e in root.iter(f"{SVG}text") if "text-anchor" not in e.attrib]
    assert max(texts_end) <= edge


def check_requests(asked: list[tuple[str, dict[str, Any]]]) -> None:
    """Both got the same prompts, no two rounds begin alike, and who goes first alternates."""
    bodies = {label: [body for name, body in asked if name == label] for label in ("fast", "slow")}
    prompts = {label: sorted(json.dumps(b["messages"]) for b in found) for label, found in bodies.items()}
    assert prompts["fast"] == prompts["slow"] and len(prompts["fast"]) == 1 + 2 * (1 + 3 + 1 + 3)
    assert all(b["temperature"] == 0 and b["ignore_eos"] and b["stream_options"] == {"include_usage": True} for _, b in asked)
    assert {b["max_tokens"] for _, b in asked[2:]} == {12} and {b["model"] for _, b in asked} == {"model-of-fast", "model-of-slow"}
    distinct = [first_words(b) for b in bodies["fast"] if b["messages"][0]["role"] == "user"]
    assert len(set(distinct)) == len(distinct)
    systems = [b["messages"][0]["content"] for b in bodies["fast"] if b["messages"][0]["role"] == "system"]
    assert sorted(systems.count(text) for text in set(systems)) == [1, 1, 3, 3] and all(len(text.split()) == 300 for text in systems)
    order = [label for label, body in asked[2:] if body["messages"][0]["role"] == "user"]
    assert order == ["fast", "slow", *["slow"] * 3, *["fast"] * 3, "slow", "fast", *["fast"] * 3, *["slow"] * 3]


def test_slower_than_the_other_misses_the_targets_that_are_built_in(tmp_path: Path) -> None:
    fast, slow = StandIn("fast", 0.01), StandIn("slow", 0.02)
    with serving(fast, slow):
        arguments = ["--url", slow.url, "--against", fast.url, "--scenario", "distinct", "--users", "1", "--rounds", "1", "--tokens", "12"]
        missed = bench(tmp_path, *arguments)
        left_out = bench(tmp_path, *arguments, "--no-targets")
        own = bench(tmp_path, *arguments[:2], *arguments[4:], "--target", "distinct.1.decode >= 1000")
    assert missed.returncode == 1 and re.search(r"MISSED +distinct\.1\.decode >= 1x: 0\.[4-7]\dx", missed.stdout), (
        missed.stdout + missed.stderr
    )
    assert left_out.returncode == 0 and "MISSED" not in left_out.stdout, left_out.stdout + left_out.stderr
    assert own.returncode == 1 and "1x" not in own.stdout, own.stdout + own.stderr


def test_an_endpoint_that_stalls_shows_in_the_gaps_the_second_turn_and_after_a_hang_up(tmp_path: Path) -> None:
    free, stalling = StandIn("free", 0.0045, reading=0.001), StandIn("stalling", 0.0045, reading=0.001, stalls=True)
    with serving(free, stalling) as asked:
        ends = ["--url", f"free={free.url}", "--against", f"stalling={stalling.url}"]
        what = [part for name in ("long", "cancel", "turn", "copy") for part in ("--scenario", name)]
        sizes = ["--words", "1500", "--idle", "0.1", "--rounds", "1"]
        memory = ["--pid", f"free={os.getpid()}"]
        done = bench(tmp_path, *ends, *what, *sizes, *memory, "--json", "out.json", "--svg", "out.svg")
    found = json.loads((tmp_path / "out.json").read_text())
    medians = {name: {label: e["median"] for label, e in f["endpoints"].items()} for name, f in found["figures"].items()}
    assert medians["long.gap.max"]["free"] < 0.3 and 1.4 < medians["long.gap.max"]["stalling"] < 2.5
    assert all(1.4 < value < 2.5 for value in medians["long.first"].values())
    # the prompt that nobody wants any more is read to its end before the next first token
    assert medians["cancel.first"]["free"] < 0.4 < medians["cancel.first"]["stalling"]
    assert medians["cancel.gap.max"]["free"] < 0.3 and medians["cancel.gap.max"]["stalling"] > 1.3
    assert 120 < medians["copy.decode"]["free"] < 260 and medians["copy.copied"]["free"] == 0
    assert medians["memory.peak"]["free"] >= medians["memory.rss"]["free"] > 10 and "stalling" not in medians["memory.rss"]
    assert {v["figure"]: v["met"] for v in found["targets"]} == {"long.gap.max": True, "turn.first": False}
    assert done.returncode == 1, done.stdout + done.stderr
    check_chart(tmp_path / "out.svg", ["free", "stalling"], "Second turn", "After a hang-up", "Memory")
    (second,) = (body for label, body in asked if label == "free" and len(body["messages"]) == 3)
    (first,) = (body for label, body in asked if label == "free" and body["max_tokens"] == 300)
    assert second["messages"][0] == first["messages"][0]
    assert second["messages"][1]["content"].split() == [f"content-{number}" for number in range(150, 300)]  # without its thinking


def test_tokens_without_text_count_where_the_endpoint_tells_of_them(tmp_path: Path) -> None:
    """Half of the tokens, then all of them have no text: the rate is that of all tokens, or is not known."""
    half, mute = StandIn("half", 0.005, silent=100, tells=True), StandIn("mute", 0.005, silent=1000, tells=True)
    unknown = StandIn("unknown", 0.001, silent=1000)
    with serving(half, mute, unknown):
        ends = ["--url", f"half={half.url}", "--against", f"mute={mute.url}", "--against", f"unknown={unknown.url}"]
        done = bench(tmp_path, *ends, "--scenario", "copy", "--rounds", "1", "--json", "out.json")
    assert done.returncode == 2, done.stderr
    assert f"unknown ({unknown.url}) sent 200 tokens at once or without text: it does not stream" in done.stderr
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]
    medians = {label: found["median"] for label, found in figures["copy.decode"]["endpoints"].items()}
    assert set(medians) == {"half", "mute"} and all(120 < rate < 210 for rate in medians.values()), medians
    assert figures["copy.first"]["endpoints"]["half"]["median"] > 0.45


def test_a_model_that_copies_is_measured_with_guesses_and_without(copying_volume: Path, tmp_path: Path) -> None:
    """The real engine and API over HTTP."""
    sizes = {"ENGINE__CONTEXT": 1024, "ENGINE__CELLS": 2048, "ENGINE__SEQUENCES": 2}
    urls = {}
    with contextlib.ExitStack() as stack:
        for label, speculate in (("with", True), ("without", False)):
            home = tmp_path / label
            home.mkdir()
            process = stack.enter_context(engine(home, copying_volume, ENGINE__SPECULATE=speculate, **sizes))
            api = stack.enter_context(stand(home, engine=False))
            process.connect().close()
            until(lambda api=api: api.app.state.appliance.state() == "ready")
            urls[label] = f"{label}={api.url}"
        ends = ["--url", urls["with"], "--against", urls["without"]]
        done = bench(tmp_path, *ends, "--scenario", "copy", "--rounds", "1", "--json", "out.json")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert {name: found["unit"] for name, found in figures.items()} == {
        "copy.decode": "tokens/s",
        "copy.first": "s",
        "copy.copied": "share",
    }
    for found in figures.values():
        assert set(found["endpoints"]) == {"with", "without"} and all(end["median"] > 0 for end in found["endpoints"].values())
    assert all(end["median"] > 0.95 for end in figures["copy.copied"]["endpoints"].values()), figures


@pytest.mark.parametrize(
    ("thinking", "content", "share"),
    [
        ("", "sun rain wind snow", 1.0),
        ("sun rain", "wind snow", 1.0),
        ("", "well: sun rain wind snow. Done", 0.5),  # "snow." is another word
        ("", "sun rain sun rain sun rain sun rain", 0.25),  # round and round
        ("", "", 0.0),
    ],
)
def test_how_much_of_an_answer_is_a_copy(thinking: str, content: str, share: float) -> None:
    question = [{"role": "user", "content": "Text\nsun rain wind snow\n\nPlease repeat the text."}]
    assert scenarios.copied(question, Answer(thinking=thinking, content=content)) == share


def test_an_endpoint_that_is_down_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        down = f"http://127.0.0.1:{taken.getsockname()[1]}"
    up = StandIn("up", 0.001)
    with serving(up):
        done = bench(tmp_path, "--url", up.url, "--against", f"peer={down}")
    assert done.returncode == 2 and f"peer ({down}) does not answer" in done.stderr, done.stderr


def test_an_endpoint_that_stops_early_is_an_error_and_keeps_what_was_measured(tmp_path: Path) -> None:
    whole, short = StandIn("whole", 0.002), StandIn("short", 0.002, stop_after=9)
    with serving(whole, short):
        ends = ["--url", f"whole={whole.url}", "--against", f"short={short.url}"]
        done = bench(tmp_path, *ends, "--scenario", "distinct", "--users", "1", "--tokens", "16", "--json", "out.json")
    assert done.returncode == 2, done.stderr
    assert f"short ({short.url}) answered 9 of 16 tokens asked for (finish_reason length)" in done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert "9 of 16" in found["error"] and list(found["figures"]["distinct.1.rate"]["endpoints"]) == ["whole"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--against", "127.0.0.1:9000"], "is no address"),
        (["--against", "http://127.0.0.1:9000", "--against", "http://127.0.0.1:9000/v1"], "two endpoints have one label"),
        (["--against", "other=http://127.0.0.1:8000/v1"], "two endpoints have one address"),
        (["--scenario", "copy", "--target", "distinct.1.rate >= 3"], "distinct.1.rate is not measured here"),
        (["--target", "copy.decode >= 1.3x"], "needs an --against"),
        (["--target", "copy.decode above 3"], "is no target"),
        (["--pid", "cloister=999999999"], "is no running process"),
        (["--body", "{'a': 1}"], "is no JSON"),
        (["--tokens", "1"], "1 is less than 2"),
        (["--json", "nowhere/out.json"], "there is no folder nowhere"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_measured(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = bench(tmp_path, *arguments)
    assert done.returncode == 2 and sentence in done.stderr, done.stderr


def test_help_names_every_option(tmp_path: Path) -> None:
    done = bench(tmp_path, "--help")
    options = set(re.findall(r'add_argument\("(--[\w-]+)"', (ROOT / "scripts/benchmark/__main__.py").read_text()))
    assert done.returncode == 0 and len(options) == 20
    assert options - set(re.findall(r"--[a-z-]+", done.stdout)) == set() and "Exit codes" in done.stdout
