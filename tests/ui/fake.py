"""A small API that says what a test tells it to, over real HTTP: for what a real model does rarely or too fast to see."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = {
    "name": "demo",
    "title": "Cloister Demo",
    "quant": "q4_k_m",
    "architecture": "qwen2",
    "parameters": 3_500_000,
    "context": 8192,
    "source": {"kind": "demo", "repo": None, "revision": None, "commit": None},
    "sha256": "0" * 64,
    "size": 61_000_000,
    "defaults": {"temperature": 0.6, "top_p": 0.95, "top_k": 50, "min_p": 0.0, "repeat_penalty": 1.0, "max_tokens": 4096},
    "adapters": [],
}
READY: dict[str, Any] = {"state": "ready", "progress": None, "model": MODEL, "notice": None, "engine": None, "version": "0.1.0"}
LOADING: dict[str, Any] = {**READY, "state": "loading", "model": None}

Step = bytes | Callable[["FakeApi"], None]


def preparing(step: str, done: int = 0, total: int = 0, **more: Any) -> dict[str, Any]:
    """A status in the middle of init's work."""
    progress = {"state": "running", "model": "deepseek-r1-distill-qwen-1.5b", "quant": "q4_k_m", "step": step, "done": done, "total": total}
    return {**LOADING, "state": "preparing", "progress": {**progress, "unit": "bytes", "updated": 0.0, **more}}


def failed(error: str) -> dict[str, Any]:
    """A status after init gave up."""
    return {**preparing("fetch", state="failed", error=error), "state": "failed"}


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def delta(**fields: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})


def thought(*texts: str) -> list[Step]:
    return [delta(reasoning_content=text) for text in texts]


def answer(*texts: str) -> list[Step]:
    return [delta(content=text) for text in texts]


def queued(position: int) -> Step:
    return event({"choices": [], "progress": {"state": "queued", "position": position}})


def reading(done: int, total: int) -> Step:
    return event({"choices": [], "progress": {"state": "prefill", "done": done, "total": total, "cached": 0}})


def end(reason: str = "stop", speed: float = 21.5, prompt: int = 20) -> list[Step]:
    usage = {"prompt_tokens": prompt, "completion_tokens": 40, "total_tokens": prompt + 40}
    return [
        event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}),
        event({"choices": [], "usage": usage, "timings": {"tokens_per_second": speed}}),
        b"data: [DONE]\n\n",
    ]


def tokens(messages: Sequence[dict[str, str]]) -> int:
    """How many tokens the prompt of these messages has here: as many as words, and four."""
    return sum(len(message["content"].split()) for message in messages) + 4


def error(code: str, message: str) -> Step:
    """An error in the middle of an answer."""
    return event({"error": {"message": message, "type": "server_error", "param": None, "code": code}})


def refuse(status: int, code: str, message: str, retry_after: int | None = None) -> Step:
    """No answer at all; only as the first step."""
    head = f"HTTP/1.1 {status} no\r\nContent-Type: application/json\r\nConnection: close\r\n"
    if retry_after:
        head += f"Retry-After: {retry_after}\r\n"
    body = json.dumps({"error": {"message": message, "type": "x", "param": None, "code": code}}).encode()
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def wait(gate: str) -> Step:
    """Go on once the test opens the gate."""
    return lambda api: api.gate(gate).wait(60) and None  # type: ignore[func-returns-value]


def pause(seconds: float) -> Step:
    return lambda _: time.sleep(seconds)


THINKS: list[Step] = [*thought("One cat. ", "One fact."), *answer("It **can** fly."), *end()]


