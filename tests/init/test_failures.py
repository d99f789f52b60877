"""What a person sees when it can't be done: the one sentence and the exit code of the real command."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.init.conftest import REPO, Init

WAYS_OUT = (
    "set HF_ENDPOINT to a mirror that can be reached, or [model] name to a folder with a Hugging Face checkpoint, to a .gguf file, "
    "or to demo; the next start tries again"
)


def test_no_disk(init: Init, hub: Hub, small: Path) -> None:
    """The hub announces 900 TB; nothing is downloaded but the sizes and config.json."""
    commit = hub.add(REPO, small)
    entries = hub.repositories[REPO].commits[commit]
    for name in [name for name in entries if name.endswith(".safetensors")]:
        entries[name] = dataclasses.replace(entries[name], size=450_000_000_000_000)
    sentence = init.refused("--model", REPO, "--quant", "q4_0")
    assert re.fullmatch(
        r"not enough disk for someone/small-llama at q4_0: preparing it takes 900\.0 TB "
        r"\(download 900\.0 TB, conversion 9\.6 MB, result [\d.]+ MB, reserve 100\.0 MB\), and [\d.]+ [GT]B are free in \S+; "
        r"free some space, set \[paths\] volume to a larger disk, or choose a smaller model or quant",
        sentence,
    )
    assert init.written() == [] and init.progress["error"] == sentence and init.progress["state"] == "failed"


def test_no_memory(init: Init, hub: Hub, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "long"
    shutil.copytree(small, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"num_hidden_layers": 200, "num_key_value_heads": 4, "num_attention_heads": 4, "head_dim": 128})
    )
    hub.add(REPO, folder)
    sentence = init.refused("--model", REPO, ENGINE__CELLS=4194304)
    assert re.fullmatch(
        r"not enough memory for someone/small-llama at q4_k_m: it takes 1\.7 TB "
        r"\(weights [\d.]+ MB, KV cache of 4194304 cells 1\.7 TB, store 268\.4 MB, computing 300\.0 MB\), and [\d.]+ GB are available; "
        r"choose a smaller model or quant, lower \[engine\] cells or store, or give the machine or container more memory",
        sentence,
    )
    assert init.written() == []


def test_an_unknown_architecture_before_anything_is_downloaded(init: Init, hub: Hub, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mamba"
    shutil.copytree(small, folder)
    (folder / "config.json").write_text('{"architectures": ["MambaForCausalLM"], "model_type": "mamba"}')
    hub.add(REPO, folder)
    for name in (REPO, str(folder)):
        sentence = init.refused("--model", name)
        assert "MambaForCausalLM" in sentence and "Qwen2ForCausalLM, Qwen3ForCausalLM, LlamaForCausalLM" in sentence
        assert "use a ready GGUF" in sentence
    assert init.written() == [] and hub.sent("model-00001-of-00002.safetensors") == 0


def test_hub_down(init: Init) -> None:
    sentence = init.refused("--model", "qwen3-0.6b", HF_ENDPOINT="http://127.0.0.1:9")
    assert (
        sentence.startswith("http://127.0.0.1:9 can't be reached for Qwen/Qwen3-0.6B: the connection to the hub failed")
        and WAYS_OUT in sentence
    )
    assert init.written() == []


def test_a_hub_whose_name_does_not_resolve(init: Init) -> None:
    sentence = init.refused("--model", "qwen3-0.6b", HF_ENDPOINT="http://hub.invalid")
    assert sentence.startswith("http://hub.invalid can't be reached for Qwen/Qwen3-0.6B") and WAYS_OUT in sentence


def test_a_hub_that_keeps_failing(init: Init, hub: Hub, repo: str) -> None:
    hub.fault("GET", status=502, times=None)
    assert f"keeps failing for {repo}: the hub answered 502 Bad Gateway; {WAYS_OUT}" in init.refused("--model", repo)


def test_offline(init: Init, repo: str) -> None:
    assert init.refused("--model", repo, HF_HUB_OFFLINE="1").startswith(
        f"{repo} is not downloaded and HF_HUB_OFFLINE forbids to ask the hub; {WAYS_OUT}"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("deepseek-r1-distil-qwen-1.5b", "did you mean deepseek-r1-distill-qwen-1.5b"),
        ("Qwen3-0.6B", "did you mean qwen3-0.6b"),
        ("zzz", "Known are deepseek"),
    ],
)
def test_an_unknown_name(init: Init, name: str, meant: str) -> None:
    sentence = init.refused("--model", name, code=2)
    assert sentence.startswith(f"[model] name: unknown model {name!r}; ") and meant in sentence
    assert "owner/repo:file.gguf" in sentence and init.written() == []


def test_an_unknown_quant_and_an_unknown_setting(init: Init) -> None:
    assert init.refused("--quant", "q3_k", code=2).startswith("init: CLOISTER_MODEL__QUANT must be one of q4_0, q4_k_m")
    assert "unknown setting CLOISTER_MODEL__NAMEE" in init.refused(code=2, MODEL__NAMEE="demo")


def test_gated_and_private(init: Init, hub: Hub, repo: str) -> None:
    hub.repositories[repo].gated = True
    sentence = init.refused("--model", repo)
    assert sentence == f"{repo} is gated: accept its licence on {hub.endpoint}/{repo}, and set HF_TOKEN to a token of that account"
    hub.repositories[repo].private = True
    sentence = init.refused("--model", repo)
    assert sentence == f"{hub.endpoint} has no model {repo}, or it is private: check the name, or set HF_TOKEN to a token that may read it"
    sentence = init.refused("--model", repo, HF_TOKEN="hf_wrong")
    assert sentence == f"{hub.endpoint} refuses access to {repo} (401): set HF_TOKEN to a token that may read it"
    assert "hf_wrong" not in sentence and init.written() == []


def test_no_such_repository_revision_or_file(init: Init, hub: Hub, repo: str) -> None:
    assert f"{hub.endpoint} has no model someone/else, or it is private" in init.refused("--model", "someone/else")
    assert f"{repo} has no revision 'v9'" in init.refused("--model", repo, MODEL__REVISION="v9")
    assert init.refused("--model", f"{repo}:x.gguf") == f"{repo} has no file x.gguf at main; its GGUF files: none"
    assert "[model] name: after the colon" in init.refused("--model", f"{repo}:model.bin", code=2)


def test_only_pickles(init: Init, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("pytorch_model.bin", "config.json"):
        (tmp_path / "old" / name).write_text("{}")
    hub.add(REPO, tmp_path / "old")
    for name in (REPO, str(tmp_path / "old")):
        sentence = init.refused("--model", name)
        assert sentence.startswith(f"{name} has its weights only as pickles (pytorch_model.bin), which can run code when they are loaded")
        assert "use a repository or revision with safetensors, or a ready GGUF" in sentence
    assert hub.sent("pytorch_model.bin") == 0


def test_only_ggufs_or_nothing(init: Init, hub: Hub, tmp_path: Path) -> None:
    for name in ("ggufs/a.gguf", "data/data.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    hub.add(REPO, tmp_path / "ggufs")
    assert init.refused("--model", REPO) == f"{REPO} has no safetensors but 1 GGUF files; name one of them, such as {REPO}:a.gguf"
    hub.add("someone/data", tmp_path / "data")
    assert "someone/data has no safetensors, so it is no checkpoint that can be converted; found: data.csv" in init.refused(
        "--model", "someone/data"
    )


def test_no_such_folder_or_file(init: Init, tmp_path: Path) -> None:
    assert init.refused("--model", str(tmp_path / "no")) == f"the folder {tmp_path / 'no'} can't be read: No such file or directory"
    assert init.refused("--model", str(tmp_path / "no.gguf")) == f"{tmp_path / 'no.gguf'} can't be read: No such file or directory"
    (tmp_path / "x.txt").write_text("x")
    assert "a file must be a .gguf" in init.refused("--model", str(tmp_path / "x.txt"), code=2)
    (tmp_path / "x.gguf").write_text("this is text")
    assert "is no GGUF file" in init.refused("--model", str(tmp_path / "x.gguf"))


def test_a_volume_that_can_not_be_written(init: Init) -> None:
    sentence = init.refused("--model", "demo", PATHS__VOLUME="/proc/volume")
    assert sentence.startswith("the volume /proc/volume can't be opened: ") and "[paths] volume" in sentence


def test_something_else_that_answers(init: Init, hub: Hub) -> None:
    hub.fault("GET /api/", status=200, headers={"Content-Type": "text/html"}, times=None)
    sentence = init.refused("--model", REPO)
    assert f"{hub.endpoint} does not answer like a hub for {REPO}" in sentence and "check HF_ENDPOINT and the proxy settings" in sentence
