"""Is there a newer commit of the prepared model: the hub's, against the manifest. Asks for names, sizes and hashes, fetches no file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripts.updating import prepared
from scripts.updating.finding import Finding, unasked
from services.init import catalog, selection, sources
from services.init.errors import InitError, SourceError
from services.shared import hardware, settings
from services.shared.settings import Settings

if TYPE_CHECKING:
    from services.init.hub import Listing
    from services.init.verify import Expected

TOPIC = "model"
BRANCH = "main"  # of which a commit that was asked for by itself is taken to be
COMMIT = re.compile(r"[0-9a-f]{40}")
SHOWN = 6  # names of files in one sentence


@dataclass(frozen=True)
class Change:
    """What a commit changes of the files that the model is made of. `fetched`: bytes that would come from the hub."""

    changed: tuple[str, ...]
    added: tuple[str, ...]
    gone: tuple[str, ...]
    fetched: int

    def __bool__(self) -> bool:
        return bool(self.changed or self.added or self.gone)

    def __str__(self) -> str:
        kinds = (("changed", self.changed), ("new", self.added), ("gone", self.gone))
        return "; ".join(f"{word}: {_some(names)}" for word, names in kinds if names)


def examine(environ: Mapping[str, str]) -> Finding:
    """The finding on the model in use."""
    try:
        config = settings.load(environ)
    except settings.SettingsError as error:
        return unasked(TOPIC, error, "correct it in .env or in the environment")
    try:
        here = prepared.look(config, environ)
    except prepared.NotReadable as error:
        return unasked(TOPIC, error, "scripts/doctor looks closer")
    if not here:
        return Finding("skip", TOPIC, "none is prepared here, so none can be old", "scripts/up prepares the newest")
    card, source = here["manifest"], here["manifest"]["source"]
    if source["kind"] == "demo":
        return Finding("skip", TOPIC, "the demo is in use; it comes with Cloister and there is no hub to ask", _instead(config))
    if source["kind"] != "hub":
        return Finding("skip", TOPIC, f"{card['title']} was made of {source['location']}, so there is no hub to ask")
    return _of_hub(config, card, source, here["kept"])


def _of_hub(config: Settings, card: Mapping[str, Any], source: Mapping[str, Any], kept: Mapping[str, int]) -> Finding:
    repo, commit, revision = source["repo"], source["commit"], source["revision"]
    held = COMMIT.fullmatch(revision)
    branch = BRANCH if held else revision
    try:
        from services.init import hub

        now = hub.listing(repo, branch)
    except ImportError as error:
        return unasked(TOPIC, f"{error.name} is not installed")
    except InitError as error:
        return unasked(TOPIC, error)
    same = now.commit == commit
    try:
        change = None if same else compare(source, _former(repo, commit), now, kept)
    except SourceError as error:
        return Finding("skip", TOPIC, f"{repo} is at {now.commit[:12]} on {branch}, and that can't take the place of what is here: {error}")
    facts = {"repo": repo, "branch": branch, "here": commit, "newest": now.commit, "title": card["title"]}
    if not change:
        more = f" at {commit[:12]}" if same else f": {now.commit[:12]} changes none of the files that {commit[:12]} was made of"
        return Finding("ok", TOPIC, f"{repo} has nothing newer on {branch}{more}", facts=facts)
    facts |= {"changed": change.changed, "new": change.added, "gone": change.gone, "bytes": change.fetched}
    note = ", at which [model] revision holds it" if held else ""
    found = f"{repo} is at {now.commit[:12]} on {branch}, here is {commit[:12]}{note}; {change}; {hardware.human(change.fetched)} to fetch"
    return Finding("NEW", TOPIC, found, f"CLOISTER_MODEL__REVISION={now.commit} scripts/up{_option(config, card, source)}", facts)


def compare(source: Mapping[str, Any], former: Listing | None, now: Listing, kept: Mapping[str, int]) -> Change:
    """The files of the manifest's source against those of the hub's newest commit; `former`: what the hub says of ours.

    Raises:
        SourceError: the newest commit holds no such model any more.
    """
    mine = {file["path"]: file for file in source["files"]}
    there = {file.path: file for file in now.files}
    before = {file.path: file for file in former.files} if former else {}
    ready = len(mine) == 1 and next(iter(mine)).endswith(".gguf")
    names = list(mine) if ready else selection.checkpoint(there, source["repo"], ":")
    wanted = {name: there[name] for name in names if name in there}
    if not wanted:
        raise SourceError(f"{source['repo']} has no file {names[0]} any more")
    same = {name for name, file in wanted.items() if name in mine and _same(file, before.get(name), mine[name])}
    fetched = sum(file.size for name, file in wanted.items() if name not in same or kept.get(name) != file.size)
    changed = tuple(name for name in wanted if name in mine and name not in same)
    added = tuple(name for name in wanted if name not in mine)
    return Change(changed, added, tuple(name for name in mine if name not in wanted), fetched)


def _same(now: Expected, before: Expected | None, mine: Mapping[str, Any]) -> bool:
    """By the hub's own hashes of both commits. Where it forgot ours, by SHA-256; small files have none there and count as changed."""
    if before:
        return (now.sha256, now.blob, now.size) == (before.sha256, before.blob, before.size)
    return now.sha256 is not None and now.sha256 == mine["sha256"]


def _former(repo: str, commit: str) -> Listing | None:
    from services.init import hub

    try:
        return hub.listing(repo, commit)
    except InitError:
        return None  # a history that was rewritten


def _instead(config: Settings) -> str:
    """What to do where the demo only stands in."""
    return "" if config.model.name == sources.DEMO else f"scripts/up prepares {config.model.name} once it can be had"


def _option(config: Settings, card: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    """--model, unless the settings name this very model."""
    known = catalog.load()
    try:
        if sources.resolve(config.model.name, config.model.revision, known).name == card["name"]:
            return ""
    except InitError:
        pass
    if card["name"] in known:
        return f" --model {card['name']}"
    paths = [file["path"] for file in source["files"]]
    return f" --model {source['repo']}{f':{paths[0]}' if paths[0].endswith('.gguf') else ''}"


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
