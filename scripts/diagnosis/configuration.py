"""Do the settings fit together and to what is here: the model's name, files that they name, addresses that are open to others."""

from __future__ import annotations

import ipaddress

from scripts.diagnosis.finding import Finding, Notes
from scripts.diagnosis.scene import Scene
from services.init import catalog, sources
from services.init.errors import SettingsProblem

SHORT = 2048  # tokens of context, below which a reasoning model has hardly room for a thought


def examine(scene: Scene) -> list[Finding]:
    notes, config = Notes("settings"), scene.settings
    before = len(notes.all)
    _model(scene, notes)
    for file in config.engine.adapters:
        if not file.is_file():
            notes.bad(f"[engine] adapters names {file}, and there is no such file", "put it there, or take it out of the setting")
    if config.api.screen and not config.api.screen.is_file():
        notes.bad(f"[api] screen names {config.api.screen}, and there is no such file", "put it there, or leave the setting empty")
    if config.engine.context < SHORT:
        notes.warn(
            f"[engine] context is {config.engine.context}: longer conversations are refused with context_length_exceeded",
            "CLOISTER_ENGINE__CONTEXT=8192, and at least as many cells",
        )
    if 0 < config.api.max_tokens < SHORT:
        notes.warn(
            f"[api] max_tokens is {config.api.max_tokens}, and thoughts count too: answers will end in mid-sentence",
            "raise CLOISTER_API__MAX_TOKENS, or leave it at 0",
        )
    if not any(finding.level == "BAD" for finding in notes.all[before:]):
        notes.ok("all names are known and all values in range")
    _open(scene, notes)
    return notes.all


def _model(scene: Scene, notes: Notes) -> None:
    """The name must mean something; in Docker a local path is shown to the container under another name, so only its form counts."""
    name = scene.settings.model.name
    if scene.mode == "docker" and name.startswith("/"):
        return
    try:
        sources.resolve(name, scene.settings.model.revision, catalog.load())
    except SettingsProblem as error:
        notes.bad(str(error), "correct CLOISTER_MODEL__NAME, or --model of scripts/up")


def _open(scene: Scene, notes: Notes) -> None:
    """Who reaches page and API. That a secret is asked for then, settings.py has made sure of; in Docker, compose.yaml's bind counts."""
    config, environ = scene.settings, scene.environ
    bind = environ.get("CLOISTER_BIND") or "127.0.0.1"
    addresses = {bind} if scene.mode == "docker" else {config.api.host, config.ui.host} if not environ.get("CLOISTER_BIND") else {bind}
    others = sorted(address for address in addresses if not _alone(address))
    if not others:
        notes.ok("page and API answer to this machine only")
        return
    if scene.mode == "docker" and not environ.get("CLOISTER_SECRETS"):
        notes.bad("CLOISTER_BIND opens page and API to others, and no key is asked for", "run scripts/keys and put its lines into .env")
    if environ.get("CLOISTER_TLS"):
        notes.ok("page and API answer to other machines, over TLS")
    else:
        notes.warn(
            "page and API answer to other machines without TLS: keys and passwords can be read on the way",
            "set CLOISTER_TLS (Docker), put a proxy with TLS in front, or stay on 127.0.0.1",
        )


def _alone(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
