"""Secrets at rest: files of hashes, one `name sha256` a line, in which a secret is looked for in constant time.

The secrets are random, 128 bits or more (scripts/keys), so a plain hash can't be guessed back. Never logs or keeps a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path


class SecretError(ValueError):
    """A file of secrets can't be read or is not one. The message holds nothing of its content."""


class Secrets:
    """The hashes of a file; empty when there is no file or nothing in it."""

    def __init__(self, file: Path | None) -> None:
        self._hashes: dict[str, bytes] = {}
        if file is None:
            return
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SecretError(f"{file} can't be read ({error.strerror}); scripts/keys makes it") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if not (found := re.fullmatch(r"(\S+) ([0-9a-f]{64})", line.strip())):
                raise SecretError(f"{file}: line {number} is not a name and a hash; scripts/keys writes such lines")
            self._hashes[found[1]] = bytes.fromhex(found[2])

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def name(self, secret: str) -> str | None:
        """Whose secret it is, or None; takes the same time wherever it is found or not."""
        given, name = digest(secret), None
        for owner, known in self._hashes.items():
            if hmac.compare_digest(given, known):
                name = owner
        return name


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
