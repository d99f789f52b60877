"""A GGUF as a small JSON object that can be compared: every tensor's shape, type and SHA-256, every metadata value or its SHA-256.

Reads the header with services/init/header.py, and no more; knows nothing of models.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from services.init.header import Reader

LONG = 64  # characters; a longer text is told by its hash


class _Digester(Reader):
    """A header reader that remembers a hash of every array it skips."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hashes: list[str] = []

    def skip_array(self) -> int:
        start = self.file.tell()
        length = super().skip_array()
        end = self.file.tell()
        self.file.seek(start)
        self.hashes.append(f"array of {length}, {hashlib.sha256(self.file.read(end - start)).hexdigest()}")
        return length


def digest(path: Path) -> dict[str, Any]:
    """`file` (the SHA-256 of all), `metadata` (floats as their exact bits in hex) and `tensors` (shape outermost first) of a GGUF."""
    with open(path, "rb") as file:
        reader = _Digester(file, path)
        header = reader.header()
        file.seek(0)
        metadata: dict[str, Any] = {}
        for key, value in header.values.items():
            if isinstance(value, float):
                value = value.hex()
            elif isinstance(value, str) and len(value) > LONG:
                value = f"text of {len(value)}, {hashlib.sha256(value.encode()).hexdigest()}"
            metadata[key] = value
        metadata.update(zip(header.arrays, reader.hashes, strict=True))
        tensors = {}
        for tensor in header.tensors:
            file.seek(header.data + tensor.offset)
            content, left = hashlib.sha256(), tensor.size
            while left:
                piece = file.read(min(left, 1 << 20))
                content.update(piece)
                left -= len(piece)
            tensors[tensor.name] = f"{list(reversed(tensor.shape))} {tensor.type.name} {content.hexdigest()}"
        file.seek(0)
        return {"file": hashlib.file_digest(file, "sha256").hexdigest(), "metadata": metadata, "tensors": tensors}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The keys under which two digests' tables differ."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
