"""Small random Hugging Face checkpoints of every family and quirk that services/init converts, the same bytes on every machine.

Shapes and numbers are made up; file names, tensor names, config keys and tokenizers are those of the published models. Weights come
from a bit generator's raw output, whose stream numpy guarantees. Knows nothing of GGUF.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests import vocabularies

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
COMMON = {"attention_dropout": 0.0, "hidden_act": "silu", "initializer_range": 0.02, "use_cache": True}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    **COMMON,
    **SIZES,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "max_position_embeddings": 131072,
    "max_window_layers": 21,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.44.0",
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3 = QWEN2 | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "eos_token_id": 151645,
    "head_dim": 32,
    "max_position_embeddings": 40960,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "transformers_version": "4.51.0",
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    **COMMON,
    **SIZES,
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "pad_token_id": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.42.3",
    "vocab_size": 49152,
}
LLAMA3_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
DEEPSEEK_GENERATION = {"bos_token_id": 151646, "eos_token_id": 151643, "do_sample": True, "temperature": 0.6, "top_p": 0.95}
QWEN_GENERATION = {"do_sample": True, "repetition_penalty": 1.1, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
CARD = """---
license: apache-2.0
license_link: https://example.org/license
language:
- en
- zh
base_model:
- Qwen/Qwen2.5-1.5B
pipeline_tag: text-generation
tags:
- chat
datasets:
- example/questions
---

