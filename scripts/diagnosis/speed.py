"""How fast the engine writes, against what this memory allows: for each token all weights go through the CPU once."""

from __future__ import annotations

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene
from services.shared.hardware import human

SLOW = 0.35  # share of the bound, below which something takes the CPU's time; a quiet machine reaches 0.5 to 0.9
BEARABLE = 5.0  # tokens a second, about as fast as people read
PLENTY = 15.0  # from which nobody waits, and a small model spends its time elsewhere than in memory
CPU = "end other programs, give the container or VM more CPUs; q4_0 is fastest; scripts/bench --tune finds the best settings"


def examine(scene: Scene) -> list[Finding]:
    notes = Notes("speed")
    weights = scene.facts.at("manifest").number("size")
    running = scene.status.text("state") == "ready"
    if scene.quick:
        notes.skip("not measured (--quick)")
    elif scene.status.number("engine", "running"):
        rate = scene.status.number("engine", "tokens_per_second") or 0
        notes.skip(f"not measured, since requests are being answered ({rate:.1f} tokens/s for all of them)")
    else:
        bound = _bound(scene, notes, weights)
        if running:
            _engine(scene, notes, bound)
    return notes.all


def _bound(scene: Scene, notes: Notes, weights: float | None) -> float | None:
    """Tokens a second that the memory allows; None where it does not bound, or nobody knows."""
    seen = scene.part("bandwidth")
    rate, threads, cache = seen.number("rate"), int(seen.number("threads") or 0), seen.number("cache") or 0
    if not rate:
        notes.skip(f"the memory's speed was not measured: {seen.text('missing') or seen.text('error') or seen.text('crash')}")
        return None
    found = f"{threads} threads read {human(rate)}/s from memory"
    if not weights:
        notes.ok(found)
        return None
    if weights <= cache:
        notes.ok(f"{found}; the model's {human(weights)} fit into the CPU's cache, so memory is no bound")
        return None
    bound = rate / weights
    found += f"; with {human(weights)} of weights that allows at most {bound:.1f} tokens/s to one user"
    if bound < BEARABLE:
        notes.warn(found, "a smaller model or quant (q4_0), or a machine with faster memory")
    else:
        notes.ok(found)
    return bound


def _engine(scene: Scene, notes: Notes, bound: float | None) -> None:
    """One short question to the engine."""
    told = scene.part("answer")
    rate = told.number("rate")
    if not rate:
        code = int(told.number("code") or 0)
        reason = told.text("error") or told.text("crash")
        if code in (429, 503):
            notes.skip(f"the engine had no time for a question: {reason}")
        else:
            notes.bad(f"the model did not answer a question: {reason}", "see scripts/logs engine and scripts/logs api")
        return
    if told.yes("garbled"):
        notes.bad("the answer had broken characters in it", "prepare the model again, with its own tokenizer files")
    found = f"the engine writes {rate:.1f} tokens/s"
    if bound:
        found += f", {100 * rate / bound:.0f} % of that bound"
        if rate < min(PLENTY, SLOW * bound):
            notes.warn(found, CPU)
            return
    if rate < BEARABLE:
        notes.warn(found, CPU)
    else:
        notes.ok(found)
