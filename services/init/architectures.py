"""The model families that can be converted: which tensors they have, of what shape, under what GGUF name, and their figures.

Owns the facts of Qwen2, Qwen3 (dense) and Llama: names in a Hugging Face checkpoint and in GGUF, defaults of config.json
(those of transformers 4.57), rope scaling. Knows nothing of files or bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from services.init.errors import UnsupportedModel

WAY_OUT = "use a ready GGUF of this model ([model] name = owner/repo:file.gguf, or the path of a .gguf file)"

# Dimensions of a tensor by name; see Model.dimensions.
Shape = tuple[str, ...]

_OUTSIDE: dict[str, tuple[str, Shape]] = {
    "model.embed_tokens.weight": ("token_embd.weight", ("vocab", "hidden")),
    "model.norm.weight": ("output_norm.weight", ("hidden",)),
    "lm_head.weight": ("output.weight", ("vocab", "hidden")),
}
_LAYER: dict[str, tuple[str, Shape]] = {
    "input_layernorm.weight": ("attn_norm.weight", ("hidden",)),
    "self_attn.q_proj.weight": ("attn_q.weight", ("query", "hidden")),
    "self_attn.k_proj.weight": ("attn_k.weight", ("key", "hidden")),
    "self_attn.v_proj.weight": ("attn_v.weight", ("key", "hidden")),
    "self_attn.o_proj.weight": ("attn_output.weight", ("hidden", "query")),
    "post_attention_layernorm.weight": ("ffn_norm.weight", ("hidden",)),
    "mlp.gate_proj.weight": ("ffn_gate.weight", ("inner", "hidden")),
    "mlp.up_proj.weight": ("ffn_up.weight", ("inner", "hidden")),
    "mlp.down_proj.weight": ("ffn_down.weight", ("hidden", "inner")),
}
_QKV_BIAS: dict[str, tuple[str, Shape]] = {
    "self_attn.q_proj.bias": ("attn_q.bias", ("query",)),
    "self_attn.k_proj.bias": ("attn_k.bias", ("key",)),
    "self_attn.v_proj.bias": ("attn_v.bias", ("key",)),
}
_OTHER_BIAS: dict[str, tuple[str, Shape]] = {
    "self_attn.o_proj.bias": ("attn_output.bias", ("hidden",)),
    "mlp.gate_proj.bias": ("ffn_gate.bias", ("inner",)),
    "mlp.up_proj.bias": ("ffn_up.bias", ("inner",)),
    "mlp.down_proj.bias": ("ffn_down.bias", ("hidden",)),
}
_QK_NORM: dict[str, tuple[str, Shape]] = {
    "self_attn.q_norm.weight": ("attn_q_norm.weight", ("head",)),
    "self_attn.k_norm.weight": ("attn_k_norm.weight", ("head",)),
}


@dataclass(frozen=True)
class Family:
    """One family. `gguf` is its name there; `layer` and `optional` are the tensors of a layer that it must or may have.

    `permutes`: Hugging Face stores Q and K with the two halves of each rotary pair apart, llama.cpp's llama wants them side by
    side. `head_dim` is the head size when config.json has none: a number, "derived" from hidden size and heads, or None where
    llama.cpp knows no other than the derived one. `tokenizer` is the tokenizer class when none is named.
    """

    gguf: str
    layer: Mapping[str, tuple[str, Shape]]
    optional: Mapping[str, tuple[str, Shape]]
    permutes: bool
    head_dim: int | str | None
    context: int
    rope_types: tuple[str, ...]
    tokenizer: str


FAMILIES: dict[str, Family] = {
    "Qwen2ForCausalLM": Family("qwen2", {**_LAYER, **_QKV_BIAS}, {}, False, None, 32768, ("default", "linear", "yarn"), "Qwen2Tokenizer"),
    "Qwen3ForCausalLM": Family(
        "qwen3", {**_LAYER, **_QK_NORM}, _QKV_BIAS, False, 128, 32768, ("default", "linear", "yarn"), "Qwen2Tokenizer"
    ),
    "LlamaForCausalLM": Family(
        "llama", _LAYER, {**_QKV_BIAS, **_OTHER_BIAS}, True, "derived", 2048, ("default", "linear", "yarn", "llama3"), "LlamaTokenizer"
    ),
}


@dataclass(frozen=True)
class Target:
    """What a checkpoint's tensor becomes: its GGUF name, its shape, and with `heads` > 0 the heads whose rows are permuted."""

    name: str
    shape: tuple[int, ...]
    heads: int = 0


