"""Estimates are a little above what really comes out."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.init import architectures, sizes
from services.init.convert import convert
from services.init.quantize import quantize
from tests import checkpoints, vocabularies

CONFIG = checkpoints.LLAMA | {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6}
# Bits a weight by llama.cpp's quantizer (dry run), for shapes of published models.
DISTILL = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12}
SMALL = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "tie_word_embeddings": True}
MEASURED = [
    (DISTILL, 1_777_088_000, {"q4_0": 4.77, "q4_k_m": 5.00, "q5_0": 5.64, "q5_k_m": 5.76, "q6_k": 6.56, "q8_0": 8.50, "f16": 16.0}),
    (SMALL, 494_032_768, {"q4_0": 5.61, "q4_k_m": 6.35, "q5_0": 6.33, "q5_k_m": 6.71, "q6_k": 8.09, "q8_0": 8.50, "f16": 16.0}),
]


@pytest.mark.parametrize(("shape", "count", "bits"), MEASURED, ids=["1.5B", "0.5B"])
def test_published_models(shape: dict[str, int], count: int, bits: dict[str, float]) -> None:
    model = architectures.model("Qwen2ForCausalLM", checkpoints.QWEN2 | shape)
    assert sizes.parameters(model) == count
    for quant, measured in bits.items():
        truth = measured * count / 8
        assert truth < sizes.size_estimate(model, quant) < 1.1 * truth
        assert truth < sizes.size_estimate(count, quant) < 1.4 * truth


def test_a_file_that_is_made(tmp_path: Path) -> None:
    folder = checkpoints.write(checkpoints.Recipe("tiny", CONFIG, vocabularies.smollm2), tmp_path)
    model = architectures.model("LlamaForCausalLM", CONFIG)
    convert(folder, tmp_path / "source", "bf16", lambda *_: None)
    assert (tmp_path / "source").stat().st_size < sizes.size_estimate(model, "bf16")
    for quant in ("q4_0", "q5_k_m", "q8_0"):
        quantize(tmp_path / "source", tmp_path / "part", quant, 2, lambda *_: None)
        assert (tmp_path / "part").stat().st_size < sizes.size_estimate(model, quant) < 1.35 * (tmp_path / "part").stat().st_size


def test_memory_is_what_the_largest_step_takes() -> None:
    assert sizes.memory_estimate(10) == sizes.QUANTIZE_MEMORY
    assert sizes.memory_estimate(5_000_000_000) == 5_000_000_000 + sizes.CHECK_MEMORY
