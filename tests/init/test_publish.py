"""Publishing interrupted between any two of its renames: nothing half-made is visible, and the next run finishes it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from services.init import publish
from services.init.volume import Volume
from services.init.work import Work
from services.shared import manifest
from services.shared.manifest import File, Manifest, ManifestError, Source
from tests.init.conftest import sha256

INPUTS = (File("a.safetensors", 3, "0" * 64),)
TOOLS = {"cloister": "1"}


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


def finished(volume: Volume, content: bytes) -> tuple[Work, Manifest]:
    """A work directory in which all is made."""
    work = Work(volume.work("m", "q8_0"), INPUTS, TOOLS)
    model = work.file(manifest.MODEL, lambda part: part.write_bytes(content) and None)
    file = File(manifest.MODEL, len(content), sha256(model))
    made = Manifest("m", "M", "q8_0", file, Source("demo", files=INPUTS), "qwen2", 1, 2, None, None, None, {}, TOOLS, "now")
    made.write(work.directory)
    return work, made


def visible(volume: Volume) -> Manifest | None:
    """The prepared model as others see it, checked against its own manifest."""
    directory = volume.model("m", "q8_0")
    try:
        found = manifest.read(directory)
    except ManifestError:
        return None
    assert sha256(directory / found.model.path) == found.model.sha256
    return found


@pytest.mark.parametrize("before", [None, b"the model of before"])
@pytest.mark.parametrize("done", range(5))
def test_after_any_rename(volume: Volume, before: bytes | None, done: int) -> None:
    directory = volume.model("m", "q8_0")
    if before:
        publish.publish(volume, *finished(volume, before))
    work, made = finished(volume, b"the new model")
    directory.mkdir(parents=True, exist_ok=True)
    steps = [
        lambda: (directory / manifest.NAME).unlink(missing_ok=True),
        lambda: os.replace(work.directory / manifest.MODEL, directory / publish.MODEL),
        lambda: os.replace(work.directory / manifest.NAME, directory / manifest.NAME),
        lambda: volume.point(directory),
    ]
    for step in steps[:done]:
        step()
        visible(volume)
    again = Work(volume.work("m", "q8_0"), INPUTS, TOOLS)
    if done < 3:
        assert again.manifest() == made
        assert publish.publish(volume, again, made) == directory
    else:
        assert visible(volume) == made, "the next run finds it ready"
        volume.point(directory)
        volume.clean_work()
    assert visible(volume) == made
    assert volume.current.resolve() == directory
    assert not list(volume.root.glob("work/*"))


def test_other_inputs_or_tools_begin_anew(volume: Volume) -> None:
    work, _ = finished(volume, b"x")
    for inputs, tools in ((INPUTS, {"cloister": "2"}), ((dataclasses.replace(INPUTS[0], sha256="1" * 64),), {"cloister": "2"})):
        assert Work(work.directory, inputs, tools).manifest() is None
        assert [path.name for path in work.directory.iterdir()] == ["inputs.json"]
        (work.directory / "checkpoint.gguf").write_bytes(b"y")


def test_a_part_is_written_again_and_what_is_complete_is_not(volume: Volume) -> None:
    work = Work(volume.work("m", "q8_0"), INPUTS, TOOLS)
    (work.directory / "a.part").write_bytes(b"half")
    (work.directory / "b.part").mkdir()
    (work.directory / "b.part/old").write_bytes(b"half")
    assert work.file("a", lambda part: part.write_bytes(b"whole") and None).read_bytes() == b"whole"
    folder = work.folder("b", lambda part: part.mkdir())
    assert list(folder.iterdir()) == []
    again = Work(work.directory, INPUTS, TOOLS)
    again.file("a", lambda _: pytest.fail("it is there"))
    again.folder("b", lambda _: pytest.fail("it is there"))


def test_links_are_relative_and_the_one_before_is_kept(volume: Volume) -> None:
    a, b = volume.model("a", "q8_0"), volume.model("b", "q4_0")
    for directory in (a, b, b, a):
        directory.mkdir(parents=True, exist_ok=True)
        volume.point(directory)
    assert str(volume.current.readlink()) == "models/a/q8_0" and str(volume.previous.readlink()) == "models/b/q4_0"
