"""Can the model be talked with: its tokenizer gives back Chinese, emoji and code, its chat template renders a conversation."""

from __future__ import annotations

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene

AGAIN = "prepare it again (remove its directory in models/, run scripts/up), with the model's own tokenizer files"


def examine(scene: Scene) -> list[Finding]:
    notes = Notes("text")
    card = scene.facts.at("manifest")
    if not card or card.text("error"):
        notes.skip("tokenizer and chat template are looked at once a model is prepared")
        return notes.all
    _tokenizer(scene, notes)
    _template(scene, notes)
    return notes.all


def _tokenizer(scene: Scene, notes: Notes) -> None:
    seen = scene.part("tokenizer")
    if crash := seen.text("crash"):
        if crash != "SIGILL":  # cpu tells of that
            notes.bad(f"llama.cpp crashes on the model's vocabulary ({crash}): the file is damaged", AGAIN)
    elif missing := seen.text("missing"):
        notes.skip(f"the tokenizer was not tried: {missing} is not installed")
    elif error := seen.text("error"):
        notes.bad(f"the tokenizer does not work: {error}", AGAIN)
    elif lost := seen.items("lost"):
        text, back = lost[0].text("text"), lost[0].text("back")
        notes.bad(f"the tokenizer does not give back what goes in: {text!r} became {back!r}, so answers are garbled", AGAIN)
    else:
        notes.ok(f"Chinese, emoji and code come back from its {int(seen.number('tokens') or 0)} tokens as they went in")


def _template(scene: Scene, notes: Notes) -> None:
    seen = scene.part("template")
    if missing := seen.text("missing"):
        notes.skip(f"the chat template was not tried: {missing} is not installed")
    elif error := seen.text("error") or seen.text("crash"):
        notes.bad(f"the chat template does not work: {error}", AGAIN)
    else:
        notes.ok("the chat template renders a conversation and keeps its texts whole")
