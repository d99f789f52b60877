"""What a run has to work with: the files of the source, their sizes, where they are or will be, and the model's figures.

Owns the difference between the kinds of sources; from here on there are only files. Writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.init import demo, selection
from services.init.errors import SourceError, UnsupportedModel
from services.init.sources import Source
from services.init.verify import Expected
from services.init.volume import Volume

if TYPE_CHECKING:
    from services.init.architectures import Model


@dataclass(frozen=True)
class Figures:
    """What decides how much disk and memory a model needs.

    `model` is a checkpoint's. Of a ready GGUF: `weights`, their number, `cell`, bytes of a KV cache cell, and `quant`, its own;
    all None before it is downloaded.
    """

    model: Model | None = None
    weights: int | None = None
    cell: int | None = None
    quant: str | None = None


@dataclass(frozen=True)
class Plan:
    """The files of a source, below `root`. `commit` is the hub's; a hash is known beforehand only for the hub's files."""

    source: Source
    root: Path
    files: tuple[Expected, ...]
    commit: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def ready_gguf(self) -> Path | None:
        """The one file, when the source is a GGUF and not a checkpoint."""
        return self.root / self.files[0].path if self.files[0].path.endswith(".gguf") else None


def plan(source: Source, volume: Volume) -> Plan:
    """What there is to prepare the source from; asks the hub for a hub source that is not downloaded yet.

    Raises:
        SourceError: there is no such thing, or no checkpoint in it.
        Unreachable: the hub does not answer.
    """
    if source.kind == "hub":
        from services.init import fetch

        return fetch.plan(source, volume)
    if source.location is None:
        return Plan(source, demo.HERE, tuple(_found(demo.HERE, name) for name in demo.DATA))
    if source.kind == "gguf":
        return Plan(source, source.location.parent, (_found(source.location.parent, source.location.name),))
    return Plan(source, source.location, tuple(_found(source.location, name) for name in _checkpoint(source.location)))


def figures(plan: Plan) -> Figures:
    """The model's figures, from the smallest file that tells them; a hub's config.json is read without being kept.

    Raises:
        UnsupportedModel: the model can't be converted, which is better known now than after the download.
        SourceError, CorruptFile, Unreachable: that file can't be read.
    """
    if ready := plan.ready_gguf:
        return _gguf_figures(ready) if ready.is_file() else Figures()
    if plan.source.kind == "demo":
        from services.init.demo.expand import CONFIG, sizes

        return _figures({**CONFIG, **sizes()})
    if plan.source.kind == "folder":
        from services.init.checkpoint import Checkpoint

        return _figures(Checkpoint(plan.root).config)
    from services.init import fetch

    try:
        config = json.loads(fetch.small(plan, "config.json"))
    except ValueError:
        raise SourceError(f"config.json of {plan.source.repo} is not valid JSON, so it is no checkpoint that can be converted") from None
    return _figures(config)


def _figures(config: Mapping[str, Any]) -> Figures:
    from services.init import architectures

    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise UnsupportedModel("config.json names no architecture, so nobody can tell how the model computes; use a ready GGUF of it")
    model = architectures.model(str(names[0]), config)
    return Figures(model, cell=_cell(model.blocks, model.key_heads, model.head_size))


def _cell(blocks: int, key_heads: int, head_size: int) -> int:
    """Bytes of one KV cache cell: keys and values of every layer, in F16."""
    return blocks * key_heads * head_size * 2 * 2


def _gguf_figures(path: Path) -> Figures:
    from services.init import header

    found = header.read(path)
    name = found.values.get("general.architecture")

    def value(key: str, otherwise: int = 0) -> int:
        number = found.values.get(f"{name}.{key}")
        return number if isinstance(number, int) else otherwise

    heads = value("attention.head_count", 1)
    size = value("attention.key_length", value("embedding_length") // max(1, heads))
    weights = sum(prod(tensor.shape) for tensor in found.tensors)
    return Figures(None, weights, _cell(value("block_count"), value("attention.head_count_kv", heads), size), found.quant)


def _checkpoint(folder: Path) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise SourceError(f"the folder {folder} can't be read: {error.strerror}") from None
    return selection.checkpoint(names, str(folder), "/")


def _found(root: Path, name: str) -> Expected:
    try:
        return Expected(name, (root / name).stat().st_size)
    except OSError as error:
        raise SourceError(f"{root / name} can't be read: {error.strerror}") from None
