"""What is wrong with a model, made to be so: its source, its files, its tokenizer, its template."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.diagnosis import probe, talk
from scripts.diagnosis import volume as model
from services.shared import manifest, settings
from tests import checkpoints
from tests.conftest import ROOT, environment
from tests.doctor.conftest import Visit, one, rewrite, scene, visit
from tests.hub import Hub

REPO = "someone/small-llama"


def flip(file: Path, at: int) -> None:
    """Change one byte."""
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


def init(home: Path, *options: str, env: dict[str, str] | None = None, **config: object) -> subprocess.CompletedProcess[str]:
    """`python -m services.init` to its end."""
    command = [sys.executable, "-m", "services.init", *options]
    return subprocess.run(
        command, cwd=ROOT, env=environment(home, **config) | (env or {}), capture_output=True, text=True, timeout=250, check=False
    )


def demo(home: Path, *options: str) -> Visit:
    return visit(home, *options, MODEL__NAME="demo")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A Llama checkpoint of 7 MB."""
    (recipe,) = [recipe for recipe in checkpoints.RECIPES if recipe.name == "SmolLM2-135M-Instruct"]
    return checkpoints.write(dataclasses.replace(recipe, shards=2), tmp_path / "small")


@pytest.fixture
def hub(small: Path) -> Iterator[Hub]:
    """A hub that has it."""
    with Hub() as hub:
        hub.add(REPO, small)
        yield hub


def test_a_whole_model(volume: Path, tmp_path: Path) -> None:
    seen = demo(tmp_path)
    assert seen.code == 0
    seen.found("ok", "model", "every byte of 1 files", "is what the manifest says")
    seen.found("ok", "text", "Chinese, emoji and code come back")
    seen.found("ok", "text", "chat template")
    seen.found("ok", "cpu", "llama.cpp")
    seen.found("ok", "speed", "threads read", "from memory")
    seen.found("skip", "running", "scripts/up")
    assert not [item for item in seen.findings if item.level in ("warn", "BAD")], seen.findings


def test_a_flipped_byte(volume: Path, tmp_path: Path) -> None:
    file = (volume / "current").resolve() / "model.gguf"
    flip(file, file.stat().st_size // 2)
    told = demo(tmp_path).found("BAD", "model", str(file), "is damaged", "SHA-256")
    assert "scripts/up" in told.todo
    demo(tmp_path, "--quick").found("skip", "model", "--quick")


def test_the_model_that_the_engine_is_told_to_open(volume: Path, tmp_path: Path) -> None:
    """Not the current one, where [engine] model names another."""
    card = manifest.read(volume / "current")
    other = Path(shutil.copytree((volume / "current").resolve(), volume / "models/demo/other"))
    dataclasses.replace(card, quant="other", title="The Other").write(other)
    flip(other / "model.gguf", card.model.size // 2)
    named = visit(tmp_path, MODEL__NAME="demo", ENGINE__MODEL=f"demo other {card.model.sha256[:12]}")
    named.found("ok", "model", "The Other, other")
    named.found("BAD", "model", str(other), "is damaged")
    named.found("ok", "text", "chat template")
    visit(tmp_path, "--quick", MODEL__NAME="demo", ENGINE__MODEL="demo").found("BAD", "model", "[engine] model must be")


def test_a_cut_file(volume: Path, tmp_path: Path) -> None:
    file = (volume / "current").resolve() / "model.gguf"
    with file.open("r+b") as opened:
        opened.truncate(1_000_000)
    seen = demo(tmp_path)
    seen.found("BAD", "model", str(file), "has 1000000 bytes")
    seen.found("BAD", "text", "tokenizer does not work")


def test_no_file(volume: Path, tmp_path: Path) -> None:
    (volume / "current").resolve().joinpath("model.gguf").unlink()
    demo(tmp_path).found("BAD", "model", "model.gguf is damaged: it is not there")


def test_a_manifest_with_another_hash(volume: Path, tmp_path: Path) -> None:
    card = manifest.read(volume / "current")
    rewrite(volume, model=dataclasses.replace(card.model, sha256="0" * 64))
    demo(tmp_path).found("BAD", "model", "the manifest says 0000000000000000")


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 7}', ""])
def test_a_manifest_that_is_none(volume: Path, tmp_path: Path, text: str) -> None:
    (volume / "current").resolve().joinpath("manifest.json").write_text(text)
    seen = demo(tmp_path, "--quick")
    seen.found("BAD", "model", "manifest.json")
    seen.found("skip", "text")


def test_a_tokenizer_that_garbles_chinese(volume: Path, tmp_path: Path) -> None:
    """The token of a byte that rare characters are written with gets another text: there is no way to write that byte any more."""
    file = (volume / "current").resolve() / "model.gguf"
    data = file.read_bytes()
    byte, other = ((2).to_bytes(8, "little") + text.encode() for text in ("¿", "Ж"))  # ¿ stands for BF
    assert data.count(byte) >= 1
    file.write_bytes(data.replace(byte, other, 1))
    told = demo(tmp_path).found("BAD", "text", "the tokenizer does not give back what goes in", "𡿺")
    assert "own tokenizer files" in told.todo


def test_a_file_that_is_no_gguf(volume: Path, tmp_path: Path) -> None:
    flip((volume / "current").resolve() / "model.gguf", 0)
    one(talk.examine(scene(tmp_path, MODEL__NAME="demo")), "BAD", "text", "can't load its vocabulary")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}", "not valid"),
        ("{{ messages[0].content[:3] }}", "drops"),
        ("{{ messages[0].content }}", "drops message 1"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "takes more than"),
        ("", "there is none"),
    ],
)
def test_a_broken_template(volume: Path, tmp_path: Path, template: str, reason: str) -> None:
    rewrite(volume, chat_template=template)
    one(talk.examine(scene(tmp_path, MODEL__NAME="demo")), "BAD", "text", "chat template does not work", reason)


