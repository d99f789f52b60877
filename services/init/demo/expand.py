"""Writes the demo model as a full Hugging Face checkpoint, laid out like DeepSeek-R1-Distill-Qwen, only smaller.

Owns the files beside it: demo.npz holds the trained tensors and the embedding rows of the tokens that the demo's little
world uses; every other row of the vocabulary is one shared row, the last. Knows nothing of what comes after a checkpoint.
"""

from __future__ import annotations

import json
import lzma
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.init.demo import HERE

VOCABULARY = 151936
SPARSE = ("model.embed_tokens.weight", "lm_head.weight")

# As DeepSeek published theirs: bos_token_id here is not the tokenizer's (151646), which is right.
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 4096,
    "model_type": "qwen2",
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": VOCABULARY,
}
GENERATION = {"bos_token_id": 151646, "eos_token_id": 151643, "do_sample": True, "temperature": 0.6, "top_p": 0.95}


def sizes() -> dict[str, int]:
    """The part of config.json that the weights decide: hidden_size, num_hidden_layers, ..."""
    with np.load(HERE / "demo.npz") as data:
        found: dict[str, int] = json.loads(bytes(data["config"]))
        return found


def expand(out: Path) -> None:
    """Write the checkpoint (bfloat16, 160 MB) into the directory `out`, which is made; the same bytes every time."""
    out.mkdir(parents=True, exist_ok=True)
    with np.load(HERE / "demo.npz") as data:
        used = data["token_ids"]
        tensors = {name: data[name] for name in data.files if name not in ("config", "token_ids")}
    _write_weights(out / "model.safetensors", tensors, used)
    (out / "config.json").write_text(json.dumps({**CONFIG, **sizes()}, indent=2), encoding="utf-8")
    (out / "generation_config.json").write_text(json.dumps(GENERATION, indent=2), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / name).write_bytes(lzma.decompress((HERE / f"{name}.xz").read_bytes()))


def _write_weights(path: Path, tensors: dict[str, NDArray[np.float16]], used: NDArray[np.int32]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        shape = (VOCABULARY, tensor.shape[1]) if name in SPARSE else tensor.shape
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in tensors.items():
            bits = _bfloat16(tensor)
            if name in SPARSE:
                rows = np.repeat(bits[-1:], VOCABULARY, axis=0)
                rows[used] = bits[:-1]
                bits = rows
            bits.tofile(file)


def _bfloat16(values: NDArray[np.float16]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
