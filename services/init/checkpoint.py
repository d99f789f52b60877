"""A Hugging Face checkpoint folder: its JSON files, and its safetensors as tensors that are read only when asked.

Owns the safetensors format and what makes a folder complete. Does not know what a tensor is for, nor GGUF. Pickles
(pytorch_model.bin) are never opened. Safetensors: eight bytes little-endian header length, a JSON header, then the data
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from services.init.errors import CorruptFile, SourceError, UnsupportedModel

INDEX = "model.safetensors.index.json"
MAX_HEADER = 100_000_000  # the format's own limit, bytes
ITEM_SIZES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 1),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor in a safetensors file. `dtype` is the format's name (BF16, F16, F32, ...), `offset` counts from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    size: int

    @property
    def elements(self) -> int:
        return prod(self.shape)

    def chunks(self, buffer: bytearray, unit: int = 1) -> Iterator[memoryview]:
        """The tensor's bytes in order, each piece a view into `buffer`, valid until the next; pieces are multiples of `unit` bytes.

        Plain reads, not a memory map: mapped pages would count as this process's memory.

        Raises:
            CorruptFile: the file ended early.
        """
        step = len(buffer) // unit * unit
        if step == 0:
            raise ValueError(f"a buffer of {len(buffer)} bytes holds no unit of {unit} bytes")
        view = memoryview(buffer)
        left = self.size
        with open(self.file, "rb", buffering=0) as file:
            file.seek(self.offset)
            while left:
                piece = view[: min(step, left)]
                filled = 0
                while filled < len(piece):
                    count = file.readinto(piece[filled:])
                    if not count:
                        raise CorruptFile(f"{self.file}: the file ended inside of tensor {self.name}; get the file again")
                    filled += count
                yield piece
                left -= len(piece)


class Checkpoint:
    """An opened checkpoint: every header is read and checked, no weights are.

    Attributes:
        folder: where it lies.
        config: config.json.
        architecture: the first of its `architectures`.
        generation_config: generation_config.json, empty when there is none or it is not valid (some authors ship it broken).
        tokenizer_config: tokenizer_config.json, or None when there is none.
        tensors: all tensors by name; shards in the order of their names, tensors in the order of theirs.

    Raises:
        SourceError: not a checkpoint, or files are missing.
        CorruptFile: a file can't be read as what it should be.
        UnsupportedModel: config.json names no architecture.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SourceError(f"{folder} is not a folder; name a folder with config.json, tokenizer.json and *.safetensors")
        self.folder = folder
        self.config = read_json(folder / "config.json")
        names = self.config.get("architectures")
        if not isinstance(names, list) or not names or not isinstance(names[0], str):
            raise UnsupportedModel(
                f"{folder / 'config.json'} names no architectures (found {names!r}), so nobody can tell how the model computes; "
                "get the model's original config.json, or use a ready GGUF"
            )
        self.architecture: str = names[0]
        self.generation_config: dict[str, Any] = {}
        if (folder / "generation_config.json").is_file():
            with suppress(CorruptFile):
                self.generation_config = read_json(folder / "generation_config.json")
        self.tokenizer_config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else None
        self.tensors = _tensors(folder)

    @cached_property
    def tokenizer_text(self) -> str:
        """tokenizer.json as text (several MB)."""
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            other = [name for name in ("tokenizer.model", "vocab.json") if (self.folder / name).is_file()]
            found = f"only {' and '.join(other)}" if other else "no tokenizer at all"
            raise UnsupportedModel(
                f"{self.folder} has no tokenizer.json, {found}; byte-level BPE in tokenizer.json is supported: "
                "save the tokenizer with a current version of transformers, or use a ready GGUF of this model"
            )
        return _text(path)

    @property
    def chat_template(self) -> str | list[Any] | None:
        """The chat template, or a list of named ones, or None.

        From tokenizer_config.json, else chat_template.jinja (with additional_chat_templates/*.jinja), else chat_template.json:
        the order of llama.cpp's converter.
        """
        found: object = None
        jinja = self.folder / "chat_template.jinja"
        old = self.folder / "chat_template.json"
        if self.tokenizer_config is not None and "chat_template" in self.tokenizer_config:
            found = self.tokenizer_config["chat_template"]
        elif jinja.is_file():
            found = _text(jinja)
            if more := sorted((self.folder / "additional_chat_templates").glob("*.jinja")):
                found = [{"name": "default", "template": found}, *({"name": p.stem, "template": _text(p)} for p in more)]
        elif old.is_file():
            found = read_json(old).get("chat_template")
        return found if isinstance(found, (str, list)) else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        SourceError: there is none.
        CorruptFile: it is not JSON, or not an object.
    """
    try:
        data = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise CorruptFile(f"{path} is not valid JSON: {error}; get the file again") from None
    if not isinstance(data, dict):
        raise CorruptFile(f"{path} must hold a JSON object, found {type(data).__name__}; get the file again")
    return data


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SourceError(f"{path.parent} has no {path.name}, so it is no complete Hugging Face checkpoint; get that file too") from None
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{path} is not UTF-8 text: {error}; get the file again") from None


def _tensors(folder: Path) -> dict[str, Tensor]:
    weight_map = _weight_map(folder / INDEX)
    shards = sorted(set(weight_map.values())) if weight_map else _shards(folder)
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise SourceError(f"{folder} lacks {len(missing)} of {len(shards)} weight files: {_some(missing)}; get the missing files")
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        for tensor in sorted(_header(folder / shard), key=lambda tensor: tensor.name):
            if tensor.name in tensors:
                both = f"{tensors[tensor.name].file.name} and in {shard}"
                raise CorruptFile(f"{folder}: tensor {tensor.name} is both in {both}; remove the wrong file")
            tensors[tensor.name] = tensor
    if weight_map and weight_map.keys() != tensors.keys():
        lost, extra = sorted(weight_map.keys() - tensors.keys()), sorted(tensors.keys() - weight_map.keys())
        told = f"the files lack {_some(lost)}" if lost else f"the files also hold {_some(extra)}"
        raise CorruptFile(f"{folder / INDEX} and the weight files do not fit together: {told}; get index and weights of one revision")
    return tensors


def _weight_map(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    found = read_json(path).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) and Path(name).name == name for name in found.values()):
        raise CorruptFile(f"{path} has no weight_map from tensors to file names beside it; get the file again")
    return found


def _shards(folder: Path) -> list[str]:
    """The weight files of a folder without an index."""
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    names = sorted(path.name for path in folder.glob("model*.safetensors"))
    if names and (numbered := re.fullmatch(r"model-\d+-of-(\d+)\.safetensors", names[0])):
        total = numbered[1]
        return [f"model-{number:05d}-of-{total}.safetensors" for number in range(1, int(total) + 1)]
    if not names:
        pickles = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
        why = f"only {_some(pickles)}, and pickles are never opened because they can run code" if pickles else "no weights"
        raise SourceError(f"{folder} holds no model*.safetensors, {why}; use a revision with safetensors, or a ready GGUF")
    return names


def _header(path: Path) -> list[Tensor]:
    """The tensors of one safetensors file, checked against the format: in range, without holes or overlaps, of the right sizes."""

    def broken(what: str) -> CorruptFile:
        return CorruptFile(f"{path} is not a whole safetensors file: {what}; get the file again")

    total = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise broken(f"it has {total} bytes")
        (length,) = struct.unpack("<Q", start)
        if length > MAX_HEADER or 8 + length > total:
            raise broken(f"its header should have {length} bytes, the file has {total}")
        try:
            header = json.loads(file.read(length).decode("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise broken(f"its header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise broken("its header is no JSON object")
    tensors = [_entry(path, name, entry, 8 + length, broken) for name, entry in header.items() if name != "__metadata__"]
    for tensor in tensors:
        if tensor.offset + tensor.size > total:
            raise broken(f"tensor {tensor.name} ends at byte {tensor.offset + tensor.size}, the file at {total}")
    end = 8 + length
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset != end:
            raise broken(f"tensor {tensor.name} starts at byte {tensor.offset} instead of {end}")
        end += tensor.size
    if end != total:
        raise broken(f"its tensors end at byte {end}, the file at {total}")
    return tensors


def _entry(path: Path, name: str, entry: object, data: int, broken: Any) -> Tensor:
    try:
        assert isinstance(entry, Mapping)
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        assert isinstance(dtype, str) and isinstance(shape, list)
        assert all(type(number) is int and number >= 0 for number in (*shape, begin, end)) and begin <= end
    except (AssertionError, KeyError, TypeError, ValueError):
        raise broken(f"tensor {name} is described by {str(entry)[:100]}") from None
    if dtype not in ITEM_SIZES:
        raise UnsupportedModel(f"{path}: tensor {name} has the type {dtype}; supported are BF16, F16 and F32: use a ready GGUF")
    if prod(shape) * ITEM_SIZES[dtype] != end - begin:
        raise broken(f"tensor {name} of shape {shape} and type {dtype} has {end - begin} bytes")
    return Tensor(name, dtype, tuple(shape), path, data + begin, end - begin)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
