"""The whole of init as a command: from every kind of source to a published model, and again in a moment."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from services.shared import manifest
from tests.hub import Hub
from tests.init.conftest import REPO, Init, sha256


def test_a_repository_becomes_a_model_with_a_manifest(init: Init, hub: Hub, repo: str, small: Path) -> None:
    init.ready("--model", repo, "--quant", "q8_0")
    found = init.current
    assert (found.name, found.title, found.quant, found.architecture) == ("someone--small-llama", repo, "q8_0", "llama")
    assert (found.source.kind, found.source.repo, found.source.revision) == ("hub", repo, "main")
    assert found.source.commit == hub.repositories[repo].branches["main"]
    assert {file.path: file.sha256 for file in found.source.files} == {path.name: sha256(path) for path in small.iterdir()}
    model = init.volume / "models/someone--small-llama/q8_0/model.gguf"
    assert (found.model.size, found.model.sha256) == (model.stat().st_size, sha256(model))
    assert found.generation == {"temperature": 0.7, "top_k": 20, "repeat_penalty": 1.1}
    assert found.chat_template and found.eos_token == "<|im_end|>" and found.context_length == 8192
    assert set(found.tools) == {"cloister", "gguf", "llama-cpp-python"}
    assert str((init.volume / "current").readlink()) == "models/someone--small-llama/q8_0"
    assert init.progress["state"] == "ready" and init.progress["model"] == "someone--small-llama"


def test_nothing_is_left_on_the_way(init: Init, repo: str) -> None:
    init.ready("--model", repo)
    assert not list(init.volume.glob("work/*"))
    assert [name for name in init.written() if "part" in name or "checkpoint" in name] == []


def test_again_takes_a_moment_and_changes_nothing(init: Init, hub: Hub, repo: str) -> None:
    init.ready("--model", repo)
    before = {name: os.lstat(init.volume / name).st_mtime_ns for name in init.written()}
    requests = len(hub.requests)
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        init.ready("--model", repo)
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 2
    assert {name: os.lstat(init.volume / name).st_mtime_ns for name in init.written()} == before
    assert len(hub.requests) == requests


def test_another_quant_needs_no_second_download(init: Init, hub: Hub, repo: str) -> None:
    init.ready("--model", repo, "--quant", "q8_0")
    requests = len(hub.requests)
    init.ready("--model", repo, "--quant", "q4_0")
    assert len(hub.requests) == requests
    assert str((init.volume / "current").readlink()) == "models/someone--small-llama/q4_0"
    assert str((init.volume / "previous").readlink()) == "models/someone--small-llama/q8_0"
    init.ready("--model", repo, "--quant", "q8_0")
    assert str((init.volume / "current").readlink()) == "models/someone--small-llama/q8_0"


def test_without_keep_source_the_download_goes(init: Init, repo: str) -> None:
    init.ready("--model", repo, MODEL__KEEP_SOURCE="false")
    assert sorted(path.name for path in init.volume.rglob("*") if path.is_file()) == ["manifest.json", "model.gguf"]
    assert init.ready("--model", repo, MODEL__KEEP_SOURCE="false").count("\n") == 1


@pytest.mark.parametrize("quant", ["f16", "bf16"])
def test_unquantized_is_converted_directly(init: Init, small: Path, quant: str) -> None:
    log = init.ready("--model", str(small), "--quant", quant)
    assert init.current.quant == quant and "quantize done" not in log


def test_a_folder_is_read_in_place_and_its_change_is_noticed(init: Init, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my model"
    shutil.copytree(small, folder)
    before = {path: (path.stat().st_mtime_ns, sha256(path)) for path in folder.iterdir()}
    init.ready("--model", str(folder), "--quant", "q8_0")
    assert {path: (path.stat().st_mtime_ns, sha256(path)) for path in folder.iterdir()} == before
    first = init.current
    assert first.name.startswith("my-model-") and first.source.location == str(folder)
    for path in folder.iterdir():
        path.touch()
    assert "convert done" not in init.ready("--model", str(folder), "--quant", "q8_0"), "touched, but the same"
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"rope_theta": 100000', '"rope_theta": 200000'))
    assert "has changed" in init.ready("--model", str(folder), "--quant", "q8_0")
    assert init.current.model.sha256 != first.model.sha256
    shutil.rmtree(folder)
    assert "is not there any more" in init.ready("--model", str(folder), "--quant", "q8_0")


def test_folders_of_one_name_do_not_collide(init: Init, small: Path, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        shutil.copytree(small, tmp_path / parent / "model")
        init.ready("--model", str(tmp_path / parent / "model"), "--quant", "bf16")
    assert len(list((init.volume / "models").iterdir())) == 2


@pytest.fixture(scope="session")
def ggufs(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small model as small.bf16.gguf and small.q5_0.gguf."""
    folder = tmp_path_factory.mktemp("ggufs")
    init = Init(tmp_path_factory.mktemp("maker"), "http://127.0.0.1:9")
    for quant in ("bf16", "q5_0"):
        init.ready("--model", str(small), "--quant", quant)
        shutil.copy(init.volume / "current/model.gguf", folder / f"small.{quant}.gguf")
    return folder


def test_a_quantized_gguf_is_used_as_it_is(init: Init, ggufs: Path) -> None:
    file = ggufs / "small.q5_0.gguf"
    init.ready("--model", str(file))
    assert init.current.quant == "q5_0" and init.current.model.sha256 == sha256(file)
    assert init.current.source.kind == "gguf"
    assert init.ready("--model", str(file)).count("\n") == 1


