"""Is the clock about right, as far as that can be told without asking anybody: nothing here may be younger than now.

A wrong one breaks TLS, the expiry of logins and the sense of all logs.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene
from services.shared.settings import ROOT

SLACK = 300.0  # seconds
SET = "set the clock (date -s, timedatectl set-ntp true), and the battery-backed one with hwclock --systohc"


def examine(scene: Scene) -> list[Finding]:
    notes, now = Notes("clock"), scene.now
    latest, what = max(_seen(scene))
    if latest > now + SLACK:
        notes.bad(f"it is behind: it says {_when(now)}, but {what} is of {_when(latest)}", SET)
        return notes.all
    hardware = _hardware(scene.root)
    if hardware is not None and abs(hardware - now) > SLACK:
        notes.warn(f"it says {_when(now)}, the hardware's clock {_when(hardware)}", SET)
        return notes.all
    tail = " and as the hardware's clock" if hardware is not None else ""
    notes.ok(f"{_when(now)}, not before anything that was made here{tail}")
    return notes.all


def _seen(scene: Scene) -> list[tuple[float, str]]:
    """Times that have passed for certain."""
    found = [(ROOT.joinpath("services/shared/__init__.py").stat().st_mtime, "this checkout")]
    if created := scene.facts.at("manifest").time("created"):
        found.append((created.timestamp(), "the prepared model"))
    if updated := scene.facts.at("progress").number("updated"):
        found.append((updated, "init's last word"))
    return found


def _hardware(root: Path) -> float | None:
    """Seconds since the epoch by the clock that goes on while the machine is off, where there is one."""
    try:
        return float((root / "sys/class/rtc/rtc0/since_epoch").read_text())
    except (OSError, ValueError):
        return None


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
