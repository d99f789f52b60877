"""The other way to a model: not prepared here, but taken as it is from the node that prepared it. fetch → verify → publish.

Owns what makes a copy resumable and never half visible. Whatever the peer has in use is taken, a demo that stands in for
another model too: all nodes shall answer with the same bytes. The hub is not asked. Knows nothing of HTTP.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from pathlib import Path

from services.init.errors import CorruptFile, NotEnough
from services.init.peer import Changed, Peer, Wrong
from services.init.ready import Ready
from services.init.reporter import Reporter
from services.init.volume import Volume
from services.init.work import Work
from services.shared import files, hardware, manifest
from services.shared.manifest import Manifest
from services.shared.progress import Progress


def copy(peer: Peer, volume: Volume, report: Reporter, log: logging.Logger, *, verify: bool = False) -> tuple[Ready, str | None]:
    """The peer's model in this volume, not yet pointed at, and what a person must know of it. `verify`: read a copy that is there again.

    Raises:
        CorruptFile: it came wrong twice.
        NotEnough: it does not fit on the disk.
        InitError: the peer publishes something else than a model.
    """

    def waiting(sentence: str, now: Progress | None) -> None:
        known = now or Progress("running", report.now.model, report.now.quant, "fetch")
        report.write(dataclasses.replace(known, state="running", detail=sentence, error=None, notice=None))

    wrong = 0
    while True:
        text, made = peer.published(waiting)
        report.start(made.name, made.quant)
        directory = volume.model(made.name, made.quant)
        if not _is_there(directory, text, made, verify):
            try:
                _copy(peer, volume, text, made, report, log)
            except Changed:
                continue
            except Wrong as error:
                wrong += 1
                sentence = f"{manifest.MODEL} of {made.name} {made.quant} from {peer.url} is damaged: {error}"
                if wrong > 1:
                    raise CorruptFile(f"{sentence}; it came wrong twice: run `python -m services.init --verify` on that node") from None
                log.warning(f"{sentence}; fetching it again")
                continue
        now = peer.progress()
        return Ready(directory, made), now.notice if now and (now.state, now.model) == ("ready", made.name) else None


def _is_there(directory: Path, text: str, made: Manifest, verify: bool) -> bool:
    file = directory / manifest.MODEL
    try:
        same = (directory / manifest.NAME).read_text(encoding="utf-8") == text and file.stat().st_size == made.model.size
    except (OSError, UnicodeDecodeError):
        return False
    return same and (not verify or files.sha256(file) == made.model.sha256)


def _copy(peer: Peer, volume: Volume, text: str, made: Manifest, report: Reporter, log: logging.Logger) -> None:
    from services.init import publish  # brings llama_cpp, for which a start with a copied model shall not wait

    work = Work(volume.work(made.name, made.quant), (made.model,), {"manifest": hashlib.sha256(text.encode()).hexdigest()})
    volume.clean_work(keep=work.directory)
    if work.manifest() is None:
        final = work.directory / manifest.MODEL
        if not final.exists():
            part = final.with_name(f"{final.name}.part")
            _fetch(peer, made, part, volume, report, log)
            _verify(made, part, report)
            files.publish(part, final)
        files.write_text(work.directory / manifest.NAME, text)  # the peer's very bytes, so that all nodes have the same
    publish.publish(volume, work, made)


def _fetch(peer: Peer, made: Manifest, part: Path, volume: Volume, report: Reporter, log: logging.Logger) -> None:
    from services.init.preflight import DISK_RESERVE

    there = part.stat().st_size if part.exists() else 0
    needed, free = made.model.size - there + DISK_RESERVE, hardware.disk_free(volume.root)
    if needed > free:
        raise NotEnough(
            f"not enough disk for {made.title} at {made.quant}: its copy takes {hardware.human(needed)}, and {hardware.human(free)} are "
            f"free in {volume.root}; free some space, or take the label cloister.api from this node"
        )
    log.info(f"fetching {hardware.human(made.model.size - there)} of {made.name} {made.quant} from {peer.url}")
    with report.step("fetch", made.model.size, done=there) as step, part.open("ab") as out:
        peer.download(f"/volume/models/{made.name}/{made.quant}/{manifest.MODEL}", made.model.size, out, step.advance)


def _verify(made: Manifest, part: Path, report: Reporter) -> None:
    with report.step("verify", made.model.size) as step:
        sha256 = files.sha256(part, step.advance)
    if sha256 != made.model.sha256:
        part.unlink()
        raise Wrong(f"its SHA-256 is {sha256}, the manifest says {made.model.sha256}")
