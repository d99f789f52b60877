"""What a run has to work with: the files of the source, their sizes, where they are or will be, and the model's figures.

Owns the difference between the kinds of sources; from here on there are only files. Writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.init import demo, selection
from services.init.errors import SourceError, UnsupportedModel
from services.init.sources import Source
from services.init.verify import Expected
from services.init.volume import Volume


@dataclass(frozen=True)
class Figures:
    """What decides how much disk and memory a model needs. None where it can't be known before the download.

    `parameters` counts weights as they are stored; `cell` is bytes of one KV cache cell, in F16; `quant` is a ready GGUF's own.
    """

    parameters: int | None = None
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
        from services.init.demo.expand import CONFIG, PARAMETERS, sizes

        return Figures(PARAMETERS, _cell({**CONFIG, **sizes()}))
    if plan.source.kind == "folder":
        from services.init.checkpoint import Checkpoint

        checkpoint = Checkpoint(plan.root)
        parameters = sum(tensor.elements for tensor in checkpoint.tensors.values())
        return Figures(parameters, _cell(checkpoint.config))
    from services.init import fetch

    weights = sum(file.size for file in plan.files if file.path.endswith(".safetensors"))
    try:
        config = json.loads(fetch.small(plan, "config.json"))
    except ValueError:
        raise SourceError(f"config.json of {plan.source.repo} is not valid JSON, so it is no checkpoint that can be converted") from None
    return Figures(weights // 2, _cell(config))


def _cell(config: Mapping[str, Any]) -> int:
    """Bytes of one KV cache cell: keys and values of every layer, two bytes each."""
    from services.init import architectures

    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise UnsupportedModel("config.json names no architecture, so nobody can tell how the model computes; use a ready GGUF of it")
    model = architectures.model(str(names[0]), config)
    return model.blocks * model.key_heads * model.head_size * 2 * 2


def _gguf_figures(path: Path) -> Figures:
    from services.init import header

    found = header.read(path)
    name = found.values.get("general.architecture")

    def value(key: str, otherwise: int = 0) -> int:
        number = found.values.get(f"{name}.{key}")
        return number if isinstance(number, int) else otherwise

    heads = value("attention.head_count", 1)
    size = value("attention.key_length", value("embedding_length") // max(1, heads))
    cell = value("block_count") * value("attention.head_count_kv", heads) * size * 2 * 2
    return Figures(path.stat().st_size // 2, cell, found.quant)


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
