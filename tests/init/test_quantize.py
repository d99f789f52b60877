"""Every quant through the real quantizer: progress, the same bytes for any number of threads, and errors in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.init import header
from services.init.convert import convert
from services.init.errors import CorruptFile, InitError, SettingsProblem
from services.init.quantize import FILE_TYPES, gguf_quant, quantize
from services.shared.settings import QUANTS
from tests import checkpoints, vocabularies

CONFIG = checkpoints.LLAMA | {"hidden_size": 256, "intermediate_size": 512}
TYPES = {"q4_0": "Q4_0", "q4_k_m": "Q4_K", "q5_0": "Q5_0", "q5_k_m": "Q5_K", "q6_k": "Q6_K", "q8_0": "Q8_0", "f16": "F16", "bf16": "BF16"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("quantize")
    folder = checkpoints.write(checkpoints.Recipe("tiny", CONFIG, vocabularies.smollm2), work)
    convert(folder, work / "source.gguf", "auto", lambda *_: None)
    return work / "source.gguf"


def test_the_settings_quants_are_known() -> None:
    assert set(FILE_TYPES) == set(QUANTS)


@pytest.mark.parametrize("quant", QUANTS)
def test_every_quant(source: Path, tmp_path: Path, quant: str) -> None:
    steps: list[tuple[int, int, str]] = []
    quantize(source, tmp_path / "part", quant, 2, lambda *step: steps.append(step))
    found = header.read(tmp_path / "part")
    assert found.quant == gguf_quant(tmp_path / "part") == quant
    assert {tensor.name: tensor.type.name for tensor in found.tensors}["blk.0.attn_q.weight"] == TYPES[quant]
    total = len(checkpoints.tensors(CONFIG))
    assert [step[:2] for step in steps] == [(done, total) for done in range(total + 1)]


def test_the_result_does_not_depend_on_threads(source: Path, tmp_path: Path) -> None:
    for threads in (1, 2, 3):
        quantize(source, tmp_path / str(threads), "q4_k_m", threads, lambda *_: None)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == (tmp_path / "3").read_bytes()


def test_the_source_says_what_it_is(source: Path) -> None:
    assert gguf_quant(source) == "bf16"


def test_an_unknown_quant_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsProblem, match="there is no quant 'q3_k'; choose one of q4_0"):
        quantize(source, tmp_path / "part", "q3_k", 1, lambda *_: None)


def test_twice_is_an_error(source: Path, tmp_path: Path) -> None:
    quantize(source, tmp_path / "q8", "q8_0", 1, lambda *_: None)
    with pytest.raises(InitError, match=r"is q8_0 already and can't become q4_0; set \[model\] quant to q8_0"):
        quantize(tmp_path / "q8", tmp_path / "part", "q4_0", 1, lambda *_: None)
    assert not (tmp_path / "part").exists()


def test_no_gguf_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CorruptFile, match="is no GGUF file"):
        quantize(tmp_path / "text", tmp_path / "part", "q4_0", 1, lambda *_: None)


def test_the_librarys_own_words_are_told(source: Path, tmp_path: Path) -> None:
    name = b"general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00"
    (tmp_path / "source").write_bytes(source.read_bytes().replace(name + b"llama", name + b"lamma"))
    with pytest.raises(InitError, match=r"could not be quantized to q4_0: .*unknown model architecture: 'lamma'"):
        quantize(tmp_path / "source", tmp_path / "part", "q4_0", 1, lambda *_: None)


def test_a_full_disk_is_told(source: Path) -> None:
    with pytest.raises(InitError, match=r"could not be quantized to q4_0: writing failed, with .* free on that disk; free some space"):
        quantize(source, Path("/dev/full"), "q4_0", 1, lambda *_: None)
