"""What can be converted, and the sentence for everything that can't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.init import architectures
from services.init.architectures import Model
from services.init.errors import UnsupportedModel
from tests import checkpoints


def model(config: dict[str, Any], **changes: Any) -> Model:
    return architectures.model(config["architectures"][0], config | changes)


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return dict(checkpoints.tensors(config))


@pytest.mark.parametrize("config", [checkpoints.QWEN2, checkpoints.QWEN3, checkpoints.LLAMA], ids=["qwen2", "qwen3", "llama"])
def test_every_tensor_of_a_family_has_a_target(config: dict[str, Any]) -> None:
    found = shapes(config)
    targets = model(config).match(found)
    assert {name: target.shape for name, target in targets.items()} == found
    assert len({target.name for target in targets.values()}) == len(found)


def test_only_llama_permutes_and_only_queries_and_keys() -> None:
    targets = model(checkpoints.LLAMA, attention_bias=True).match(shapes(checkpoints.LLAMA | {"attention_bias": True}))
    heads = {target.name: target.heads for target in targets.values() if target.heads}
    assert heads == {
        **{f"blk.{block}.attn_q.{part}": 4 for block in (0, 1) for part in ("weight", "bias")},
        **{f"blk.{block}.attn_k.{part}": 2 for block in (0, 1) for part in ("weight", "bias")},
    }
    assert not any(target.heads for target in model(checkpoints.QWEN2).match(shapes(checkpoints.QWEN2)).values())


def test_the_head_size_comes_from_the_config_or_is_derived() -> None:
    assert model(checkpoints.QWEN3).head_dim == 32
    assert model({key: value for key, value in checkpoints.QWEN3.items() if key != "head_dim"}).head_dim == 128
    assert model(checkpoints.LLAMA).head_dim == 16
    assert (model(checkpoints.QWEN2).head_dim, model(checkpoints.QWEN2).head_size) == (None, 16)


def test_inverse_frequencies_in_old_checkpoints_are_left_out() -> None:
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": (8,)}
    assert model(checkpoints.LLAMA).match(shapes(checkpoints.LLAMA) | extra).keys() == shapes(checkpoints.LLAMA).keys()


def test_rope_factors_keep_short_waves_and_stretch_long_ones() -> None:
    found = model(checkpoints.LLAMA, rope_scaling=checkpoints.LLAMA3_ROPE, rope_theta=500000.0, head_dim=128).rope_factors()
    assert found is not None
    assert (found.shape, found.dtype, found[0], found[-1]) == ((64,), np.float32, 1, 8)
    assert (np.diff(found) >= 0).all()
    assert model(checkpoints.LLAMA).rope_factors() is None


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"architectures": ["GPTBigCodeForCausalLM"]}, "GPTBigCodeForCausalLM can't be converted; supported are Qwen2ForCausalLM, Qwen3"),
    ({"architectures": ["Qwen3MoeForCausalLM"]}, "Qwen3MoeForCausalLM can't be converted"),
    ({"num_local_experts": 8}, r"a mixture of 8 experts \(num_local_experts\)"),
    ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"quantized already \(quant_method gptq\)"),
    ({"quantization_config": {"quant_method": "awq"}}, "quant_method awq"),
    ({"quantization_config": {"quant_method": "fp8"}}, "quant_method fp8"),
    ({"quantization_config": {"load_in_4bit": True}}, "quant_method unknown"),
    ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rope scaling 'longrope' can't be converted for qwen2; supported are"),
    ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope scaling 'dynamic'"),
    ({"rope_scaling": checkpoints.LLAMA3_ROPE}, "rope scaling 'llama3' can't be converted for qwen2"),
    (
        {"rope_scaling": {"type": "yarn", "factor": 2.0}},
        "rope_scaling.original_max_position_embeddings must be a positive number, found None",
    ),
    ({"rope_scaling": {"type": "linear", "factor": "2"}}, "rope_scaling.factor must be a positive number, found '2'"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "per-layer or multimodal rope parameters"),
    ({"rope_theta": float("nan")}, "rope_theta must be a positive number"),
    ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not what llama.cpp computes"),
    ({"hidden_size": "64"}, "hidden_size must be a positive whole number, found '64'"),
    ({"hidden_size": 65}, "hidden_size 65 is not divisible by num_attention_heads 4"),
    ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive whole number"),
    ({"num_hidden_layers": True}, "num_hidden_layers must be a positive whole number, found True"),
    ({"head_dim": 17}, "a head_dim of 17 is not 64 / 4"),
    ({"num_key_value_heads": 3}, "4 heads of size 16 do not go with 3 key-value heads"),
    ({"vocab_size": None}, "vocab_size must be a positive whole number, found None"),
]


@pytest.mark.parametrize(("changes", "message"), UNSUPPORTED, ids=[message[:30] for _, message in UNSUPPORTED])
def test_what_is_unsupported_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        model(checkpoints.QWEN2 | changes)


MISFITS: list[tuple[dict[str, tuple[int, ...] | None], str]] = [
    ({"model.layers.0.self_attn.q_proj.qweight": (8, 8)}, r"quantized weights \(GPTQ, AWQ, FP8 or bitsandbytes\)"),
    ({"model.layers.0.self_attn.q_proj.weight_scale_inv": (1, 1)}, "quantized weights"),
    ({"model.layers.0.self_attn.q_proj.weight.absmax": (8,)}, "quantized weights"),
    ({"model.layers.0.mlp.experts.0.up_proj.weight": (8, 8)}, "this is a mixture of experts"),
    ({"model.layers.0.self_attn.q_proj.lora_A.weight": (8, 8)}, "these are LoRA weights"),
    ({"model.layers.2.input_layernorm.weight": (64,)}, r"unexpected tensors: model\.layers\.2\.input_layernorm\.weight; supported"),
    ({"model.layers.1.mlp.up_proj.weight": None}, r"the weights lack model\.layers\.1\.mlp\.up_proj\.weight, which a qwen2 model"),
    ({"lm_head.weight": None}, "the weights lack lm_head.weight"),
    ({"model.norm.weight": (65,)}, r"model\.norm\.weight has the shape \(65,\), config\.json says \(64,\)"),
]


@pytest.mark.parametrize(("changes", "message"), MISFITS, ids=[next(iter(changes)) for changes, _ in MISFITS])
def test_tensors_that_do_not_fit_are_named(changes: dict[str, tuple[int, ...] | None], message: str) -> None:
    found = {name: shape for name, shape in (shapes(checkpoints.QWEN2) | changes).items() if shape}
    with pytest.raises(UnsupportedModel, match=message):
        model(checkpoints.QWEN2).match(found)
