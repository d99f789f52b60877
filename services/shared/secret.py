"""Secrets at rest: files of hashes, one `name sha256` a line, in which a secret is looked for in constant time.

A line may go on with limits: `name sha256 rpm=60 tpm=10000 concurrent=2`. The secrets are random, 128 bits or more (scripts/keys), so a
plain hash can't be guessed back. Never logs or keeps a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path


class SecretError(ValueError):
    """A file of secrets can't be read or is not one. The message holds nothing of its content."""


@dataclass(frozen=True)
class Limits:
    """What the owner of a secret may do: requests a minute, tokens a minute, requests at once; 0 is no limit."""

    rpm: int = 0
    tpm: int = 0
    concurrent: int = 0

    def __bool__(self) -> bool:
        return bool(self.rpm or self.tpm or self.concurrent)


NO_LIMITS = Limits()
Entries = dict[str, tuple[bytes, Limits]]


class Secrets:
    """The hashes of a file, none when there is no file or nothing in it. True once there has been one: a file that becomes empty lets
    nobody in any more, instead of everybody.

    Raises:
        SecretError: the file can't be used.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._entries: Entries = {}
        self._asked_for = False
        self._seen: tuple[int, ...] | None = None  # how the file was when it was read
        self.refresh()

    def __bool__(self) -> bool:
        return self._asked_for

    def __len__(self) -> int:
        return len(self._entries)

    def refresh(self) -> bool:
        """Read the file again if it has changed since; whether it had.

        Raises:
            SecretError: it can't be used; what was known stays known, and the same state of the file is not complained of again.
        """
        if self._file is None:
            return False
        try:
            now = self._file.stat()
            seen: tuple[int, ...] = (now.st_mtime_ns, now.st_size, now.st_ino)
        except OSError:
            seen = (0,)
        if seen == self._seen:
            return False
        self._seen = seen
        self._entries = _read(self._file)
        self._asked_for = self._asked_for or bool(self._entries)
        return True

    def name(self, secret: str) -> str | None:
        """Whose secret it is, or None; takes the same time wherever it is found or not."""
        given, name = digest(secret), None
        for owner, (known, _) in self._entries.items():
            if hmac.compare_digest(given, known):
                name = owner
        return name

    def names(self) -> list[str]:
        """All owners, in the order of the file."""
        return list(self._entries)

    def hash(self, name: str) -> bytes:
        """What is kept of this owner's secret; empty when nobody has that name."""
        return self._entries[name][0] if name in self._entries else b""

    def limits(self, name: str) -> Limits:
        """What this owner may do."""
        return self._entries[name][1] if name in self._entries else NO_LIMITS


def _read(file: Path) -> Entries:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SecretError(f"{file} can't be read ({reason}); scripts/keys makes it") from None
    found: Entries = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *rest = line.split()
        if not (rest and re.fullmatch(r"[0-9a-f]{64}", rest[0])):
            raise SecretError(f"{file}: line {number} is not a name and a hash; scripts/keys writes such lines")
        found[name] = (bytes.fromhex(rest[0]), _limits(rest[1:], f"{file}: line {number}"))
    return found


def _limits(fields: list[str], place: str) -> Limits:
    """Limits as they stand behind a hash: rpm=60 tpm=10000 concurrent=2, each at most once."""
    known = list(Limits.__dataclass_fields__)
    values: dict[str, int] = {}
    for text in fields:
        field, _, value = text.partition("=")
        if field not in known or field in values:
            raise SecretError(f"{place}: after name and hash come {', '.join(f'{k}=NUMBER' for k in known)}, each at most once")
        if not re.fullmatch(r"[1-9][0-9]{0,8}", value):
            raise SecretError(f"{place}: {field} must be a whole number from 1 to 999999999")
        values[field] = int(value)
    return Limits(**values)


def plain(file: Path | None) -> str:
    """The one secret that a file holds as it is; empty without a file.

    Raises:
        SecretError: it can't be read.
    """
    try:
        return file.read_text(encoding="utf-8").strip() if file else ""
    except OSError as error:
        raise SecretError(f"{file} can't be read ({error.strerror}); scripts/keys makes it") from None


def digest(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def new(prefix: str = "", size: int = 32) -> str:
    """A fresh secret of `size` random bytes."""
    return prefix + secrets.token_urlsafe(size)
