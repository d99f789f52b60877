"""A GGUF's header is read without trust: what is there is told, what is damaged is an error, never a crash or a heap of memory."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from services.init import header
from services.init.errors import CorruptFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_float32("a.float", 0.5)
    writer.add_bool("a.bool", True)
    writer.add_array("a.texts", ["one", "two", "three"])
    writer.add_array("a.numbers", [1, 2])
    writer.add_tensor("matrix", np.ones((3, 4), np.float32))
    writer.add_tensor("vector", np.ones(5, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "small.gguf"


def test_what_is_there(path: Path) -> None:
    found = header.read(path)
    assert found.values == {"general.architecture": "llama", "general.file_type": 15, "a.float": 0.5, "a.bool": True}
    assert found.arrays == {"a.texts": 3, "a.numbers": 2}
    assert [(tensor.name, tensor.shape, tensor.type.name, tensor.size) for tensor in found.tensors] == [
        ("matrix", (4, 3), "F32", 48),
        ("vector", (5,), "F16", 10),
    ]
    assert found.quant == "q4_k_m"
    assert path.read_bytes()[found.data : found.data + 4] == struct.pack("<f", 1)


def test_a_file_without_a_type_is_unknown() -> None:
    assert header.Header({}, {}, [], 0).quant == "unknown"
    assert header.Header({"general.file_type": 999}, {}, [], 0).quant == "unknown"
    assert header.Header({"general.file_type": 0}, {}, [], 0).quant == "f32"


def test_a_file_without_tensors_needs_no_padding(tmp_path: Path) -> None:
    """Vocabularies without a model, as llama.cpp ships them, end with the header."""
    writer = gguf.GGUFWriter(tmp_path / "vocabulary.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert header.read(tmp_path / "vocabulary.gguf").tensors == []


def test_no_file_and_no_gguf(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match="no such file"):
        header.read(tmp_path / "nothing")
    (tmp_path / "empty").touch()
    with pytest.raises(CorruptFile, match="is no GGUF file: it starts with b''"):
        header.read(tmp_path / "empty")


def test_every_cut_is_found(path: Path) -> None:
    data = path.read_bytes()
    for size in range(len(data) - 32):  # the last bytes are padding
        path.write_bytes(data[:size])
        with pytest.raises(CorruptFile):
            header.read(path)


def test_flipped_bits_are_read_or_refused(path: Path) -> None:
    data, chance = path.read_bytes(), random.Random(0)
    end = header.read(path).data
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        damaged[chance.randrange(end)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            header.read(path)
        except CorruptFile:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [(4, "<I", "it says version"), (8, "<Q", "it promises"), (16, "<Q", "it promises"), (24, "<Q", "it has a string of")],
)
def test_lengths_beyond_the_file_are_refused(path: Path, at: int, value: str, message: str) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(value, data, at, (1 << 8 * struct.calcsize(value)) - 1)
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=message):
        header.read(path)