# A model card
"""


@dataclass(frozen=True)
class Recipe:
    """One checkpoint. `dtype` is of the matrices, `vector_dtype` of the rest; `files` are added, or taken away where None.

    `outputs` are the output types to compare with llama.cpp's converter. `tokenizer` makes the tokenizer's files.
    """

    name: str
    config: Mapping[str, Any]
    tokenizer: Callable[[], vocabularies.Files]
    dtype: str = "BF16"
    vector_dtype: str | None = None
    shards: int = 1
    outputs: tuple[str, ...] = ("auto",)
    generation: Mapping[str, Any] | None = None
    files: Mapping[str, Any] = field(default_factory=dict)
    extremes: bool = False


def _untemplated(make: Callable[[], vocabularies.Files]) -> vocabularies.Files:
    files = make()
    config = {key: value for key, value in files["tokenizer_config.json"].items() if key != "chat_template"}
    return {**files, "tokenizer_config.json": config}


def _configured(make: Callable[[], vocabularies.Files], **changes: Any) -> vocabularies.Files:
    files = make()
    return {**files, "tokenizer_config.json": {**files["tokenizer_config.json"], **changes}}


def _named_templates() -> vocabularies.Files:
    templates = [{"name": "default", "template": "{{ messages }}"}, {"name": "tool-use", "template": "{{ tools }}"}]
    return _configured(vocabularies.smollm2, chat_template=templates)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "DeepSeek-R1-Distill-Qwen-1.5B", QWEN2, vocabularies.deepseek_qwen, generation=DEEPSEEK_GENERATION, outputs=("auto", "f16", "f32")
    ),
    Recipe("qwen2-three-shards", QWEN2, vocabularies.deepseek_qwen, shards=3),
    Recipe(
        "Qwen2.5-0.5B-Instruct",
        QWEN2 | {"tie_word_embeddings": True, "rope_theta": 1000000.0, "eos_token_id": 151645, "torch_dtype": "float16"},
        vocabularies.qwen2,
        dtype="F16",
        generation=QWEN_GENERATION,
        files={"README.md": CARD},
        outputs=("auto", "bf16"),
    ),
    Recipe("qwen2-f32", QWEN2 | {"torch_dtype": "float32"}, vocabularies.deepseek_qwen, dtype="F32"),
    Recipe("qwen2-f32-vectors", QWEN2, vocabularies.deepseek_qwen, vector_dtype="F32"),
    Recipe("extremes-bf16", LLAMA, vocabularies.smollm2, extremes=True, outputs=("bf16", "f16", "f32")),
    Recipe("extremes-f16", LLAMA, vocabularies.smollm2, dtype="F16", extremes=True, outputs=("f16", "bf16", "f32")),
    Recipe("extremes-f32", LLAMA, vocabularies.smollm2, dtype="F32", extremes=True, outputs=("f16", "bf16", "f32")),
    Recipe(
        "qwen2-yarn",
        QWEN2 | {"rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}},
        lambda: _untemplated(vocabularies.qwen2),
        files={"chat_template.jinja": vocabularies.QWEN_TEMPLATE},
    ),
    Recipe(
        "Qwen3-0.6B",
        QWEN3,
        lambda: vocabularies.qwen2(thinking=True, pairs=True),
        generation={"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95},
        outputs=("auto", "f16"),
    ),
    Recipe(
        "qwen3-untied-saved-by-transformers-5",
        {key: value for key, value in QWEN3.items() if key not in ("rope_theta", "rope_scaling", "torch_dtype")}
        | {"tie_word_embeddings": False, "rope_parameters": {"rope_theta": 5000000.0, "rope_type": "default"}, "dtype": "bfloat16"},
        lambda: _untemplated(lambda: vocabularies.qwen2(thinking=True, pairs=True)),
        files={"chat_template.jinja": "{{ messages }}", "additional_chat_templates/tool.jinja": "{{ tools }}"},
        shards=2,
    ),
    Recipe(
        "qwen3-biases-linear-rope-end-token",
        QWEN3 | {"attention_bias": True, "rope_scaling": {"type": "linear", "factor": 2.0}},
        lambda: vocabularies.qwen2(thinking=True, end=True),
    ),
    Recipe("qwen3-no-tokenizer-config", QWEN3, lambda: vocabularies.qwen2(thinking=True, end=True), files={"tokenizer_config.json": None}),
    Recipe("qwen2-deepseek-without-bos", QWEN2, lambda: _configured(vocabularies.deepseek_qwen, add_bos_token=False)),
    Recipe("SmolLM2-135M-Instruct", LLAMA, vocabularies.smollm2, outputs=("auto", "f16")),
    Recipe(
        "llama-untied-llama3-rope",
        LLAMA
        | {"tie_word_embeddings": False, "num_key_value_heads": 4, "head_dim": 64, "rope_scaling": LLAMA3_ROPE, "rope_theta": 500000.0},
        _named_templates,
        dtype="F16",
        shards=2,
    ),
    Recipe(
        "llama-biases",
        LLAMA | {"attention_bias": True, "mlp_bias": True, "head_dim": 32, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        lambda: _configured(lambda: _untemplated(vocabularies.smollm2), add_bos_token=True, add_eos_token=False),
        dtype="F32",
        files={"chat_template.json": {"chat_template": "{{ messages }}"}},
        outputs=("f32", "bf16"),
    ),
    Recipe(
        "llama-plain-heads",
        {key: value for key, value in LLAMA.items() if key not in ("num_key_value_heads", "rope_theta")} | {"tie_word_embeddings": False},
        lambda: _configured(vocabularies.smollm2, tokenizer_class="PreTrainedTokenizerFast", bos_token="<|endoftext|>"),
    ),
)


def recipes(vocabulary_folder: Path) -> tuple[Recipe, ...]:
    """All recipes, also those whose vocabularies lie in llama.cpp's `models` folder."""
    llama3 = vocabulary_folder / "ggml-vocab-llama-bpe.gguf"
    coder = vocabulary_folder / "ggml-vocab-deepseek-coder.gguf"
    shape = {"vocab_size": 128256, "rope_theta": 500000.0, "max_position_embeddings": 131072, "bos_token_id": 128000, "head_dim": 64}
    llama = {key: value for key, value in LLAMA.items() if key not in ("pad_token_id", "is_llama_config", "rope_interleaved")} | shape
    generation = {"bos_token_id": 128000, "do_sample": True, "temperature": 0.6, "top_p": 0.9}
    return (
        *RECIPES,
        Recipe(
            "Llama-3.2-1B-Instruct",
            llama | {"eos_token_id": [128001, 128008, 128009], "rope_scaling": LLAMA3_ROPE | {"factor": 32.0}},
            lambda: vocabularies.llama3(llama3),
            generation=generation,
            outputs=("auto", "f16", "f32"),
        ),
        Recipe(
            "Llama-3.1-8B-Instruct",
            llama | {"eos_token_id": [128001], "rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": False, "head_dim": 128},
            lambda: vocabularies.llama3(llama3),
            generation=generation,
            shards=4,
        ),
        Recipe(
            "DeepSeek-R1-Distill-Llama-8B",
            llama | {"eos_token_id": 128001, "rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": False},
            lambda: vocabularies.llama3(llama3, deepseek=True),
            generation=generation,
            shards=2,
        ),
        Recipe(
            "deepseek-coder-1.3b-instruct",
            llama
            | {"vocab_size": 32256, "bos_token_id": 32013, "eos_token_id": 32021, "rope_scaling": {"type": "linear", "factor": 4.0}}
            | {"tie_word_embeddings": False},
            lambda: vocabularies.deepseek_coder(coder),
        ),
    )


