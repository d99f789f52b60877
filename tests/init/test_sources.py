"""What a name means, without asking anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.init import catalog, sources
from services.init.errors import SettingsProblem
from services.init.sources import Source, resolve

CATALOG = catalog.load()


def test_the_catalog_holds_what_the_readme_promises() -> None:
    assert {name: entry.repo for name, entry in CATALOG.items()} == {
        "deepseek-r1-distill-qwen-1.5b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        "deepseek-r1-distill-qwen-7b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "deepseek-r1-distill-llama-8b": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
        "qwen3-0.6b": "Qwen/Qwen3-0.6B",
        "qwen3-1.7b": "Qwen/Qwen3-1.7B",
        "qwen3-4b": "Qwen/Qwen3-4B",
        "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
    }
    assert CATALOG["deepseek-r1-distill-qwen-1.5b"].generation == {"temperature": 0.6, "top_p": 0.95}


@pytest.mark.parametrize("name", CATALOG)
def test_a_catalog_name(name: str) -> None:
    entry = CATALOG[name]
    assert resolve(name, "main", CATALOG) == Source("hub", name, entry.title, entry.repo, "main", generation=entry.generation)


def test_hub_names() -> None:
    assert resolve("a/b", "v1", CATALOG) == Source("hub", "a--b", "a/b", "a/b", "v1")
    assert resolve("a/b:x/m-Q4_K_M.gguf", "main", CATALOG) == Source(
        "hub", "a--b--m-Q4_K_M", "a/b:x/m-Q4_K_M.gguf", "a/b", "main", "x/m-Q4_K_M.gguf"
    )


@pytest.mark.parametrize(
    "name",
    [
        "a/b:../c.gguf",
        "a/b:/c.gguf",
        "a/b:c.bin",
        "a/b:c-00001-of-00002.gguf",
        "/x/c-00002-of-00002.gguf",
        "..",
        "../..",
        "a/../b",
        "nothing",
        "x.gguf",
        "a/b/c",
        "-a/b",
        "a/.b",
    ],
)
def test_names_that_mean_nothing_or_lead_away(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name in ("..", "../.."):
        assert resolve(name, "main", CATALOG).kind == "folder"
    else:
        with pytest.raises(SettingsProblem):
            resolve(name, "main", CATALOG)


def test_folders_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "中文 model.gguf").write_bytes(b"GGUF")
    folder = resolve("a/b", "main", CATALOG)
    assert (folder.kind, folder.location, folder.title) == ("folder", tmp_path / "a/b", "b"), "what exists goes before the hub"
    assert resolve("./a/b", "main", CATALOG) == resolve(str(tmp_path / "a/b"), "main", CATALOG) == folder
    file = resolve("中文 model.gguf", "main", CATALOG)
    assert file.kind == "gguf" and file.name.startswith("model-") and file.name.isascii()
    assert resolve("demo", "main", CATALOG) == sources.demo()


def test_a_broken_catalog_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text('[a]\nrepo = "x/y"\nsize = 3\n')
    with pytest.raises(SettingsProblem, match=r"models\.toml: every model has the fields repo, title, parameters, licence, generation"):
        catalog.load(tmp_path / "models.toml")
    (tmp_path / "models.toml").write_text("[a")
    with pytest.raises(SettingsProblem, match="the catalog can't be read"):
        catalog.load(tmp_path / "models.toml")
