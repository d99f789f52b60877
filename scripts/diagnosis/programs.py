"""Do engine, API, page and the containers run, how far is init, and what does the API say of itself."""

from __future__ import annotations

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene

EXPECTED = {"native": ("engine", "api", "ui"), "docker": ("api", "ui", "gateway", "door"), "none": ()}
GOOD = ("RUNNING", "running", "running healthy")
SOON = ("STARTING", "running starting", "created")
LOGS = "see scripts/logs {}"
HUB = ("can't be reached", "could not be had")
WAYS_OUT = "HF_ENDPOINT= a mirror that can be reached, or --model with a folder or a .gguf; then scripts/up again"


def examine(scene: Scene) -> list[Finding]:
    notes = Notes("running")
    for name in EXPECTED[scene.mode]:
        state = scene.programs.get(name, "not there")
        if state in SOON:
            notes.warn(f"{name} is coming up", "wait a moment")
        elif state not in GOOD:
            todo = f"{LOGS.format(name)}, then scripts/up"
            notes.bad(f"{name} does not run ({state}){_reason(scene, name)}", todo)
    if scene.mode == "none":
        notes.skip("nothing runs here: start it with scripts/up")
    elif not notes.all:
        how = "in containers" if scene.mode == "docker" else "under supervisor"
        notes.ok(f"{', '.join(EXPECTED[scene.mode])} run {how}")
    if scene.mode != "none":
        _state(scene, notes)
    _preparation(scene, notes)
    return notes.all


def _reason(scene: Scene, name: str) -> str:
    """The last line of its log that tells of an error; logs hold reasons, never texts."""
    lines = [line for line in scene.log(name).splitlines() if " error " in line or line.startswith("cloister ")]
    return f": {lines[-1]}" if lines else ""


def _state(scene: Scene, notes: Notes) -> None:
    """What the API tells."""
    told, status = scene.part("api"), scene.status
    if not status:
        code = int(told.number("code") or 0)
        if code == 401:
            notes.bad("the API does not accept the page's own key", "scripts/keys remove page, then scripts/keys, then scripts/up")
        elif code:
            notes.bad(f"the API answers /v1/status with {code}", LOGS.format("api"))
        else:
            reason = told.text("error") or told.text("crash")
            notes.bad(f"the API does not answer ({reason})", f"{LOGS.format('api')}; is CLOISTER_UI__API its address?")
        return
    match status.text("state"):
        case "ready":
            notes.ok("a model is loaded and answers")
        case "loading":
            notes.warn(
                "the model is being loaded: questions get 503 with Retry-After until it is", "wait; if it stays so, scripts/logs engine"
            )
        case "preparing":
            notes.warn("the model is being prepared: questions get 503 until it is", "wait; scripts/up and the page show how far it is")
        case _:
            error = status.text("error") or status.text("progress", "error")
            if not scene.facts.at("progress").text("error"):
                notes.bad(f"there is no model: {error}", f"{LOGS.format('init')}; then scripts/up again")
    if restarts := int(status.number("engine", "restarts") or 0):
        notes.warn(
            f"the engine has died and come back {restarts} times since the API started", f"{LOGS.format('engine')}; is memory short?"
        )


def _preparation(scene: Scene, notes: Notes) -> None:
    """How the last run of init ended."""
    now = scene.facts.at("progress")
    notice, error = now.text("notice"), now.text("error")
    if notice:
        notes.warn(notice, WAYS_OUT)
    if now.text("state") == "failed":
        todo = WAYS_OUT if any(sign in error for sign in HUB) else "do what it says, then scripts/up again"
        if error.startswith("stopped by"):
            notes.warn(f"the model was not prepared to its end: {error}", "run scripts/up again")
        else:
            notes.bad(f"the model could not be prepared: {error}", todo)
    elif now.text("state") == "running" and scene.mode == "none":
        notes.warn("the preparation of the model was cut in its midst", "run scripts/up again: it goes on where it was")
