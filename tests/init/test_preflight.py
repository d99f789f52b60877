"""The estimates of disk and memory, against figures of the published models and against what a real run leaves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from services.init import architectures, plan, preflight, sources
from services.init.plan import Figures, Plan
from services.init.verify import Expected
from services.init.volume import Volume
from services.shared import settings
from tests.init.conftest import Init

DEEPSEEK = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 131072,
}
GB = 1_000_000_000


@pytest.fixture
def deepseek(tmp_path: Path) -> tuple[Plan, Figures]:
    source = sources.resolve("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "main", {})
    files = (Expected("config.json", 679, None, "0" * 40), Expected("model.safetensors", 3_554_214_621, "1" * 64))
    model = architectures.model("Qwen2ForCausalLM", DEEPSEEK)
    return Plan(source, tmp_path / "sources/x/y", files, "2" * 40), Figures(model, cell=28 * 1024)


def test_the_default_model_fresh_and_resumed(deepseek: tuple[Plan, Figures]) -> None:
    fresh = preflight.disk(*deepseek, "q4_k_m", 0)
    assert fresh.parts["download"] == 3_554_215_300
    assert 3.55 * GB < fresh.parts["conversion"] < 3.7 * GB and 1.1 * GB < fresh.parts["result"] < 1.2 * GB
    resumed = preflight.disk(*deepseek, "q4_k_m", fresh.parts["conversion"] + GB)
    assert resumed.parts["conversion"] == 0 and resumed.parts["result"] == fresh.parts["result"] - GB
    assert preflight.disk(*deepseek, "bf16", 0).parts["conversion"] == 0


def test_parts_that_are_there_are_not_needed_again(deepseek: tuple[Plan, Figures], tmp_path: Path) -> None:
    before = preflight.disk(*deepseek, "q4_k_m", 0).parts["download"]
    part = tmp_path / "sources/x/parts" / f"{'1' * 64}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1_000_000))
    assert preflight.disk(*deepseek, "q4_k_m", 0).parts["download"] == before - 1_000_000


def test_memory_is_weights_and_the_whole_cache_and_the_store(deepseek: tuple[Plan, Figures]) -> None:
    need = preflight.memory(*deepseek, "q4_k_m", dataclasses.replace(settings.load({}).engine, cells=16384, store=256))
    assert need.parts["KV cache of 16384 cells"] == 16384 * 28672
    assert need.parts["store"] == 256 << 20
    assert 2.1 * GB < need.total < 2.2 * GB
    assert str(need).startswith("2.2 GB (weights 1.1 GB, KV cache of 16384 cells 469.8 MB, store 268.4 MB, computing 300.0 MB)")


def test_figures_of_a_checkpoint_and_of_its_gguf_agree(init: Init, small: Path) -> None:
    init.ready("--model", str(small), "--quant", "q8_0")
    volume = Volume(init.volume)
    of_checkpoint = plan.figures(plan.plan(sources.resolve(str(small), "main", {}), volume))
    of_gguf = plan.figures(plan.plan(sources.resolve(str(init.volume / "current/model.gguf"), "main", {}), volume))
    assert of_checkpoint.cell == of_gguf.cell == 2 * 2 * 16 * 2 * 2
    assert of_gguf.quant == "q8_0" and of_checkpoint.model is not None
    made = init.current.model.size
    estimate = preflight.disk(plan.plan(sources.resolve(str(small), "main", {}), volume), of_checkpoint, "q8_0", 0).parts["result"]
    assert made <= estimate < made + 3_000_000
