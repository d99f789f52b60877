"""Is there memory for the weights, the KV cache and the rest."""

from __future__ import annotations

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.need import Unknown, needs
from scripts.diagnosis.scene import Scene
from services.init.errors import InitError
from services.shared.hardware import human

SCARCE = 200e6  # bytes that a running appliance needs to have free for what comes and goes
LESS = "a smaller quant or model, fewer CLOISTER_ENGINE__CELLS, a smaller CLOISTER_ENGINE__STORE, or more memory"
DOCKER_LESS = f"{LESS} (CLOISTER_API_MEMORY)"


def examine(scene: Scene) -> list[Finding]:
    notes, facts = Notes("memory"), scene.facts
    free, whole = facts.number("memory_available"), facts.at("machine").number("memory")
    engine = scene.status.at("engine").number("memory")
    if free is None or whole is None:
        notes.skip("how much memory there is could not be found out")
    elif engine:
        found = f"the engine holds {human(engine)}, weights and KV cache included, of {human(whole)}; {human(free)} are available"
        if free < SCARCE:
            notes.warn(found, DOCKER_LESS if scene.mode == "docker" else LESS)
        else:
            notes.ok(found)
    elif scene.mode == "docker":
        notes.skip(f"no engine runs that would tell what it takes; {human(free)} of {human(whole)} are available")
    else:
        _wanted(scene, notes, free)
    return notes.all


def _wanted(scene: Scene, notes: Notes, free: float) -> None:
    """What the wanted model will take."""
    try:
        wanted = needs(scene.settings)
    except Unknown as error:
        notes.skip(f"{error}; {human(free)} are available")
        return
    except (InitError, OSError) as error:
        notes.skip(f"the model can't be had as it is, see model; {human(free)} are available ({type(error).__name__})")
        return
    found = f"{wanted.title} takes {wanted.memory}{'' if wanted.cell else ' and the KV cache'}, and {human(free)} are available"
    if wanted.memory.total > free:
        notes.bad(found, LESS)
    else:
        notes.ok(found)
