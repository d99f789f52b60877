"""Does anything lead out of where the model runs: what scripts/verify-isolation found last, and what is seen from inside."""

from __future__ import annotations

import datetime

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene

OLD = 30  # days
CHECK = "run scripts/verify-isolation"


def examine(scene: Scene) -> list[Finding]:
    notes, facts = Notes("isolation"), scene.facts
    if scene.mode != "docker":
        notes.ok("without containers there are no walls: the services open no connections outward, but only a firewall could prevent it")
        return notes.all
    routes = [item.text() for item in facts.items("routes")]
    if routes:
        notes.bad(
            f"the engine's container knows a way out ({', '.join(routes)})", "scripts/down, then scripts/up; compose.yaml has no such way"
        )
    check = facts.at("checked")
    ended = check.time("at")
    if not check or not ended:
        notes.warn("nobody has tried the walls since the containers started", CHECK)
        return notes.all
    boxes = [(one.text("name"), int(one.number("tried") or 0), int(one.number("closed") or 0)) for one in check.items("containers")]
    for name, tried, closed in boxes:
        if not tried:
            notes.warn(f"the walls of {name} could not be tried", CHECK)
        elif closed < tried:
            notes.bad(f"{tried - closed} of {tried} ways out of {name} were open", "compare networks and compose.yaml; then " + CHECK)
    if all(tried and tried == closed for _, tried, closed in boxes):
        days = (datetime.datetime.fromtimestamp(scene.now, datetime.UTC) - ended).days
        found = f"{sum(tried for _, tried, _ in boxes)} ways out of {', '.join(name for name, _, _ in boxes)} were closed {days} days ago"
        if days > OLD:
            notes.warn(found, CHECK)
        else:
            notes.ok(found)
    return notes.all
