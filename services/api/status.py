"""The parts of /v1/status as JSON values: figures of the model, the engine and the machine; no texts, nobody's names.

Knows the shapes only; who knows the figures is appliance.py.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from services.api.conversation import Wanted
from services.api.model import ServedModel
from services.shared import hardware, isolation, progress, wire

SHOWN = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty")  # of the sampling, in a status


def when(seconds: float) -> str:
    """A time since the epoch in ISO 8601."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def preparation(now: progress.Progress) -> dict[str, Any]:
    """How far init is."""
    return {**vars(now), "steps": list(progress.STEPS)}


def model(served: ServedModel, max_tokens: int) -> dict[str, Any]:
    """The model that answers, and where it came from. `generation` is the authors' word, `defaults` what a request gets that names
    nothing itself; `max_tokens` as it is set."""
    card, usual = served.manifest, served.sampling(Wanted())
    source = {"kind": card.source.kind, "repo": card.source.repo, "revision": card.source.revision, "commit": card.source.commit}
    return {
        "name": card.name,
        "title": card.title,
        "quant": card.quant,
        "architecture": card.architecture,
        "parameters": card.parameters,
        "context": served.context,
        "context_trained": card.context_length,
        "sha256": card.model.sha256,
        "size": card.model.size,
        "source": source,
        "files": [dict(vars(file)) for file in card.source.files],
        "tools": card.tools,
        "generation": card.generation,
        "defaults": {**{name: getattr(usual, name) for name in SHOWN}, "max_tokens": min(max_tokens or served.context, served.context)},
        "adapters": list(served.adapters),
        "created": card.created,
    }


def engine(hello: wire.Hello, seen: wire.Observed, *, wanted: int, restarts: int) -> dict[str, Any]:
    """What the engine said of itself, first and now. `wanted`: threads as they are set, 0 for as many as are good; `restarts`: since
    the API began."""
    return {
        "since": when(hello.started),
        "restarts": restarts,
        "threads": hello.threads,
        "threads_reason": hello.threads_reason,
        "threads_wanted": wanted,
        "threads_now": seen.threads,
        "variant": hello.variant,
        "running": seen.running,
        "waiting": seen.waiting,
        "waiting_seconds": round(seen.waited, 1),
        "sequences": hello.sequences,
        "cells_used": seen.cells_used,
        "cells": hello.cells,
        "tokens_per_second": seen.tokens_per_second,
        "prompt_tokens": seen.prompt_tokens,
        "generated_tokens": seen.generated_tokens,
        "memory": seen.memory,
        "stored": seen.stored,
        "preempted": seen.preempted,
        "evicted": seen.evicted,
        "throttled_seconds": round(seen.throttled_seconds, 3),
        "step_seconds": round(seen.step_seconds, 3),
        "decode_seconds": round(seen.decode_seconds, 3),
    }


def machine(seen: hardware.Machine) -> dict[str, Any]:
    """What there is to compute with, and the memory that is free now."""
    return {**vars(seen), "memory_available": hardware.memory_available()}


def walls(run: Path) -> dict[str, Any]:
    """Whether anything leads out of here: as this process sees it, and as scripts/verify-isolation found it."""
    check = isolation.read(run / isolation.NAME)
    checked = {"at": check.at, "containers": [dict(vars(one)) for one in check.containers]} if check else None
    return {"contained": isolation.contained(), "routes": list(isolation.routes()), "checked": checked}
