"""A checkpoint folder is read as it is, and everything that makes it none is told in one sentence."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from services.init.checkpoint import Checkpoint
from services.init.errors import CorruptFile, InitError, SourceError, UnsupportedModel
from tests import checkpoints, vocabularies

RECIPE = checkpoints.Recipe("tiny", checkpoints.QWEN2 | {"vocab_size": 258}, vocabularies.synthetic)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoints.write(RECIPE, tmp_path)


def header(path: Path, change: Callable[[dict], object]) -> None:
    """Rewrite a safetensors header; its length may change, the data stay."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    found = json.loads(data[8 : 8 + length])
    change(found)
    text = json.dumps(found).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_tensors_are_mapped_lazily_and_read_in_pieces(folder: Path) -> None:
    checkpoint = Checkpoint(folder)
    assert checkpoint.architecture == "Qwen2ForCausalLM"
    assert list(checkpoint.tensors) == sorted(name for name, _ in checkpoints.tensors(RECIPE.config))
    number, (name, shape) = next(item for item in enumerate(checkpoints.tensors(RECIPE.config)) if item[1][0].endswith("down_proj.weight"))
    tensor = checkpoint.tensors[name]
    assert (tensor.dtype, tensor.shape, tensor.elements) == ("BF16", shape, 64 * 96)
    pieces = [bytes(piece) for piece in tensor.chunks(bytearray(1000), unit=128)]
    assert {len(piece) % 128 for piece in pieces} == {0}
    assert b"".join(pieces) == checkpoints.numbers(number, name, shape, "BF16", False)


def test_shards_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    recipe = checkpoints.Recipe("sharded", RECIPE.config, RECIPE.tokenizer, shards=3)
    tensors = Checkpoint(checkpoints.write(recipe, tmp_path)).tensors
    assert [tensor.file.name for tensor in tensors.values()] == sorted(tensor.file.name for tensor in tensors.values())
    assert len(tensors) == len(checkpoints.tensors(recipe.config))


def test_without_an_index_the_shards_are_found_by_name(tmp_path: Path) -> None:
    folder = checkpoints.write(checkpoints.Recipe("sharded", RECIPE.config, RECIPE.tokenizer, shards=3), tmp_path)
    (folder / "model.safetensors.index.json").unlink()
    assert len(Checkpoint(folder).tensors) == len(checkpoints.tensors(RECIPE.config))
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(SourceError, match="lacks 1 of 3 weight files: model-00002-of-00003"):
        Checkpoint(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = checkpoints.write(checkpoints.Recipe("sharded", RECIPE.config, RECIPE.tokenizer, shards=3), tmp_path)
    (folder / "model-00003-of-00003.safetensors").unlink()
    with pytest.raises(SourceError, match=r"lacks 1 of 3 weight files: model-00003-of-00003\.safetensors"):
        Checkpoint(folder)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(folder: Path) -> None:
    tensor = Checkpoint(folder).tensors["model.norm.weight"]
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(tensor.offset + 10)
    with pytest.raises(CorruptFile, match=r"ended inside of tensor model\.norm\.weight"):
        list(tensor.chunks(bytearray(64)))


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def index(folder: Path, content: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def cut(size: int) -> Callable[[Path], object]:
    return lambda folder: weights(folder).write_bytes(weights(folder).read_bytes()[:size])


def entry(name: str, **change: object) -> Callable[[Path], object]:
    return lambda folder: header(weights(folder), lambda found: found[name].update(change))


def pickles(folder: Path) -> None:
    weights(folder).rename(folder / "pytorch_model.bin")


BROKEN: list[tuple[str, Callable[[Path], object], type[InitError], str]] = [
    ("no config", without("config.json"), SourceError, "has no config.json"),
    ("config cut", lambda f: (f / "config.json").write_text('{"a'), CorruptFile, "config.json is not valid JSON"),
    ("config a list", lambda f: (f / "config.json").write_text("[]"), CorruptFile, "must hold a JSON object, found list"),
    ("config no text", lambda f: (f / "config.json").write_bytes(b"\xff\xfe{}"), CorruptFile, "not UTF-8"),
    ("no architectures", lambda f: (f / "config.json").write_text("{}"), UnsupportedModel, "names no architectures"),
    ("no weights", without("model.safetensors"), SourceError, "no weights"),
    ("pickles", pickles, SourceError, "pickles are never opened"),
    ("empty file", cut(0), CorruptFile, "it has 0 bytes"),
    ("header cut", cut(100), CorruptFile, "its header should have"),
    ("data cut", cut(-1), CorruptFile, "ends at byte"),
    ("data too long", lambda f: weights(f).write_bytes(weights(f).read_bytes() + b"x"), CorruptFile, "its tensors end at byte"),
    ("header no JSON", lambda f: weights(f).write_bytes(struct.pack("<Q", 8) + b"{{{{{{{{"), CorruptFile, "header is not JSON"),
    ("header a list", lambda f: weights(f).write_bytes(struct.pack("<Q", 8) + b"[]      "), CorruptFile, "no JSON object"),
    ("huge header", lambda f: weights(f).write_bytes(struct.pack("<Q", 1 << 60)), CorruptFile, "its header should have"),
    ("out of range", entry("model.norm.weight", data_offsets=[1 << 40, (1 << 40) + 128]), CorruptFile, "ends at byte"),
    ("negative offset", entry("model.norm.weight", data_offsets=[-128, 0]), CorruptFile, "is described by"),
    ("backwards", entry("model.norm.weight", data_offsets=[128, 0]), CorruptFile, "is described by"),
    ("wrong size", entry("model.norm.weight", shape=[65]), CorruptFile, r"of shape \[65\] and type BF16 has 128 bytes"),
    ("no shape", entry("model.norm.weight", shape=None), CorruptFile, "is described by"),
    ("unknown type", entry("model.norm.weight", dtype="F4"), UnsupportedModel, "has the type F4"),
    ("overlap", entry("model.norm.weight", data_offsets=[0, 128]), CorruptFile, "starts at byte"),
    ("index empty", lambda f: index(f, {}), CorruptFile, "has no weight_map"),
    ("index leaves the folder", lambda f: index(f, {"weight_map": {"a": "../b"}}), CorruptFile, "file names beside it"),
    ("index of another", lambda f: index(f, {"weight_map": {"a": "model.safetensors"}}), CorruptFile, "the files lack a"),
]


@pytest.mark.parametrize(("damage", "error", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_wrong_is_told(folder: Path, damage: Callable[[Path], object], error: type[InitError], message: str) -> None:
    damage(folder)
    with pytest.raises(error, match=message) as caught:
        Checkpoint(folder)
    assert type(caught.value) is error


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not a folder"):
        Checkpoint(tmp_path / "nothing")


def test_a_broken_generation_config_counts_as_none(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{,}")
    assert Checkpoint(folder).generation_config == {}


def test_the_chat_template_in_the_tokenizer_config_wins(tmp_path: Path) -> None:
    files = {"chat_template.jinja": "jinja", "chat_template.json": {"chat_template": "json"}}
    folder = checkpoints.write(checkpoints.Recipe("templates", RECIPE.config, RECIPE.tokenizer, files=files), tmp_path)
    assert Checkpoint(folder).chat_template == "jinja"
    (folder / "chat_template.jinja").unlink()
    assert Checkpoint(folder).chat_template == "json"
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"chat_template": "config"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert Checkpoint(folder).chat_template == "config"
