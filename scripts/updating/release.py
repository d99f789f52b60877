"""Is there a newer release: the tags of the git remote `origin` against the version here. Fetches nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from packaging.version import InvalidVersion, Version

from scripts.updating.finding import Finding, unasked

TOPIC = "release"
TIMEOUT = 60.0  # seconds
UNPACKED = "RELEASE"  # the file that stands in an unpacked bundle


def examine(root: Path, here: str, environ: Mapping[str, str]) -> Finding:
    """`here`: the version of the checkout at `root`."""
    try:
        top = _git(root, environ, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != root.resolve():
            raise LookupError("this folder is no git checkout, so it does not know where it came from")
        if "origin" not in _git(root, environ, "remote").split():
            raise LookupError("this checkout has no git remote `origin`")
        tags = [line.partition("refs/tags/")[2] for line in _git(root, environ, "ls-remote", "--tags", "--refs", "origin").splitlines()]
    except LookupError as error:
        return unasked(TOPIC, error)
    newer = newer_than(here, tags)
    if not newer:
        return Finding("ok", TOPIC, f"{here} is the newest: origin has no later version among {len(tags)} tags", facts={"here": here})
    last = newer[-1]
    todo = f"git fetch origin tag {last} && git checkout {last}, read CHANGELOG.md, then scripts/up"
    return Finding("NEW", TOPIC, f"{here} is here, and origin has {', '.join(newer)}", todo, {"here": here, "newer": newer})


def unpacked(root: Path) -> Finding:
    """What can be said in an unpacked bundle."""
    told = dict(line.partition("=")[::2] for line in (root / UNPACKED).read_text(encoding="utf-8").splitlines())
    found = f"{told.get('release', 'this')} came in a bundle: whoever made it finds out with scripts/update and makes the next one"
    return Finding("skip", TOPIC, found, facts={"here": told.get("release")})


def newer_than(here: str, tags: list[str]) -> list[str]:
    """The tags of later versions, in their order. A version in the making counts only where one is here already."""
    current, found = Version(here), {}
    for tag in tags:
        try:
            version = Version(tag)
        except InvalidVersion:
            continue
        if version > current and (current.is_prerelease or not version.is_prerelease):
            found[version] = tag
    return [found[version] for version in sorted(found)]


def _git(root: Path, environ: Mapping[str, str], *arguments: str) -> str:
    """What git says. It asks nobody for a password.

    Raises:
        LookupError: there is no git, or it fails; the message is its own.
    """
    silent = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ("git", "-C", root, *arguments),
            env={**environ, **silent},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise LookupError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise LookupError(f"git did not answer within {TIMEOUT:.0f} seconds") from None
    if done.returncode:
        raise LookupError(_reason(done.stderr, arguments[0]))
    return done.stdout.strip()


def _reason(said: str, command: str) -> str:
    """Its first line that tells why."""
    if "not a git repository" in said:
        return "this folder is no git checkout, so it does not know where it came from"
    lines = [line for line in said.splitlines() if line.startswith(("fatal:", "error:", "ssh:"))] or said.splitlines()
    return f"git {command}: {lines[0] if lines else 'failed'}"
