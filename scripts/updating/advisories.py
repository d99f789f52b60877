"""The database of advisories in one file: all that OSV knew, on one day, of the packages that we ship.

Owns the file and the question whether a record is about a version, by the OSV schema (https://ossf.github.io/osv-schema/). Asks nobody.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

FORMAT = 1
ECOSYSTEM = "PyPI"
ORDER = ("limit", "fixed", "introduced", "last_affected")  # of events at the same version

Record = dict[str, Any]


class DatabaseError(Exception):
    """The file is not there, damaged or of another format; the message is one line for a person."""


@dataclass(frozen=True)
class Database:
    """`packages`: OSV's records by normalized name, an empty list where there are none. `date`: when `source` was asked, in UTC."""

    date: str
    source: str
    packages: Mapping[str, Sequence[Record]]

    def about(self, name: str, version: str | None = None) -> list[Record]:
        """The records of a package; with a version, those that affect it. Withdrawn ones are left out.

        Raises:
            DatabaseError: a record is not as the schema has it.
        """
        return [
            record
            for record in self.packages.get(name, ())
            if not record.get("withdrawn") and (version is None or affects(record, name, version))
        ]

    @property
    def day(self) -> str:
        return self.date[:10]

    def age(self, now: datetime.datetime) -> int:
        """Whole days since its date."""
        return (now - datetime.datetime.fromisoformat(self.date)).days


def read(file: Path) -> Database:
    """Raises DatabaseError."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise DatabaseError(f"{file} has the format {found['format']!r} and not {FORMAT}")
        database = Database(found["date"], found["source"], found["packages"])
        database.age(datetime.datetime.now(datetime.UTC))
        for name, records in database.packages.items():
            for record in records:
                affects(record, name, "0")
        return database
    except OSError as error:
        raise DatabaseError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatabaseError(f"{file} is damaged or no database of advisories ({type(error).__name__})") from None


def text(database: Database) -> str:
    """The file's content; the same records make the same text."""
    packages = {name: sorted(records, key=lambda record: str(record["id"])) for name, records in sorted(database.packages.items())}
    return (
        json.dumps(
            {"format": FORMAT, "date": database.date, "source": database.source, "packages": packages},
            ensure_ascii=False,
            sort_keys=True,
            indent=0,
        )
        + "\n"
    )


def affects(record: Record, name: str, version: str) -> bool:
    """Whether the record is about this version of the package.

    Raises:
        DatabaseError: the record is not as the schema has it.
    """
    try:
        if not isinstance(record["id"], str):
            raise TypeError
        return any(_listed(part, version) or _in_ranges(part, version) for part in parts(record, name))
    except (KeyError, TypeError, AttributeError):
        raise DatabaseError(f"the advisory {str(record)[:60]} is not as OSV's schema has it") from None


def parts(record: Record, name: str) -> list[Record]:
    """What the record says of this package."""
    found = [(part, part.get("package") or {}) for part in record.get("affected") or ()]
    return [part for part, package in found if package.get("name") == name and package.get("ecosystem") == ECOSYSTEM]


def ranges(part: Record) -> list[list[dict[str, str]]]:
    """The events of its ranges of versions; those of commits are not ours."""
    return [item["events"] for item in part.get("ranges") or () if item["type"] == "ECOSYSTEM"]


def _listed(part: Record, version: str) -> bool:
    listed = part.get("versions") or ()
    return version in listed or any(_same(one, version) for one in listed)


def _same(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return False


def _in_ranges(part: Record, version: str) -> bool:
    return any(_within(Version(version), events) for events in ranges(part))


def _within(version: Version, events: list[dict[str, str]]) -> bool:
    """The schema's evaluation; a range that can't be compared counts as meant: better one alarm too many."""
    try:
        sequence = sorted((Version("0.dev0" if at == "0" else at), ORDER.index(kind)) for event in events for kind, at in event.items())
    except (InvalidVersion, ValueError):
        return True
    inside = False
    for at, order in sequence:
        kind = ORDER[order]
        if kind == "introduced" and version >= at:
            inside = True
        elif (kind in ("fixed", "limit") and version >= at) or (kind == "last_affected" and version > at):
            inside = False
    return inside
