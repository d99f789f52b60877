"""Is a model prepared, is it the wanted one, and are its files what they were."""

from __future__ import annotations

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.need import Unknown, needs
from scripts.diagnosis.scene import Scene
from services.init import catalog, sources
from services.init.errors import InitError, SettingsProblem
from services.shared.hardware import human


def examine(scene: Scene) -> list[Finding]:
    notes = Notes("model")
    card, running = scene.facts.at("manifest"), scene.status.at("model")
    if not card:
        _unprepared(scene, notes)
        return notes.all
    if error := card.text("error"):
        notes.bad(error, "run scripts/up, which prepares the model again")
        return notes.all
    size = int(card.number("size") or 0)
    notes.ok(f"{card.text('title')}, {card.text('quant')}, {human(size)}, prepared {card.text('created')}")
    if running and running.text("sha256") != card.text("sha256"):
        notes.warn("the engine still answers with another model than the prepared one", "scripts/down, then scripts/up")
    _wanted(scene, card.text("name"), notes)
    _hashes(scene, notes)
    return notes.all


def _unprepared(scene: Scene, notes: Notes) -> None:
    """Nothing is there: will it work?"""
    if scene.mode == "docker":
        notes.warn("no model is prepared yet", "wait, or see scripts/logs init")
        return
    try:
        needs(scene.settings)
    except Unknown:
        pass
    except (InitError, OSError) as error:
        notes.bad(str(error), "take another model, a ready GGUF of it (owner/repo:file.gguf), or correct CLOISTER_MODEL__NAME")
        return
    notes.warn("no model is prepared yet", "run scripts/up, which prepares one")


def _wanted(scene: Scene, name: str, notes: Notes) -> None:
    """Whether it is the model of the settings. In Docker a local path has another name inside, so there only init's notice counts."""
    model = scene.settings.model
    if scene.mode == "docker":
        return
    try:
        source = sources.resolve(model.name, model.revision, catalog.load())
    except SettingsProblem:
        return
    if source.name != name and scene.mode == "none":
        notes.warn(f"the prepared model is {name}, the wanted one {source.name}", "run scripts/up, which prepares what is wanted")


def _hashes(scene: Scene, notes: Notes) -> None:
    """Whether every byte is as it was."""
    if scene.quick:
        notes.skip("its files were not read again (--quick)")
        return
    seen = scene.part("hashes")
    if not seen.number("files"):
        reason = seen.text("error") or seen.text("crash") or seen.text("missing") or "no answer"
        notes.bad(f"its files can't be read: {reason}", "look at the disk (dmesg), at permissions, and run scripts/up")
        return
    for file in seen.items("wrong"):
        notes.bad(
            f"{file.text('path')} is damaged: it {file.text('why')}",
            "remove its directory and run scripts/up, which gets it again; if it comes damaged again, test memory and disk",
        )
    if not seen.items("wrong"):
        notes.ok(f"every byte of {int(seen.number('files') or 0)} files, {human(seen.number('bytes') or 0)}, is what the manifest says")
