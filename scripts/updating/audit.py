"""Is there a known vulnerability in what is shipped. pip-audit is the judge where it is installed, and else we are, by the same rules.

Owns the findings and how both judges are asked. OSV or the database of advisories is told by the caller.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from scripts.updating import advisories, osv
from scripts.updating.advisories import Database, DatabaseError, Record
from scripts.updating.finding import Finding, unasked
from scripts.updating.shipped import Package

TOPIC = "advisories"
PIP_AUDIT = Path(sys.prefix) / "bin/pip-audit"
TIMEOUT = 900.0  # seconds for one question a package
SOONER = "there may be newer ones: scripts/update --save-advisories on a machine with a network"
OLD = 30  # days


@dataclass(frozen=True)
class Vulnerability:
    """One advisory that is about a package of ours. `names`: all that it is known by, the best first; `fixed`: versions that mend it."""

    package: Package
    names: tuple[str, ...]
    fixed: tuple[str, ...]
    summary: str


class AuditError(Exception):
    """pip-audit did not come to a judgement; the message is one line for a person."""


def examine(packages: list[Package], environ: Mapping[str, str], *, url: str = osv.URL, file: Path | None = None) -> list[Finding]:
    """Findings on all packages: by OSV at `url`, or by the database in `file` without asking anybody."""
    try:
        if file is None:
            osv.ask(url, packages[0].name, packages[0].version)  # says in plain words what pip-audit would in a traceback
            return _findings(packages, _by_pip_audit(packages, url, environ), f"as OSV knows them now ({url})")
        database = advisories.read(file)
        found = _by_file(packages, database, environ)
    except (osv.OsvError, AuditError, DatabaseError) as error:
        return [unasked(TOPIC, error, "" if file else "a file saved before does without: scripts/update --advisories FILE")]
    age = database.age(datetime.datetime.now(datetime.UTC))
    how = f"as OSV knew them on {database.day} ({age} days ago)"
    findings = _findings(packages, found, f"{how}; {SOONER}" if age > OLD else how)
    if unknown := sorted({package.name for package in packages} - set(database.packages)):
        findings.append(unasked(TOPIC, f"{file} was saved for other packages and does not tell of {', '.join(unknown)}", "save it anew"))
    return findings


def _by_file(packages: list[Package], database: Database, environ: Mapping[str, str]) -> list[Vulnerability]:
    if not PIP_AUDIT.exists():
        return alone(packages, database)
    with osv.serving(database) as url:
        return _by_pip_audit(packages, url, {**environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"})


def alone(packages: Iterable[Package], database: Database) -> list[Vulnerability]:
    """Our own judgement; of several records on the same thing the one with the best known name speaks, as with pip-audit.

    Raises:
        DatabaseError: a record is not as OSV's schema has it.
    """
    found: list[Vulnerability] = []
    for package in packages:
        mine: list[Vulnerability] = []
        records = sorted(database.about(package.name, package.version), key=lambda record: _rank(_names(record)[0]))
        for record in records:
            names = _names(record)
            if not any(set(names) & set(one.names) for one in mine):
                mine.append(Vulnerability(package, names, _fixes(record, package.name), _summary(record)))
        found += mine
    return found


def _names(record: Record) -> tuple[str, ...]:
    return tuple(sorted((str(record["id"]), *record.get("aliases", ())), key=_rank))


def _rank(name: str) -> int:
    return 0 if name.startswith("PYSEC") else 1 if name.startswith("CVE") else 2


def _fixes(record: Record, name: str) -> tuple[str, ...]:
    events = (event for part in advisories.parts(record, name) for events in advisories.ranges(part) for event in events)
    return tuple(event["fixed"] for event in events if "fixed" in event)


def _summary(record: Record) -> str:
    return str(record.get("summary") or record.get("details") or "N/A")


def _by_pip_audit(packages: list[Package], url: str, environ: Mapping[str, str]) -> list[Vulnerability]:
    if not PIP_AUDIT.exists():
        raise AuditError("pip-audit is not installed here")
    found: list[Vulnerability] = []
    rest = packages
    while rest:  # it takes one version of a package at a time
        now = list({package.name: package for package in reversed(rest)}.values())
        rest = [package for package in rest if package not in now]
        found += _judged({package.name: package for package in now}, _run(now, url, environ))
    return sorted(found, key=lambda one: one.package)


def _run(packages: list[Package], url: str, environ: Mapping[str, str]) -> str:
    """pip-audit's JSON."""
    certificates = {"REQUESTS_CA_BUNDLE": environ["SSL_CERT_FILE"]} if environ.get("SSL_CERT_FILE") else {}
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "requirements.txt"
        pins.write_text("".join(f"{package.name}=={package.version}\n" for package in packages), encoding="utf-8")
        options = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--cache-dir", folder)
        service = ("--vulnerability-service", "osv", "--osv-url", url)
        command = (sys.executable, "-m", "pip_audit", "--requirement", str(pins), *options, *service)
        try:
            env = {**certificates, **environ}
            done = subprocess.run(command, env=env, cwd=folder, capture_output=True, timeout=TIMEOUT, text=True, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AuditError(f"pip-audit did not end ({type(error).__name__})") from None
    if done.returncode not in (0, 1) or not done.stdout.startswith("{"):
        last = done.stderr.strip().rpartition("\n")[2] or f"it ended with status {done.returncode}"
        raise AuditError(f"pip-audit came to no judgement: {last[:300]}")
    return done.stdout


def _judged(packages: Mapping[str, Package], told: str) -> list[Vulnerability]:
    found: list[Vulnerability] = []
    seen: set[str] = set()
    try:
        for one in json.loads(told)["dependencies"]:
            name = canonicalize_name(one["name"])
            if "skip_reason" in one:
                raise AuditError(f"pip-audit left {name} out: {one['skip_reason']}")
            seen.add(name)
            for item in one["vulns"]:
                names = tuple(sorted({item["id"], *item.get("aliases", ())}, key=lambda each: (each != item["id"], _rank(each), each)))
                found.append(Vulnerability(packages[name], names, tuple(item["fix_versions"]), item.get("description") or "N/A"))
    except (ValueError, KeyError, TypeError) as error:
        raise AuditError(f"pip-audit's answer can't be read ({type(error).__name__}: {error})") from None
    if missing := set(packages) - seen:
        raise AuditError(f"pip-audit did not look at {', '.join(sorted(missing))}")
    return found


def _findings(packages: list[Package], found: list[Vulnerability], known: str) -> list[Finding]:
    sound = len(packages) - len({one.package for one in found})
    which = f"{sound} of {len(packages)}" if found else f"{sound}"
    rest = Finding("ok", TOPIC, f"no known vulnerability in {which} packages, {known}", facts={"packages": len(packages)})
    return [*map(_finding, found), rest]


def _finding(one: Vulnerability) -> Finding:
    package, fix = one.package, _next(one.fixed, one.package.version)
    summary = " ".join(one.summary.split())
    todo = f"{package.name} {fix} mends it: see whether a newer release has it" if fix else "no version mends it yet: read what it says"
    return Finding(
        "BAD",
        TOPIC,
        f"{package.name} {package.version} of {', '.join(package.where)}: {', '.join(one.names)}: {summary[:200]}",
        todo,
        {"package": package.name, "version": package.version, "where": package.where, "names": one.names, "fixed": fix, "summary": summary},
    )


def _next(fixed: Iterable[str], version: str) -> str | None:
    """The least version that mends it."""
    later = []
    for text in fixed:
        try:
            if Version(text) > Version(version):
                later.append(Version(text))
        except InvalidVersion:
            continue
    return str(min(later)) if later else None
