"""A finished file is checked in a child process: good ones tell their facts, bad ones one sentence, and none takes this process down."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from services.init import check as checking
from services.init import header
from services.init.check import Facts, check
from services.init.convert import convert
from services.init.errors import CheckFailed
from services.init.quantize import quantize
from tests import checkpoints, vocabularies

TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("check")

    def tokenizer() -> vocabularies.Files:
        files = vocabularies.smollm2()
        return {**files, "tokenizer_config.json": {**files["tokenizer_config.json"], "chat_template": TEMPLATE}}

    folder = checkpoints.write(checkpoints.Recipe("tiny", checkpoints.LLAMA, tokenizer), work)
    convert(folder, work / "f16.gguf", "f16", lambda *_: None)
    quantize(work / "f16.gguf", work / "good.gguf", "q8_0", 2, lambda *_: None)
    return work / "good.gguf"


def test_a_good_file_tells_its_facts(good: Path) -> None:
    parameters = sum(int(tensor.size) for tensor in _sized(good))
    assert check(good, 2) == Facts("llama", parameters, 8192, TEMPLATE, "<|im_start|>", "<|im_end|>", "q8_0")


def _sized(path: Path) -> list[header.TensorInfo]:
    """Tensors as if of one byte an element."""
    return [header.TensorInfo(t.name, t.shape, header.GGMLQuantizationType.I8, 0) for t in header.read(path).tensors]


def test_a_qwen_tokenizer_round_trips_too(tmp_path: Path) -> None:
    folder = checkpoints.write(checkpoints.Recipe("tiny", checkpoints.QWEN3, lambda: vocabularies.qwen2(thinking=True)), tmp_path)
    convert(folder, tmp_path / "part", "f16", lambda *_: None)
    assert check(tmp_path / "part", 2).eos_token == "<|im_end|>"


def altered(good: Path, tmp_path: Path, old: bytes, new: bytes) -> Path:
    data = good.read_bytes()
    assert data.count(old) == 1
    (tmp_path / "bad.gguf").write_bytes(data.replace(old, new))
    return tmp_path / "bad.gguf"


def text(key: bytes, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value


def test_not_a_gguf(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CheckFailed, match=r"is no GGUF file: it starts with b'hell'"):
        check(tmp_path / "text", 1)


def test_a_truncated_file(good: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(good.read_bytes()[:-1000])
    with pytest.raises(CheckFailed, match="its tensors end at byte"):
        check(tmp_path / "cut.gguf", 1)


def test_what_the_library_says_is_told(good: Path, tmp_path: Path) -> None:
    bad = altered(good, tmp_path, text(b"general.architecture", b"llama"), text(b"general.architecture", b"lamma"))
    with pytest.raises(CheckFailed, match=r"can't load it: .*unknown model architecture: 'lamma'"):
        check(bad, 1)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    recipe = checkpoints.Recipe("tiny", checkpoints.LLAMA, vocabularies.smollm2, dtype="F32", extremes=True)
    convert(checkpoints.write(recipe, tmp_path), tmp_path / "part", "f32", lambda *_: None)
    with pytest.raises(CheckFailed, match=r"can't load it: |NaN or infinite logits"):
        check(tmp_path / "part", 1)


def test_a_crash_of_native_code_is_told_by_its_signal(good: Path, tmp_path: Path) -> None:
    """A matrix said to be of whole numbers: nothing in the header is wrong, and llama.cpp has no code for it."""
    halves, whole = header.GGMLQuantizationType.F16, header.GGMLQuantizationType.I16
    name = struct.pack("<Q", len("blk.0.ffn_up.weight")) + b"blk.0.ffn_up.weight" + struct.pack("<IQQ", 2, 64, 96)
    bad = altered(good.with_name("f16.gguf"), tmp_path, name + struct.pack("<I", halves), name + struct.pack("<I", whole))
    with pytest.raises(CheckFailed, match=r"llama\.cpp crashed on it with SIG\w+; the file is corrupt or made to harm"):
        check(bad, 1)


def test_a_check_that_takes_too_long_is_ended(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "SECONDS", 0.01)
    monkeypatch.setattr(checking, "BYTES_A_SECOND", 1e12)
    with pytest.raises(CheckFailed, match="did not load and write 8 tokens within 0 seconds"):
        check(good, 1)


def test_flipped_bytes_in_the_header_never_reach_this_process(good: Path, tmp_path: Path) -> None:
    data, chance = good.read_bytes(), random.Random(2)
    end = 3000  # the values before the vocabulary
    for _ in range(12):
        damaged = bytearray(data)
        for _ in range(4):
            damaged[chance.randrange(24, end)] ^= 0xFF
        (tmp_path / "bad.gguf").write_bytes(damaged)
        with pytest.raises(CheckFailed):
            check(tmp_path / "bad.gguf", 1)
