"""Waiting for what happens in its own time."""

from __future__ import annotations

import time
from typing import Any


def wait(condition: Any, within: float, explain: Any = lambda: "") -> float:
    """Until the condition holds; the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"not within {within} s\n{explain()}"
        time.sleep(0.2)
    return time.monotonic() - began
