"""A checkpoint that copies: after a token that stood in the text before, it says what followed it there. Weights are set by hand.

Layer 0 writes into each position what the token before it was (a head that looks one place back), layer 1 looks for the place whose
token before it is the present one, and takes over its token (together an induction head). All other layers do nothing but take their
time, so a step takes what it takes in a trained model of the shape. `python -m tests.copying FOLDER` writes the shape of
DeepSeek-R1-Distill-Qwen-1.5B, for scripts/bench --scenario copy. Knows nothing of GGUF.
"""

from __future__ import annotations

import argparse
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests import vocabularies
from tests.checkpoints import DEEPSEEK_GENERATION, QWEN2, cast, tensors

FULL = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2}
SMALL = {"hidden_size": 384, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2}
ROPE_THETA = 1e12  # most pairs of a head hardly turn: what stands in them can be compared at any distance
BACK = 20.0  # how much the look back prefers the place before to all others
FOUND = 1.6  # the same for the search
ROW = 4096  # rows that are written at once


def write(folder: Path, shape: dict[str, int]) -> Path:
    """Write the checkpoint into the folder and return it. Zeros take no disk where the file system has sparse files."""
    folder.mkdir(parents=True)
    config = QWEN2 | shape | {"rope_theta": ROPE_THETA}
    files: dict[str, Any] = {"config.json": config, "generation_config.json": DEEPSEEK_GENERATION, **vocabularies.deepseek_qwen()}
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=2)
        (folder / name).write_text(text, encoding="utf-8")
    _write_weights(folder / "model.safetensors", config)
    return folder


def _write_weights(file: Path, config: dict[str, Any]) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, dims in tensors(config):
        begin, end = end, end + 2 * int(np.prod(dims))
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as sink:
        sink.write(struct.pack("<Q", len(text)) + text)
        begin = sink.tell()
        sink.truncate(begin + end)
        for name, dims in tensors(config):
            at, width = begin + header[name]["data_offsets"][0], 2 * int(np.prod(dims[1:]))
            for row, values in _rows(name, dims, config):
                sink.seek(at + row * width)
                sink.write(cast(values, "BF16"))


def _rows(name: str, dims: tuple[int, ...], config: dict[str, Any]) -> Any:
    """(first row, values) of a tensor where they are not zero."""
    hidden, kv = config["hidden_size"], config["num_key_value_heads"]
    head, group = hidden // config["num_attention_heads"], config["num_attention_heads"] // kv
    block = head * kv  # numbers that tell tokens apart: as many as the values of a layer hold
    assert 3 * block <= hidden
    own, before, said = (slice(number * block, (number + 1) * block) for number in range(3))
    slow = [p for p in range(head // 2) if ROPE_THETA ** (-2 * p / head) < 2e-4]
    if name.endswith("norm.weight"):
        yield 0, np.ones(dims, np.float32)
    elif name in ("model.embed_tokens.weight", "lm_head.weight"):
        part, size = (own, 1.0) if name.startswith("model") else (said, 0.1)
        for row in range(0, dims[0], ROW):
            count = min(ROW, dims[0] - row)
            values = np.zeros((count, hidden), np.float32)
            bits = np.random.PCG64(row).random_raw(ROW * block)[: count * block] >> 63
            values[:, part] = (2.0 * bits.astype(np.float32) - 1.0).reshape(count, block) * np.float32(size)
            yield row, values
    elif name.startswith(("model.layers.0.", "model.layers.1.")) and "self_attn" in name:
        first, (kind, what) = name.startswith("model.layers.0."), name.split(".")[-2:]
        values = np.zeros(dims, np.float32)
        scale = np.float32((1 if first else 2) * block / hidden) ** np.float32(0.5)  # takes back what the norm before it did
        for number in range(kv):
            heads, query = number * head, number * group * head  # where the key's and the first query head of its group begin
            parts = slice(heads, heads + head)
            if what == "bias" and first and kind in ("q_proj", "k_proj"):
                turns = ROPE_THETA ** (-2 * np.arange(head // 2) / head)
                turns[turns < 0.01] = 0
                at, phase = (query, 0 * turns) if kind == "q_proj" else (heads, turns)
                values[at : at + head] = BACK * np.concatenate([np.cos(phase), np.sin(phase)]) * np.tile(turns > 0, 2)
            elif what == "weight" and not first and kind in ("q_proj", "k_proj"):
                at, source = (query, own) if kind == "q_proj" else (heads, before)
                for place, pair in enumerate([*slow, *(pair + head // 2 for pair in slow)]):
                    values[at + pair, source.start + heads + place] = FOUND * scale
            elif what == "weight" and kind == "v_proj":
                values[parts, own.start + heads : own.start + heads + head] = np.eye(head) * scale
            elif what == "weight" and kind == "o_proj":
                target = before if first else said
                values[target.start + heads : target.start + heads + head, query : query + head] = np.eye(head) * (1 if first else 3)
        yield 0, values


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="write a checkpoint that copies, of the shape of DeepSeek-R1-Distill-Qwen-1.5B")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="a small one")
    arguments = parser.parse_args()
    write(arguments.folder, SMALL if arguments.small else FULL)
