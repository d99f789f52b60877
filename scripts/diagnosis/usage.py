"""What people have run into since the API started: its own counts by outcome and status, and logins that were refused. No texts."""

from __future__ import annotations

import re

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene

COUNT = re.compile(r"^cloister_(answers|requests)_total\{(.*)\} ([0-9.e+]+)$", re.MULTILINE)
OFTEN = 0.1  # share of the answers that may be cut before it is worth a word
WRONG_LOGINS = 5  # that cost nothing; from then on the page says to wait (services/ui/throttle.py)


def examine(scene: Scene) -> list[Finding]:
    notes = Notes("usage")
    if not scene.status:
        notes.skip("no API tells how its requests ended")
        return notes.all
    outcomes, statuses = counts(scene.part("api").text("metrics"))
    context = int(scene.status.number("model", "context") or scene.settings.engine.context)
    answers = sum(outcomes.get(name, 0) for name in ("stop", "length", "deadline", "loop"))
    if count := outcomes.get("context_length_exceeded"):
        todo = "a new conversation, or a larger CLOISTER_ENGINE__CONTEXT (and CELLS)"
        notes.warn(f"{count} prompts did not fit into {context} tokens (context_length_exceeded)", todo)
    if (count := outcomes.get("length", 0)) and count >= OFTEN * answers:
        todo = "raise or leave out max_tokens in requests and CLOISTER_API__MAX_TOKENS; a larger CLOISTER_ENGINE__CONTEXT"
        notes.warn(f"{count} of {answers} answers ended in mid-sentence for want of tokens (length)", todo)
    if count := outcomes.get("loop"):
        todo = "keep the authors' temperature (0.6 for R1), no temperature 0 for long thoughts, repeat_penalty 1.1"
        notes.warn(f"{count} of {answers} answers repeated themselves until they were ended (loop)", todo)
    if count := outcomes.get("overloaded"):
        notes.warn(f"{count} requests found the line full", "fewer at once, or larger CLOISTER_ENGINE__QUEUE and SEQUENCES")
    if count := statuses.get("429", 0) - outcomes.get("overloaded", 0):
        notes.warn(f"{count} requests were beyond their key's limits (429)", "wait, or give the key other limits: scripts/keys")
    if count := statuses.get("403"):
        todo = "if it is yours: CLOISTER_API__HOSTS= that name, CLOISTER_API__ORIGINS= that site; the answer to the request names it"
        notes.warn(f"{count} requests came by a name, or from a site's page, that is not known (403 host_not_allowed)", todo)
    if count := statuses.get("401"):
        notes.warn(f"{count} requests had no known API key (401)", "scripts/keys list tells the names of keys, scripts/keys add makes one")
    if (count := scene.log("ui").count("login refused")) > WRONG_LOGINS:
        todo = "wait; a browser that was logged in before does not; scripts/keys password add NAME makes another password"
        notes.warn(f"{count} logins were refused within a day, so the page says to wait", todo)
    if not notes.all:
        notes.ok(f"{answers} answers since the API started, none of which gives reason for a word")
    return notes.all


def counts(metrics: str) -> tuple[dict[str, int], dict[str, int]]:
    """Answers by outcome and requests by status, of Prometheus's text."""
    outcomes: dict[str, int] = {}
    statuses: dict[str, int] = {}
    for kind, labels, number in COUNT.findall(metrics):
        known = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        into, name = (outcomes, known.get("outcome", "")) if kind == "answers" else (statuses, known.get("status", ""))
        into[name] = into.get(name, 0) + int(float(number))
    return outcomes, statuses
