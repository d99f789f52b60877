"""Which files of a repository or a folder make a checkpoint: safetensors, tokenizer and config files, never a pickle.

Owns the allow list. Looks at names only.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from services.init.errors import SourceError

CONFIG = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def checkpoint(names: Iterable[str], where: str, joint: str) -> list[str]:
    """The names that make the checkpoint, sorted. Only the top level counts: folders hold other forms of the same weights.

    Raises:
        SourceError: no safetensors or no config.json; says what is there instead. `where` is how the message calls the source,
            and `joint` what stands between it and a file's name.
    """
    top = sorted(name for name in names if "/" not in name)
    weights = fnmatch.filter(top, "model*.safetensors") or fnmatch.filter(top, "*.safetensors")
    if not weights:
        raise SourceError(_without_safetensors(top, where, joint))
    if "config.json" not in top:
        raise SourceError(f"{where} has no config.json, so it is no Hugging Face checkpoint of a model")
    return sorted(weights + [name for name in top if name in CONFIG or name == "model.safetensors.index.json"])


def _without_safetensors(top: list[str], where: str, joint: str) -> str:
    ggufs = fnmatch.filter(top, "*.gguf")
    pickles = [name for pattern in PICKLES for name in fnmatch.filter(top, pattern)]
    if ggufs:
        return f"{where} has no safetensors but {len(ggufs)} GGUF files; name one of them, such as {where}{joint}{ggufs[0]}"
    if pickles:
        return (
            f"{where} has its weights only as pickles ({', '.join(pickles[:3])}), which can run code when they are loaded, "
            "so Cloister never reads them; use a repository or revision with safetensors, or a ready GGUF"
        )
    return f"{where} has no safetensors, so it is no checkpoint that can be converted; found: {', '.join(top[:8]) or 'no files'}"