@dataclass(frozen=True)
class Model:
    """The figures of one model, from its config.json. `head_dim` is None where GGUF shall not name it."""

    family: Family
    blocks: int
    context: int
    hidden: int
    inner: int
    heads: int
    key_heads: int
    head_dim: int | None
    vocab: int
    epsilon: float
    tied: bool
    rope_base: float
    rope: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head_size(self) -> int:
        """Elements of one attention head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def dimensions(self) -> dict[str, int]:
        return {
            "vocab": self.vocab,
            "hidden": self.hidden,
            "inner": self.inner,
            "query": self.heads * self.head_size,
            "key": self.key_heads * self.head_size,
            "head": self.head_size,
        }

    def targets(self) -> tuple[dict[str, Target], set[str]]:
        """All tensors that this model may have, by their checkpoint name, and the names of those that may be missing."""
        targets, optional = {}, set()
        for name, (gguf, shape) in _OUTSIDE.items():
            targets[name] = self._target(gguf, shape)
        if self.tied:
            optional.add("lm_head.weight")
        for block in range(self.blocks):
            for name, (gguf, shape) in (*self.family.layer.items(), *self.family.optional.items()):
                targets[f"model.layers.{block}.{name}"] = self._target(f"blk.{block}.{gguf}", shape)
            optional.update(f"model.layers.{block}.{name}" for name in self.family.optional)
        return targets, optional

    def _target(self, name: str, shape: Shape) -> Target:
        heads = 0
        if self.family.permutes:
            heads = {"attn_q": self.heads, "attn_k": self.key_heads}.get(name.rsplit(".", 2)[-2], 0)
        return Target(name, tuple(self.dimensions[dimension] for dimension in shape), heads)

    def match(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Target]:
        """Tell every tensor of a checkpoint what it becomes; those that carry nothing (rotary_emb.inv_freq) are left out.

        Raises:
            UnsupportedModel: a tensor is missing, unknown, or of another shape than config.json says.
        """
        targets, optional = self.targets()
        wanted = {name: shape for name, shape in shapes.items() if not name.endswith(".rotary_emb.inv_freq")}
        unknown = [name for name in wanted if name not in targets]
        if unknown:
            raise UnsupportedModel(f"{_reason(unknown)}: {_list(unknown)}; {self._supported()}; {WAY_OUT}")
        missing = [name for name in targets if name not in wanted and name not in optional]
        if missing:
            raise UnsupportedModel(
                f"the weights lack {_list(missing)}, which a {self.family.gguf} model with {self.blocks} layers must have; "
                f"check config.json (num_hidden_layers, tie_word_embeddings), or {WAY_OUT}"
            )
        for name, shape in wanted.items():
            if shape != targets[name].shape:
                raise UnsupportedModel(
                    f"tensor {name} has the shape {shape}, config.json says {targets[name].shape}; get weights and config.json of one "
                    f"revision, or {WAY_OUT}"
                )
        return {name: targets[name] for name in wanted}

    def _supported(self) -> str:
        return f"supported are the plain tensors of {', '.join(FAMILIES)} in BF16, F16 or F32"

    def rope_factors(self) -> npt.NDArray[np.float32] | None:
        """One divisor for every rotary frequency, shape (head_size / 2,), for rope type llama3, else None.

        Llama 3.1's scheme: short wavelengths stay, long ones are stretched by `factor`, those between are blended. Each step is
        rounded to float32 as torch does, so that the result has the very bits of llama.cpp's converter; for a few bases and head
        sizes that no published model has, torch's power function is one unit in the last place off.
        """
        if self.rope.get("rope_type") != "llama3":
            return None
        one = np.float32(1)
        factor, low, high, original = (
            np.float32(self.rope.get(key, default))
            for key, default in (
                ("factor", 8.0),
                ("low_freq_factor", 1.0),
                ("high_freq_factor", 4.0),
                ("original_max_position_embeddings", 8192),
            )
        )
        exponents = np.arange(0, self.head_size, 2, dtype=np.float32) / np.float32(self.head_size)
        frequencies = one / np.power(np.float64(np.float32(self.rope_base)), exponents.astype(np.float64)).astype(np.float32)
        wavelengths = one / frequencies * np.float32(2 * math.pi)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (one / wavelengths * original - low) / (high - low)
            blended = one / ((one - share) / factor + share)
        return np.where(wavelengths < original / high, one, np.where(wavelengths > original / low, factor, blended)).astype(np.float32)


def model(architecture: str, config: Mapping[str, Any]) -> Model:
    """The figures of the model that a config.json describes.

    Raises:
        UnsupportedModel: another architecture, experts, quantized weights, unknown rope scaling, or figures that make no sense.
    """
    family = FAMILIES.get(architecture)
    if family is None:
        raise UnsupportedModel(f"{architecture} can't be converted; supported are {', '.join(FAMILIES)}: {WAY_OUT}")
    if quantization := config.get("quantization_config"):
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, Mapping) else quantization
        raise UnsupportedModel(
            f"this checkpoint is quantized already (quant_method {method}), and quantizing twice costs quality; "
            f"use the original checkpoint in BF16, F16 or F32, or {WAY_OUT}"
        )
    for key in ("num_local_experts", "num_experts", "n_routed_experts"):
        if config.get(key):
            raise UnsupportedModel(f"a mixture of {config[key]} experts ({key}) can't be converted; supported are dense models: {WAY_OUT}")
    if (act := config.get("hidden_act", "silu")) not in ("silu", "swish"):
        raise UnsupportedModel(f"hidden_act {act!r} is not what llama.cpp computes for {architecture} (silu); {WAY_OUT}")
    heads = _integer(config, "num_attention_heads")
    hidden = _integer(config, "hidden_size")
    default_key_heads = heads if family.permutes or "num_key_value_heads" in config else 32
    head_dim = _integer(config, "head_dim", hidden // heads if isinstance(family.head_dim, str) else family.head_dim or 0) or None
    if head_dim is None and hidden % heads:
        raise UnsupportedModel(f"config.json: hidden_size {hidden} is not divisible by num_attention_heads {heads}; {WAY_OUT}")
    if family.head_dim is None and head_dim not in (None, hidden // heads):
        raise UnsupportedModel(f"config.json: a head_dim of {head_dim} is not {hidden} / {heads} as {family.gguf} has it; {WAY_OUT}")
    rope = _rope(family, config)
    found = Model(
        family=family,
        blocks=_integer(config, "num_hidden_layers"),
        context=_integer(config, "max_position_embeddings", family.context),
        hidden=hidden,
        inner=_integer(config, "intermediate_size"),
        heads=heads,
        key_heads=_integer(config, "num_key_value_heads", default_key_heads),
        head_dim=head_dim,
        vocab=_integer(config, "vocab_size"),
        epsilon=_number("rms_norm_eps", config.get("rms_norm_eps", 1e-6)),
        tied=bool(config.get("tie_word_embeddings", False)),
        rope_base=_number("rope_theta", rope["rope_theta"]),
        rope=rope,
    )
    if found.head_size % 2 or found.heads % found.key_heads:
        raise UnsupportedModel(
            f"config.json: {found.heads} heads of size {found.head_size} do not go with {found.key_heads} key-value heads; {WAY_OUT}"
        )
    return found


def _rope(family: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    """The rope parameters with the older spellings brought to the newer: rope_type, rope_theta, original_max_position_embeddings."""
    newer = config.get("rope_parameters")
    rope = dict(newer or config.get("rope_scaling") or {})
    if "type" in rope and (not newer or "rope_type" not in rope):
        rope["rope_type"] = rope["type"]
    if rope.get("rope_type") is None:
        rope["rope_type"] = "default"
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    if "original_max_position_embeddings" in config:
        rope.setdefault("original_max_position_embeddings", config["original_max_position_embeddings"])
    kind = rope["rope_type"]
    if kind not in family.rope_types or "full_attention" in rope or "mrope_section" in rope:
        what = "per-layer or multimodal rope parameters" if kind in family.rope_types else f"rope scaling {kind!r}"
        raise UnsupportedModel(f"{what} can't be converted for {family.gguf}; supported are {', '.join(family.rope_types)}: {WAY_OUT}")
    needed = {"linear": ("factor",), "yarn": ("factor", "original_max_position_embeddings")}.get(kind, ())
    for key in needed:
        _number(f"rope_scaling.{key}", rope.get(key))
    return rope


def _integer(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A positive whole number; `default` when the key is missing or null (0 then stands for none)."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not int or not 0 < value < 1 << 31:
        raise UnsupportedModel(f"config.json: {key} must be a positive whole number, found {value!r}; get the model's original config.json")
    return value


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise UnsupportedModel(f"config.json: {key} must be a positive number, found {value!r}; get the model's original config.json")
    return value


def _reason(names: Iterable[str]) -> str:
    for name in names:
        if re.search(r"\.(qweight|qzeros|g_idx|scales|weight_scale(_inv)?|absmax|quant_map|weight_packed|SCB)$|\.quant_state\.", name):
            return "these are quantized weights (GPTQ, AWQ, FP8 or bitsandbytes)"
        if "experts" in name:
            return "this is a mixture of experts"
        if "lora_" in name:
            return "these are LoRA weights"
    return "unexpected tensors"


def _list(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