def tensors(config: Mapping[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all tensors, in the order of the files."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    query = head * config["num_attention_heads"]
    key = head * config.get("num_key_value_heads", config["num_attention_heads"])
    kind, bias = config["model_type"], config.get("attention_bias")
    found: list[tuple[str, tuple[int, ...]]] = [("model.embed_tokens.weight", (config["vocab_size"], hidden))]
    for layer in range(config["num_hidden_layers"]):
        parts: list[tuple[str, tuple[int, ...]]] = [
            ("input_layernorm.weight", (hidden,)),
            ("mlp.down_proj.weight", (hidden, inner)),
            ("mlp.gate_proj.weight", (inner, hidden)),
            ("mlp.up_proj.weight", (inner, hidden)),
            ("post_attention_layernorm.weight", (hidden,)),
            ("self_attn.k_proj.weight", (key, hidden)),
            ("self_attn.o_proj.weight", (hidden, query)),
            ("self_attn.q_proj.weight", (query, hidden)),
            ("self_attn.v_proj.weight", (key, hidden)),
        ]
        if kind == "qwen2" or bias:
            parts += [(f"self_attn.{name}_proj.bias", (size,)) for name, size in (("k", key), ("q", query), ("v", key))]
        if kind == "qwen3":
            parts += [("self_attn.k_norm.weight", (head,)), ("self_attn.q_norm.weight", (head,))]
        if kind == "llama" and bias:
            parts.append(("self_attn.o_proj.bias", (hidden,)))
        if config.get("mlp_bias"):
            parts += [("mlp.down_proj.bias", (hidden,)), ("mlp.gate_proj.bias", (inner,)), ("mlp.up_proj.bias", (inner,))]
        found += [(f"model.layers.{layer}.{name}", shape) for name, shape in parts]
    found.append(("model.norm.weight", (hidden,)))
    return found if config.get("tie_word_embeddings") else [*found, ("lm_head.weight", (config["vocab_size"], hidden))]


def write(recipe: Recipe, out: Path) -> Path:
    """Write the checkpoint into the folder `out`/`recipe.name` and return that folder."""
    folder = out / recipe.name
    folder.mkdir(parents=True)
    files: dict[str, Any] = {"config.json": dict(recipe.config), **recipe.tokenizer()}
    if recipe.generation is not None:
        files["generation_config.json"] = dict(recipe.generation)
    for name, content in {**files, **recipe.files}.items():
        if content is not None:
            (folder / name).parent.mkdir(exist_ok=True)
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=2)
            (folder / name).write_text(text, encoding="utf-8")
    weights = []
    for number, (name, shape) in enumerate(tensors(recipe.config)):
        dtype = recipe.dtype if len(shape) > 1 else recipe.vector_dtype or recipe.dtype
        weights.append((name, dtype, shape, numbers(number, name, shape, dtype, recipe.extremes)))
    write_weights(folder, weights, recipe.shards)
    return folder


def numbers(seed: int, name: str, shape: tuple[int, ...], dtype: str, extremes: bool) -> bytes:
    """Small random numbers, around 1 for norms; with `extremes` also the largest, the smallest, infinities and NaNs."""
    count = int(np.prod(shape))
    raw = np.random.PCG64(seed).random_raw(count)
    values = ((raw >> 40).astype(np.int32) - (1 << 23)).astype(np.float32) / np.float32(1 << 27)
    if name.endswith("norm.weight"):
        values += np.float32(1)
    data = cast(values, dtype)
    if extremes:
        width = len(data) // count
        odd = np.frombuffer(raw.astype("<u8").tobytes(), f"<u{width}")[: min(4096, count)]  # every kind of bit pattern
        data = odd.tobytes() + data[odd.nbytes :]
    return data


def cast(values: np.ndarray, dtype: str) -> bytes:
    """float32 as the bytes of a safetensors type, rounded to nearest even."""
    if dtype == "BF16":
        bits = values.astype("<f4").view("<u4")
        return bytes(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes())
    return values.astype({"F16": "<f2", "F32": "<f4"}[dtype]).tobytes()


def write_weights(folder: Path, weights: list[tuple[str, str, tuple[int, ...], bytes]], shards: int = 1) -> None:
    """Write (name, dtype, shape, bytes) as safetensors, with an index when there is more than one shard."""
    groups = [weights[index * len(weights) // shards : (index + 1) * len(weights) // shards] for index in range(shards)]
    weight_map = {}
    for number, group in enumerate(groups):
        name = "model.safetensors" if shards == 1 else f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        (folder / name).write_bytes(safetensors(group))
        weight_map.update({tensor[0]: name for tensor in group})
    if shards > 1:
        total = sum(len(tensor[3]) for tensor in weights)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def safetensors(weights: list[tuple[str, str, tuple[int, ...], bytes]]) -> bytes:
    """One safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dtype, shape, data in weights:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(tensor[3] for tensor in weights)
