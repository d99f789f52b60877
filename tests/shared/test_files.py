"""Atomic files, manifest, progress and the wire: written whole or not at all, and read back as written."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from services.shared import files, manifest, progress, wire
from services.shared.manifest import File, Manifest, ManifestError, Source
from services.shared.progress import Progress

MANIFEST = Manifest(
    name="demo", title="Demo", quant="q4_k_m", model=File("model.gguf", 3, "ab"),
    source=Source("hub", "a/b", "main", "c0ffee", None, (File("config.json", 2, "cd"),)),
    architecture="qwen2", parameters=3, context_length=4096, chat_template="{{ messages }}", bos_token="<s>", eos_token=None,
    generation={"temperature": 0.6}, tools={"gguf": "0.19.0"}, created="2026-11-24T00:00:00+00:00",
)  # fmt: skip


def test_write_text_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    files.write_text(target, "one")
    files.write_text(target, "two 鸡")
    assert target.read_text() == "two 鸡" and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_link_is_relative_and_can_be_moved(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "models" / name).mkdir(parents=True)
        files.link(tmp_path / "models" / name, tmp_path / "current")
    assert (tmp_path / "current").readlink() == Path("models/two")


def test_sha256_counts_its_bytes(tmp_path: Path) -> None:
    data = b"x" * (files.CHUNK + 5)
    (tmp_path / "f").write_bytes(data)
    seen: list[int] = []
    assert files.sha256(tmp_path / "f", seen.append) == hashlib.sha256(data).hexdigest() and sum(seen) == len(data)


def test_a_manifest_is_read_as_written(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path)
    assert manifest.read(tmp_path) == MANIFEST


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1, "source": {"files": []}}', '{"format": 1, "source": 3}']
)
def test_a_broken_manifest_is_an_error_with_the_file_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        manifest.read(tmp_path)


def test_no_manifest_no_model(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not prepared"):
        manifest.read(tmp_path)


def test_progress_is_read_as_written_and_garbage_is_none(tmp_path: Path) -> None:
    file = tmp_path / "progress.json"
    assert progress.read(file) is None
    now = Progress("running", "demo", "q4_0", "fetch", 3, 10, rate=1.5, seconds_left=4.0, updated=1.0)
    now.write(file)
    assert progress.read(file) == now
    file.write_text('{"state": "running"')
    assert progress.read(file) is None


def test_the_wire_carries_every_message_in_any_cut() -> None:
    request = wire.Generate("r1", ((True, "<｜User｜>"), (False, "鸡兔\x00")), wire.Sampling(seed=2**63 - 1), 5, ("。",), True, True)
    finished = wire.Finished("r1", "stop", 1, 2, 3, 4, 0.5, 0.25, 0.125)
    sent = [request, wire.Cancel("r1"), wire.Count("c", request.prompt), wire.Observe("o"), wire.Delta("r1", "</think>", True, 3), finished]
    data = b"".join(wire.encode(message) for message in sent)
    for size in (1, 7, len(data)):
        decoder = wire.Decoder()
        assert [m for at in range(0, len(data), size) for m in decoder.feed(data[at : at + size])] == sent


@pytest.mark.parametrize(
    "data", [b"\xc1", b"GET / HTTP/1.1\r\n", b"\x92\xa3Foo\x80", b"\x92\xa6Cancel\x81\xa1x\x01", b"\x92\xa6Cancel\x05", b"\x05"]
)
def test_what_is_no_message_is_an_error(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        list(wire.Decoder().feed(data))


def test_every_message_is_frozen_and_documented() -> None:
    for kind in (wire.Generate, wire.Hello, wire.Observed, wire.Delta, wire.Finished, wire.Failed):
        assert kind.__doc__ and dataclasses.fields(kind)
        assert kind.__dataclass_params__.frozen