def test_an_architecture_that_can_not_be_converted(small: Path, tmp_path: Path) -> None:
    config = json.loads((small / "config.json").read_text()) | {"architectures": ["MambaForCausalLM"]}
    (small / "config.json").write_text(json.dumps(config))
    told = one(model.examine(scene(tmp_path, MODEL__NAME=small)), "BAD", "model", "MambaForCausalLM")
    assert "owner/repo:file.gguf" in told.todo
    assert init(tmp_path, "--model", str(small)).returncode == 1
    visit(tmp_path, "--quick", MODEL__NAME=small).found("BAD", "running", "could not be prepared", "MambaForCausalLM")


def test_a_hub_that_can_not_be_reached(tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    assert init(tmp_path, "--model", REPO, env=nowhere).returncode == 1
    seen = visit(tmp_path, "--quick", MODEL__NAME=REPO)
    assert "HF_ENDPOINT=" in seen.found("BAD", "running", "http://127.0.0.1:9 can't be reached").todo
    seen.found("skip", "memory", "only the hub knows how large")
    assert init(tmp_path, "--model", REPO, env=nowhere, MODEL__FALLBACK="demo").returncode == 0
    seen = visit(tmp_path, "--quick", MODEL__NAME=REPO)
    assert "HF_ENDPOINT=" in seen.found("warn", "running", "demo model stands in").todo
    seen.found("warn", "model", "the prepared model is demo, the wanted one someone--small-llama")


def test_a_download_that_was_cut(hub: Hub, tmp_path: Path) -> None:
    """Killed like a machine that is switched off."""
    hub.rate = 1e6
    env = environment(tmp_path) | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-m", "services.init", "--model", REPO, "--quant", "q8_0"]
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while probe.facts(settings.load(env))["parts"] < 100_000:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    seen = visit(tmp_path, "--quick", MODEL__NAME=REPO, MODEL__QUANT="q8_0")
    assert "goes on where it was" in seen.found("warn", "disk", "a download was cut").todo
    seen.found("warn", "running", "cut in its midst")
    hub.rate = None
    again = init(tmp_path, "--model", REPO, "--quant", "q8_0", env={"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf")})
    assert again.returncode == 0, again.stderr
    seen = visit(tmp_path, "--quick", MODEL__NAME=REPO, MODEL__QUANT="q8_0")
    assert not [item for item in seen.findings if item.topic in ("disk", "running") and item.level in ("warn", "BAD")]


def test_a_downloaded_file_that_was_damaged(hub: Hub, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf")}
    assert init(tmp_path, "--model", REPO, "--quant", "q8_0", env=env).returncode == 0
    kept = next(tmp_path.glob("volume/sources/*/*/model-00002-of-00002.safetensors"))
    config = {"MODEL__NAME": REPO, "MODEL__QUANT": "q8_0"}
    one(model.examine(scene(tmp_path, **config)), "ok", "model", "is what the manifest says")
    flip(kept, 5000)
    one(model.examine(scene(tmp_path, **config)), "BAD", "model", str(kept), "is damaged")
    shutil.rmtree(kept.parent)  # what is not kept is not missed
    one(model.examine(scene(tmp_path, **config)), "ok", "model", "of 1 files")