def test_an_unquantized_gguf_is_quantized_unless_wanted_so(init: Init, ggufs: Path) -> None:
    init.ready("--model", str(ggufs / "small.bf16.gguf"), "--quant", "bf16")
    assert init.current.model.sha256 == sha256(ggufs / "small.bf16.gguf")
    init.ready("--model", str(ggufs / "small.bf16.gguf"), "--quant", "q5_0")
    assert init.current.quant == "q5_0" and init.current.model.sha256 == sha256(ggufs / "small.q5_0.gguf")


def test_a_gguf_of_a_repository(init: Init, hub: Hub, ggufs: Path) -> None:
    hub.add("someone/ggufs", ggufs)
    init.ready("--model", "someone/ggufs:small.q5_0.gguf")
    found = init.current
    assert found.name == "someone--ggufs--small.q5_0" and found.quant == "q5_0"
    assert [file.path for file in found.source.files] == ["small.q5_0.gguf"]
    assert hub.sent("small.bf16.gguf") == 0
    kept, model = init.volume / "sources/someone--ggufs--small.q5_0/ggufs/small.q5_0.gguf", init.volume / "current/model.gguf"
    assert kept.stat().st_ino == model.stat().st_ino, "one file on the disk"
    requests = len(hub.requests)
    init.ready("--model", "someone/ggufs:small.q5_0.gguf")
    assert len(hub.requests) == requests


def test_the_demo(demo_volume: Path) -> None:
    found = manifest.read(demo_volume / "current")
    assert (found.name, found.source.kind, found.context_length) == ("demo", "demo", 4096)
    assert found.bos_token == "<｜begin▁of▁sentence｜>" and found.generation == {"temperature": 0.6, "top_p": 0.95}
    assert [file.path for file in found.source.files] == ["demo.npz", "tokenizer.json.xz", "tokenizer_config.json.xz"]


def test_verify_reads_everything_again_and_names_what_is_wrong(init: Init, repo: str) -> None:
    init.ready("--model", repo)
    assert "verify done" in init.ready("--model", repo, "--verify")
    model, shard = (
        init.volume / "current/model.gguf",
        init.volume / "sources/someone--small-llama/small-llama/model-00002-of-00002.safetensors",
    )
    for path in (model, shard):
        stat = path.stat()
        with path.open("r+b") as file:
            file.seek(4242)
            byte = file.read(1)
            file.seek(4242)
            file.write(bytes([byte[0] ^ 1]))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a failing disk does it
    init.ready("--model", repo)
    sentence = init.refused("--model", repo, "--verify")
    assert "current/model.gguf" not in sentence and "q4_k_m/model.gguf is damaged: its SHA-256 is" in sentence
    assert f"{shard} is damaged" in sentence and sentence.count("start again") == 2
    assert init.progress["state"] == "failed" and "is damaged" in init.progress["error"]


def test_one_init_at_a_time(init: Init, hub: Hub, repo: str) -> None:
    hub.rate = 500_000
    with init.start("--model", repo) as first:
        while not hub.gets("model-00001-of-00002.safetensors"):
            assert first.poll() is None
            time.sleep(0.02)
        running = init.progress
        sentence = init.refused("--model", "demo")
        assert sentence == f"another init is at work in {init.volume}; wait until it is done, or stop it first"
        assert init.progress["model"] == running["model"], "the first one's progress stays"
        first.send_signal(signal.SIGTERM)
        _, log = first.communicate(timeout=30)
    assert first.returncode == 143
    assert "stopped by SIGTERM; the next start goes on where this one was" in log
    assert init.progress["state"] == "failed"


def test_ctrl_c_ends_it_even_in_the_middle_of_native_code(init: Init) -> None:
    with init.start("--model", "demo", "--quant", "q4_k_m") as process:
        progress = init.home / "run/progress.json"
        while not progress.exists() or init.progress["step"] != "quantize":
            assert process.poll() is None
            time.sleep(0.02)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - began < 15
    assert "Traceback" not in log and "stopped by SIGINT" in log
    assert (init.volume / "work/demo/q4_k_m/checkpoint.gguf").exists(), "the conversion is not done again"


def test_what_another_run_left_unfinished_is_removed(init: Init, repo: str) -> None:
    stale = init.volume / "work/some--thing/q8_0"
    stale.mkdir(parents=True)
    (stale / "checkpoint.gguf.part").write_bytes(bytes(3_000_000))
    assert "removed 3.0 MB that an earlier run left unfinished" in init.ready("--model", repo)
    assert not stale.exists()


def test_another_revision_is_another_model(init: Init, hub: Hub, small: Path, tmp_path: Path) -> None:
    old = hub.add(REPO, small, tag="v1")
    changed = tmp_path / "changed"
    shutil.copytree(small, changed)
    (changed / "generation_config.json").write_text('{"temperature": 0.1}')
    new = hub.add(REPO, changed)
    init.ready("--model", REPO, MODEL__REVISION="v1")
    assert init.current.source.commit == old and init.current.generation["temperature"] == 0.7
    sent = hub.sent("model-00001-of-00002.safetensors")
    init.ready("--model", REPO)
    assert init.current.source.commit == new and init.current.generation == {"temperature": 0.1}
    assert hub.sent("model-00001-of-00002.safetensors") == sent, "what is the same is not fetched again"
