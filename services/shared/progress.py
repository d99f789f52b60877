"""The progress file: what init is doing now, for /v1/status and the page.

init writes it (atomically, at most a few times a second), api reads it, and the engine while it waits for a model. It outlives the
run: the last state stays.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from services.shared import files

STEPS = ("fetch", "verify", "convert", "quantize", "check", "publish")


@dataclass(frozen=True)
class Progress:
    """One moment of a run of init.

    `state` is running, ready or failed. `done` and `total` are in `unit` (bytes, tensors or tokens); `rate` is units a second;
    `seconds_left` is an estimate; both are None while unknown. `error` is the sentence a person sees when failed.
    `notice` is what a person must know of a ready model, such as that the demo stands in for the wanted model.
    `updated` is seconds since the epoch.
    """

    state: str
    model: str
    quant: str
    step: str | None = None
    done: int = 0
    total: int = 0
    unit: str = "bytes"
    rate: float | None = None
    seconds_left: float | None = None
    detail: str | None = None
    error: str | None = None
    notice: str | None = None
    updated: float = 0.0

    def write(self, path: Path) -> None:
        """Replace the progress file atomically."""
        files.write_text(path, json.dumps(dataclasses.asdict(self), ensure_ascii=False), durable=False)


def read(path: Path) -> Progress | None:
    """The last progress, or None when init has not run or the file can't be read."""
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
