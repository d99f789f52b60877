"""`python -m scripts.updating`: ask about model, release and advisories, and tell. Its help stands in scripts/update.

Exit codes: 0 nothing is new, 1 something is, 2 something could not be asked and nothing is new, or wrong arguments.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts.updating import advisories, audit, finding, osv, release
from scripts.updating.finding import Finding, unasked
from scripts.updating.shipped import NothingShipped, shipped

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "advisories.json"
SAVED = ROOT / "var/advisories.json"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/update", add_help=False, allow_abbrev=False, usage="see scripts/update --help")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--osv", default=osv.URL)
    parser.add_argument("--advisories", type=Path)
    parser.add_argument("--save-advisories", type=Path, nargs="?", const=SAVED)
    given = parser.parse_args(arguments)
    if given.save_advisories:
        return save(given.save_advisories, given.osv)
    found = []
    for one in examine(os.environ, given.osv, given.advisories):
        if not given.json:
            sys.stdout.write(one.line() + "\n")
            sys.stdout.flush()
        found.append(one)
    if given.json:
        sys.stdout.write(json.dumps([dataclasses.asdict(one) for one in found], ensure_ascii=False, indent=1) + "\n")
    _say(_summary(found))
    return finding.code(found)


def examine(environ: Mapping[str, str], url: str, file: Path | None) -> Iterator[Finding]:
    """All findings, each as soon as it is known."""
    bundle = (ROOT / release.UNPACKED).exists()
    if bundle:
        yield Finding("skip", "model", "it came in the bundle, and this machine asks no hub")
        yield release.unpacked(ROOT)
    else:
        from scripts.updating import model
        from services.shared import VERSION

        yield model.examine(environ)
        yield release.examine(ROOT, VERSION, environ)
    if bundle and file is None and not BUNDLED.exists():
        yield unasked(
            audit.TOPIC, "this bundle has no advisories.json", "scripts/update --save-advisories before scripts/bundle puts one in"
        )
        return
    try:
        yield from audit.examine(shipped(ROOT), environ, url=url, file=file or (BUNDLED if bundle else None))
    except NothingShipped as error:
        yield unasked(audit.TOPIC, error)


def save(file: Path, url: str) -> int:
    """Keep everything that OSV knows of our packages, of all their versions, in one file; the exit code."""
    from services.shared import files

    try:
        names = {package.name for package in shipped(ROOT)}
        _say(f"asking {url} about {len(names)} packages")
        database = osv.collect(url, names, lambda _: None)
        text = advisories.text(database)
        for name in names:
            for record in database.about(name):
                advisories.affects(record, name, "0")
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(file, text)
    except (NothingShipped, osv.OsvError, advisories.DatabaseError) as error:
        _say(f"nothing is saved: {error}")
        return 2
    except OSError as error:
        _say(f"{file} can't be written: {error.strerror}")
        return 2
    along = ", which scripts/bundle takes along" if file == SAVED else ""
    number = sum(len(records) for records in database.packages.values())
    _say(f"{number} advisories about {len(names)} packages, of {database.day}, are in {file}{along}")
    return 0


def _summary(found: list[Finding]) -> str:
    def count(*levels: str) -> int:
        return sum(one.level in levels for one in found)

    parts = [f"{count('NEW')} new", f"{count('BAD')} known vulnerabilities" if count("BAD") else "", f"{count('FAIL')} could not be asked"]
    return f"{', '.join(part for part in parts if part)}. Nothing was changed"


def _say(text: str) -> None:
    sys.stderr.write(f"update: {text}\n")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads only the beginning, such as head, is no error
    sys.exit(main(sys.argv[1:]))
