"""All replicas behind the balancer: what it sees of them, and what each says of itself to the one who asks, by that one's own key."""

from __future__ import annotations

import asyncio
import csv
import json
from typing import Any

import httpx

from services.relay import metrics
from services.relay.asked import Headers

STATUS, METRICS = "/v1/status", "/metrics"
REMEMBERED = 600  # seconds that a replica which is gone is still shown
TIMEOUTS = {"connect": 1.0, "read": 3.0, "write": 3.0, "pool": None}


class Cluster:
    """`inside`: where the balancer tells of its servers and passes on to one of them (docker/haproxy.cfg), such as http://balancer:8081."""

    def __init__(self, inside: str, transport: httpx.AsyncHTTPTransport) -> None:
        self._inside, self._transport = inside, transport

    async def told(self, path: str, body: bytes, headers: Headers) -> bytes:
        """The answer to /v1/status or /metrics with all replicas in it, or as it is when they can't be asked."""
        try:
            states = seen((await self._get("/stats;csv", [(b"host", b"localhost")])).decode())
            names = [name for name, state in states.items() if state != "down"]
            answers = await asyncio.gather(*(self._get(f"/replica/{name}{path}", headers) for name in names), return_exceptions=True)
            said = {name: answer for name, answer in zip(names, answers, strict=True) if isinstance(answer, bytes)}
            return _metrics(states, said) if path == METRICS else _status(body, states, said)
        except (httpx.TransportError, ValueError, KeyError):
            return body

    async def _get(self, path: str, headers: Headers) -> bytes:
        """Raises httpx.TransportError, also for an answer that is no 200."""
        request = httpx.Request("GET", self._inside + path, headers=headers, extensions={"timeout": TIMEOUTS})
        answer = await self._transport.handle_async_request(request)
        try:
            body = await answer.aread()
        finally:
            await answer.aclose()
        if answer.status_code != 200:
            raise httpx.NetworkError(f"{answer.status_code}")
        return body


def seen(table: str) -> dict[str, str]:
    """The state of each replica in HAProxy's own account: `up`, `full` (requests wait), `draining` (about to stop), `starting` (no model
    yet), or `down`, as far as it has answered anything before."""
    rows: dict[str, dict[str, dict[str, str]]] = {}
    for row in csv.DictReader(table.removeprefix("# ").splitlines()):
        if row["pxname"] in ("near", "any", "last") and row["svname"] not in ("FRONTEND", "BACKEND"):
            rows.setdefault(row["svname"], {})[row["pxname"]] = row
    states = {name: _state({backend: row["status"].split()[0] for backend, row in of.items()}) for name, of in rows.items()}
    return {name: state for name, state in states.items() if state != "down" or _just_gone(rows[name])}


def _state(checks: dict[str, str]) -> str:
    if checks["any"] == "NOLB":
        return "draining"
    if checks["near"] == "UP":
        return "up"
    if checks["any"] == "UP":
        return "full"
    return "starting" if checks["last"] == "UP" else "down"


def _just_gone(of: dict[str, dict[str, str]]) -> bool:
    return any(int(row["stot"] or 0) for row in of.values()) and int(of["last"]["lastchg"] or 0) < REMEMBERED


def _status(body: bytes, states: dict[str, str], said: dict[str, bytes]) -> bytes:
    replicas = [{"name": name, "state": state, **_load(json.loads(said.get(name, b"{}")))} for name, state in states.items()]
    return json.dumps({**json.loads(body), "cluster": {"replicas": replicas}}, ensure_ascii=False, separators=(",", ":")).encode()


def _load(status: dict[str, Any]) -> dict[str, Any]:
    engine, model = status.get("engine") or {}, status.get("model") or {}
    which = {name: model.get(name) for name in ("name", "quant", "sha256")} if model else None
    return {"running": engine.get("running"), "waiting": engine.get("waiting"), "model": which}


def _metrics(states: dict[str, str], said: dict[str, bytes]) -> bytes:
    up = ["# HELP cloister_replica_up Whether the balancer reaches a replica", "# TYPE cloister_replica_up gauge"]
    up += [f'cloister_replica_up{{replica="{name}",state="{state}"}} {float(state != "down")}' for name, state in states.items()]
    texts = [(name, text.decode()) for name, text in said.items()]
    return ("\n".join(up) + "\n" + metrics.joined(texts)).encode()
