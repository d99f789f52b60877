"""Prepares a model: fetch → verify → convert → quantize → check → publish; or takes another node's (copy.py).

Owns the order of the steps and what a run begins and ends with. Each step can be killed at any moment: the next run takes
up what is complete and makes the rest again.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass

from services.init import catalog, ready, sources
from services.init.errors import Unreachable
from services.init.ready import Ready
from services.init.reporter import Reporter
from services.init.sources import Source
from services.init.volume import Volume
from services.shared import hardware
from services.shared.settings import Settings

WAYS_OUT = (
    "set HF_ENDPOINT to a mirror that can be reached, or [model] name to a folder with a Hugging Face checkpoint, to a .gguf file, "
    "or to demo; the next start tries again"
)


@dataclass(frozen=True)
class Run:
    """What every step may need."""

    settings: Settings
    volume: Volume
    report: Reporter
    log: logging.Logger


def run(settings: Settings, report: Reporter, log: logging.Logger, *, verify: bool = False) -> None:
    """Make the wanted model the one in use, preparing it when it is not yet. `verify`: read every file again.

    Raises:
        InitError: it could not be done; the message is for the person who ran it.
    """
    this = Run(settings, Volume(settings.paths.volume), report, log)
    with this.volume.locked():
        report.start(settings.model.name, settings.model.quant)
        model, notice = _copied(this, settings.model.peer, verify) if settings.model.peer else _own(this, verify)
        this.volume.point(model.directory)
        this.volume.clean_work()
        report.ready(notice)
        log.info(f"ready {model.manifest.name} {model.manifest.quant} {model.manifest.model.sha256[:12]} in {model.directory}")


def _copied(this: Run, peer: str, verify: bool) -> tuple[Ready, str | None]:
    from services.init.copy import copy
    from services.init.peer import Peer

    return copy(Peer(peer, this.log), this.volume, this.report, this.log, verify=verify)


def _own(this: Run, verify: bool) -> tuple[Ready, str | None]:
    """The model that is wanted, or with a notice the one that stands in for it."""
    settings, report = this.settings.model, this.report
    source = sources.resolve(settings.name, settings.revision, catalog.load())
    report.start(source.name, settings.quant)
    try:
        model = _ready_or_prepared(this, source, verify)
    except Unreachable as error:
        if settings.fallback != "demo":
            raise Unreachable(f"{error}; {WAYS_OUT}") from None
        notice = f"{source.title} could not be had, so the demo model stands in, which can do very little: {error}; {WAYS_OUT}"
        this.log.warning(notice)
        report.start(sources.DEMO, settings.quant)
        return _ready_or_prepared(this, sources.demo(), verify), notice
    if not settings.keep_source and source.kind == "hub":
        this.volume.point(model.directory)  # in use before what it was made of goes
        shutil.rmtree(this.volume.source(source.name), ignore_errors=True)
    return model, None


def _ready_or_prepared(this: Run, source: Source, verify: bool) -> Ready:
    found = ready.find(this.volume, source, this.settings.model.quant, this.log)
    if found is None:
        return _prepare(this, source)
    if verify:
        from services.init import audit

        audit.audit(this.volume, source, found, this.report)
    return found


def _prepare(this: Run, source: Source) -> Ready:
    # Imported here, because a start with a prepared model shall not wait for numpy, llama_cpp and the hub's client.
    from services.init import fetch, plan, preflight, publish, verify
    from services.init.steps import Steps
    from services.init.work import Work

    volume, report, log = this.volume, this.report, this.log
    directory = volume.work(source.name, this.settings.model.quant)
    if freed := volume.clean_work(keep=directory):
        log.info(f"removed {hardware.human(freed)} that an earlier run left unfinished")
    todo = plan.plan(source, volume)
    preflight.require(todo, this.settings, volume)
    fetch.fetch(todo, volume, report, log)
    ledger = verify.Ledger(volume.ledger(source.name), todo.root)
    inputs = verify.verify(todo.files, ledger, lambda wrong: fetch.get(todo, wrong), report, log)
    work = Work(directory, inputs, publish.tools())
    if (made := work.manifest()) is None:
        steps = Steps(todo, work, this.settings.model.quant, this.settings.engine.threads, report)
        model = steps.convert()
        model = steps.quantize(model)
        facts = steps.check(model)
        made = publish.describe(todo, inputs, steps.folder, model, facts, report)
        made.write(work.directory)
    return Ready(publish.publish(volume, work, made), made)