class FakeApi:
    """Set `status`; tell `scripts[question]` what happens. `asked` are the bodies of the questions, `counted` those of what was
    only to be counted; with `uncounted`, a status, that is refused."""

    def __init__(self, port: int = 0) -> None:
        self._gates: dict[str, threading.Event] = {}
        self.reset()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                body = json.dumps(api.status).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/v1/messages/count_tokens":
                    self._count(body)
                    return
                api.asked.append(body)
                self.close_connection = True
                try:
                    api._play(api.scripts.get(body["messages"][-1].get("content", ""), api.default), self.wfile.write)
                except OSError:
                    api.cancelled.set()

            def _count(self, body: dict[str, Any]) -> None:
                api.counted.append(body)
                refused = api.uncounted
                told = {"input_tokens": tokens(body["messages"])} if not refused else {"type": "error", "error": {"message": "no"}}
                data = json.dumps(told).encode()
                self.send_response(refused or 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # clients may leave whenever they like

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def reset(self) -> None:
        """As new."""
        for gate in self._gates.values():
            gate.set()
        self.status: dict[str, Any] = READY
        self.scripts: dict[str, Sequence[Step]] = {}
        self.default: Sequence[Step] = THINKS
        self.asked: list[dict[str, Any]] = []
        self.counted: list[dict[str, Any]] = []
        self.uncounted = 0
        self.cancelled = threading.Event()
        self._gates = {}

    def gate(self, name: str) -> threading.Event:
        """The gate at which a script's `wait(name)` stands."""
        return self._gates.setdefault(name, threading.Event())

    def open(self, name: str) -> None:
        self.gate(name).set()

    def close(self) -> None:
        for gate in self._gates.values():
            gate.set()
        self._server.shutdown()
        self._server.server_close()

    def _play(self, steps: Sequence[Step], write: Callable[[bytes], object]) -> None:
        refused = steps and isinstance(steps[0], bytes) and steps[0].startswith(b"HTTP/1.1")
        if not refused:
            write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for step in steps:
            if callable(step):
                step(self)
            else:
                write(step)


def endless(text: str = "word ") -> list[Step]:
    """An answer that goes on until the client leaves (or a minute passes)."""
    piece = delta(content=text)
    return [step for _ in range(1200) for step in (piece, pause(0.05))]


def rich(**engine: Any) -> dict[str, Any]:
    """A status with everything that the status panel shows; `engine`: other figures of the engine."""
    source = {"kind": "hub", "repo": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "revision": "main", "commit": "ad9f0ae0" * 5}
    figures = {
        "since": "2026-11-24T07:00:00+00:00",
        "restarts": 1,
        "threads": 4,
        "threads_reason": "limited by physical cores (CPU affinity: 8, physical cores: 4)",
        "threads_wanted": 0,
        "threads_now": 3,
        "variant": "haswell",
        "running": 2,
        "waiting": 3,
        "waiting_seconds": 12.5,
        "sequences": 8,
        "cells_used": 4096,
        "cells": 16384,
        "tokens_per_second": 21.5,
        "prompt_tokens": 12_345,
        "generated_tokens": 67_890,
        "memory": 1_600_000_000,
        "stored": 0,
        "preempted": 1,
        "evicted": 4,
        "throttled_seconds": 1.5,
        "step_seconds": 100.0,
        "decode_seconds": 90.0,
    }
    return {
        **READY,
        "model": {
            **MODEL,
            "name": "deepseek-r1-distill-qwen-1.5b",
            "title": "DeepSeek R1 Distill Qwen 1.5B",
            "parameters": 1_777_088_000,
            "size": 1_117_320_000,
            "context_trained": 131_072,
            "source": source,
            "sha256": "0123456789abcdef" * 4,
            "files": [{"path": "model.safetensors", "size": 3_554_214_621, "sha256": "fedcba9876543210" * 4}],
            "tools": {"cloister": "0.1.0", "gguf": "0.17.1"},
            "adapters": ["poet"],
            "created": "2026-11-24T06:30:00+00:00",
        },
        "engine": {**figures, **engine},
        "machine": {"cpus": 8, "cores": 4, "quota": None, "memory": 8_000_000_000, "memory_available": 5_000_000_000},
        "isolation": {"contained": True, "routes": [], "checked": None},
        "since": "2026-11-24T06:00:00+00:00",
    }


def checked(**closed: int) -> dict[str, Any]:
    """The result of scripts/verify-isolation: of 25 ways, so many were closed; -1: nothing could be tried."""
    containers = [{"name": name, "tried": 25 if count >= 0 else 0, "closed": max(count, 0)} for name, count in closed.items()]
    return {"at": "2026-11-24T08:00:00Z", "containers": containers}
