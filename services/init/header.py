"""The header of a GGUF file, read without trust: metadata, tensor names, shapes and types, and whether the data can all be there.

Owns the GGUF format as far as reading goes (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Arrays are skipped, only
their lengths are kept. Every length is checked before it is used, so a crafted file costs no memory.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from services.init.errors import CorruptFile

Value = int | float | bool | str

MAGIC, VERSIONS = b"GGUF", (2, 3)
STRING, ARRAY = 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
MAX_STRING = 64 << 20
MAX_NAME = 64  # ggml's limit for tensor names
MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as the header describes it; `shape` is innermost first, `offset` counts from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int

    @property
    def size(self) -> int:
        """Bytes of its data."""
        block: int
        size: int
        block, size = GGML_QUANT_SIZES[self.type]
        return prod(self.shape) // block * size


@dataclass(frozen=True)
class Header:
    """A GGUF's scalar metadata by key, the lengths of its arrays by key, its tensors, and the byte at which their data begin."""

    values: dict[str, Value]
    arrays: dict[str, int]
    tensors: list[TensorInfo]
    data: int

    @property
    def quant(self) -> str:
        """How the file is quantized, as in `[model] quant`: q4_k_m, f16, ...; `unknown` when it does not say."""
        number = self.values.get("general.file_type")
        try:
            name: str = LlamaFileType(number if isinstance(number, int) else -1).name
        except ValueError:
            return "unknown"
        return name.removeprefix("MOSTLY_").removeprefix("ALL_").lower()


def read(path: Path) -> Header:
    """Read a GGUF's header.

    Raises:
        CorruptFile: not a GGUF, a version or type that nobody knows, or cut short.
    """
    try:
        with open(path, "rb") as file:
            return Reader(file, path).header()
    except FileNotFoundError:
        raise CorruptFile(f"{path}: no such file") from None


class Reader:
    """Reads a header from an open file, from its start; every method takes the next thing."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.total = os.fstat(file.fileno()).st_size

    def header(self) -> Header:
        if (magic := self.file.read(4)) != MAGIC:
            raise CorruptFile(f"{self.path} is no GGUF file: it starts with {magic!r} instead of {MAGIC!r}")
        version = self.number("<I")
        if version not in VERSIONS:
            raise self.broken(f"it says version {version}; known are {' and '.join(map(str, VERSIONS))}")
        tensor_count, value_count = self.count(24), self.count(13)
        values: dict[str, Value] = {}
        arrays: dict[str, int] = {}
        for _ in range(value_count):
            key = self.string()
            kind = self.number("<I")
            if kind == ARRAY:
                arrays[key] = self.skip_array()
            else:
                values[key] = self.scalar(kind)
        tensors = [self.tensor() for _ in range(tensor_count)]
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise self.broken(f"its alignment is {alignment!r}")
        data = -(-self.file.tell() // alignment) * alignment
        end = max((data + tensor.offset + tensor.size for tensor in tensors), default=0)
        if end > self.total:
            raise self.broken(f"its tensors end at byte {end}, the file at {self.total}")
        return Header(values, arrays, tensors, data)

    def tensor(self) -> TensorInfo:
        name = self.string(MAX_NAME)
        dimensions = self.number("<I")
        if dimensions > MAX_DIMENSIONS:
            raise self.broken(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(int(self.number("<Q")) for _ in range(int(dimensions)))
        kind, offset = self.number("<I"), self.number("<Q")
        try:
            info = TensorInfo(name, shape, GGMLQuantizationType(kind), int(offset))
        except ValueError:
            raise self.broken(f"tensor {name!r} has the unknown type {kind}") from None
        if prod(shape) >= 1 << 63:
            raise self.broken(f"tensor {name!r} has the shape {shape}")
        return info

    def scalar(self, kind: int | float) -> Value:
        if kind == STRING:
            return self.string()
        if kind not in SCALARS:
            raise self.broken(f"a value has the unknown type {kind}")
        return self.number(SCALARS[int(kind)])

    def skip_array(self) -> int:
        kind = self.number("<I")
        if kind == STRING:
            length = self.count(8)
            for _ in range(length):
                self.skip(int(self.number("<Q")))
            return length
        if kind not in SCALARS:
            raise self.broken(f"an array has the unknown type {kind}")
        size = struct.calcsize(SCALARS[int(kind)])
        length = self.count(size)
        self.skip(length * size)
        return length

    def count(self, least: int) -> int:
        """A number of things of at least `least` bytes each: no more than the file could hold."""
        found = int(self.number("<Q"))
        if found * least > self.total:
            raise self.broken(f"it promises {found} entries and has {self.total} bytes")
        return found

    def string(self, most: int = MAX_STRING) -> str:
        length = int(self.number("<Q"))
        if length > min(most, self.total):
            raise self.broken(f"it has a string of {length} bytes")
        return self.take(length).decode("utf-8", "replace")

    def number(self, layout: str) -> int | float:
        found: int | float = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return found

    def take(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) != size:
            raise self.broken("its header is cut off")
        return data

    def skip(self, size: int) -> None:
        if size > self.total - self.file.tell():
            raise self.broken("its header is cut off")
        self.file.seek(size, os.SEEK_CUR)

    def broken(self, what: str) -> CorruptFile:
        return CorruptFile(f"{self.path} is not a whole GGUF: {what}; get the file again")
