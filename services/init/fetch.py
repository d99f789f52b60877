"""Step fetch: what the hub has and the volume lacks comes into the volume, at one commit, resumed byte for byte.

Owns sources/<name>/ of the volume: the record of what the hub said, files under their own names once complete, and parts
named by the hash of what they become. Whether the bytes are right is for verify.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from services.init import hub, selection
from services.init.errors import SourceError
from services.init.plan import Plan
from services.init.reporter import Reporter, Step
from services.init.sources import Source
from services.init.verify import Expected
from services.init.volume import Volume
from services.shared import files, hardware

RECORD = "hub.json"


def plan(source: Source, volume: Volume) -> Plan:
    """The files of a hub source. The hub is asked for the revision's commit unless all of them are in the volume already.

    Raises:
        Unreachable, SourceError: as hub.listing; and when the repository has no checkpoint, or not the wanted file.
    """
    assert source.repo and source.revision
    known = recorded(source, volume)
    if known and not missing(known):
        return known
    listing = hub.listing(source.repo, source.revision)
    by_name = {file.path: file for file in listing.files}
    if source.file is None:
        names = selection.checkpoint(by_name, source.repo, ":")
    elif source.file in by_name:
        names = [source.file]
    else:
        ggufs = ", ".join(name for name in by_name if name.endswith(".gguf")) or "none"
        raise SourceError(f"{source.repo} has no file {source.file} at {source.revision}; its GGUF files: {ggufs}")
    return Plan(source, _root(source, volume), tuple(by_name[name] for name in names), listing.commit)


def missing(plan: Plan) -> list[Expected]:
    """The files that are not in the volume in their full size."""
    return [file for file in plan.files if not _complete(plan.root / file.path, file.size)]


def missing_bytes(plan: Plan) -> int:
    """Bytes still to come; parts of files count as there."""
    return sum(file.size - _size(_part(plan, file)) for file in missing(plan))


def small(plan: Plan, path: str) -> bytes:
    """A small file of the plan: the volume's, or the hub's without keeping it.

    Raises:
        Unreachable, SourceError: as hub.download.
    """
    assert plan.source.repo and plan.commit
    if (plan.root / path).is_file():
        return (plan.root / path).read_bytes()
    found = bytearray()

    def write(data: bytes, position: int) -> None:
        found[position:] = data

    hub.download(plan.source.repo, plan.commit, path, lambda: len(found), write)
    return bytes(found)


def fetch(plan: Plan, volume: Volume, report: Reporter, log: logging.Logger) -> None:
    """Bring in what is missing. Afterwards every file of the plan is there, and nothing else is.

    Raises:
        Unreachable, SourceError: as hub.download; what has come so far stays for the next run.
    """
    if plan.source.kind != "hub":
        return
    _record(plan, volume)
    total = sum(file.size for file in plan.files)
    if wanted := missing(plan):
        left = hardware.human(missing_bytes(plan))
        log.info(f"fetching {left} of {plan.source.repo} at commit {plan.commit} from {hub.endpoint()}")
    with report.step("fetch", total, done=total - missing_bytes(plan)) as step:
        get(plan, wanted, step)


def get(plan: Plan, wanted: Iterable[Expected], step: Step | None = None) -> None:
    """Download these files of the plan, each complete under its name only."""
    assert plan.source.repo and plan.commit
    for file in wanted:
        part = _part(plan, file)
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as out:
            _Download(out, file, step).run(plan.source.repo, plan.commit)
        final = plan.root / file.path
        final.parent.mkdir(parents=True, exist_ok=True)
        files.publish(part, final)
    _remove_empty(plan.root.parent / "parts")


class _Download:
    """One file on its way into its part."""

    def __init__(self, out: BinaryIO, file: Expected, step: Step | None) -> None:
        self._out, self._file, self._step = out, file, step

    def run(self, repo: str, commit: str) -> None:
        if self._size() > self._file.size:
            self._out.truncate(0)
        # An empty file, or one whose last byte came just before the kill, needs no request.
        while self._size() != self._file.size:
            hub.download(repo, commit, self._file.path, self._size, self._write)
            if self._size() < self._file.size:
                raise SourceError(
                    f"{hub.endpoint()} ends {self._file.path} after {self._size()} of {self._file.size} bytes; check the mirror or proxy"
                )

    def _size(self) -> int:
        self._out.flush()
        return self._out.seek(0, 2)

    def _write(self, data: bytes, position: int) -> None:
        size = self._out.seek(0, 2)
        if position < size:  # the server sends again what is there already: it does not do ranges
            self._out.truncate(position)
            self._advance(position - size)
        self._out.write(data)
        self._advance(len(data))
        if position + len(data) > self._file.size:
            raise SourceError(f"{hub.endpoint()} sends more than the {self._file.size} bytes of {self._file.path} that it announced")

    def _advance(self, count: int) -> None:
        if self._step:
            self._step.advance(count, self._file.path)


def _part(plan: Plan, file: Expected) -> Path:
    return plan.root.parent / "parts" / f"{file.sha256 or file.blob}.part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _complete(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _root(source: Source, volume: Volume) -> Path:
    assert source.repo
    return volume.source(source.name) / source.repo.split("/")[1]


def recorded(source: Source, volume: Volume) -> Plan | None:
    """What the hub said last time, when it is of the same revision."""
    try:
        record = json.loads((volume.source(source.name) / RECORD).read_text(encoding="utf-8"))
        if (record["repo"], record["revision"], record["file"]) != (source.repo, source.revision, source.file):
            return None
        return Plan(source, _root(source, volume), tuple(Expected(**file) for file in record["files"]), record["commit"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _record(plan: Plan, volume: Volume) -> None:
    """Remember what the hub said, and remove whatever of an earlier commit is not the same now."""
    directory = volume.source(plan.source.name)
    try:
        before = {file["path"]: Expected(**file) for file in json.loads((directory / RECORD).read_text(encoding="utf-8"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        before = {}
    now = {file.path: file for file in plan.files}
    for path in sorted(plan.root.rglob("*"), reverse=True):
        name = str(path.relative_to(plan.root))
        if path.is_file() and (name not in now or before.get(name) != now[name]):
            path.unlink()
    parts = {_part(plan, file) for file in plan.files}
    for path in (directory / "parts").glob("*"):
        if path not in parts:
            path.unlink()
    source = plan.source
    directory.mkdir(parents=True, exist_ok=True)
    record = {
        "repo": source.repo,
        "revision": source.revision,
        "file": source.file,
        "commit": plan.commit,
        "files": [dataclasses.asdict(file) for file in plan.files],
    }
    files.write_text(directory / RECORD, json.dumps(record, indent=1))


def _remove_empty(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
