"""Is there disk for what must be prepared, and for logs; and what of earlier work lies there unfinished."""

from __future__ import annotations

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.need import Unknown, needs
from scripts.diagnosis.scene import Scene
from services.init.errors import InitError
from services.shared import hardware
from services.shared.hardware import human

RESERVE = 100_000_000  # bytes for logs, ledgers and what a file system keeps for itself; init's preflight has the same
MORE = "free some space, set CLOISTER_PATHS__VOLUME to a larger disk, or take a smaller model or quant"


def examine(scene: Scene) -> list[Finding]:
    notes, facts = Notes("disk"), scene.facts
    free = facts.number("disk_free")
    if free is None:
        notes.skip("how much disk is free could not be found out")
        return notes.all
    need, title = RESERVE, ""
    if scene.mode != "docker":
        try:
            wanted = needs(scene.settings)
            if wanted.disk:
                need, title = wanted.disk.total, f"preparing {wanted.title} takes {wanted.disk}, and "
        except (Unknown, InitError, OSError):  # memory and model tell of it
            pass
    found = f"{title}{human(free)} are free for the models"
    if free < need:
        notes.bad(found, MORE)
    else:
        notes.ok(found)
    logs = hardware.disk_free(scene.settings.paths.logs)
    if logs < RESERVE and scene.mode != "docker":
        notes.bad(f"{human(logs)} are free for logs", "free some space, or set CLOISTER_PATHS__LOGS to a larger disk")
    _unfinished(scene, notes)
    return notes.all


def _unfinished(scene: Scene, notes: Notes) -> None:
    """What an interrupted run of init left."""
    facts = scene.facts
    if facts.at("progress").text("state") == "running" and scene.status.text("state") == "preparing":
        return
    if parts := facts.number("parts"):
        notes.warn(f"a download was cut: {human(parts)} of it are there", "run scripts/up again: it goes on where it was")
    elif work := facts.number("work"):
        notes.warn(f"the preparation of a model was cut: {human(work)} of it are there", "run scripts/up again: it goes on where it was")
