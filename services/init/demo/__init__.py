"""The demo model that comes with Cloister: weights, tokenizer, and the code that makes a checkpoint of them. See README.md."""

from pathlib import Path

HERE = Path(__file__).parent
DATA = ("demo.npz", "tokenizer.json.xz", "tokenizer_config.json.xz")
EXPANDED = 167_200_000  # bytes of the checkpoint that expand writes, a little more than measured
