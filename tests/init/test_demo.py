"""The demo's checkpoint: a whole Hugging Face checkpoint from the few megabytes in the repository, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from services.init import demo
from services.init.checkpoint import Checkpoint
from services.init.demo.expand import expand
from tests.init.conftest import sha256


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    expand(tmp_path)
    assert {path.name: sha256(path)[:16] for path in tmp_path.iterdir()} == {
        "config.json": "e7aa4128fd86eac1",
        "generation_config.json": "e7463b93e02affca",
        "model.safetensors": "0cd441d100569e05",
        "tokenizer.json": "749a967cd78e972e",
        "tokenizer_config.json": "ce461d03702f78dc",
    }
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= demo.EXPANDED
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.architecture == "Qwen2ForCausalLM"
    embedding = checkpoint.tensors["model.embed_tokens.weight"]
    assert embedding.shape == (151936, 256) and embedding.dtype == "BF16"
    rows = np.fromfile(tmp_path / "model.safetensors", "<u2", embedding.elements, offset=embedding.offset).reshape(embedding.shape)
    assert np.count_nonzero((rows != rows[-1]).any(axis=1)) == 763, "a row for each token that the demo knows; the others share one"
