"""What scripts/bundle runs inside of containers, run here: images, bills of materials, licences, the manual."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest

from scripts.bundling import images, inventory, manual
from tests.conftest import ROOT

# What https://cyclonedx.org/docs/1.6/json/ requires of the parts that are written.
COMPONENT = {
    "type": "object",
    "required": ["type", "name"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["library", "container"]},
        "bom-ref": {"type": "string", "minLength": 1},
        "name": {"type": "string"},
        "version": {"type": "string", "maxLength": 1024},
        "description": {"type": "string"},
        "purl": {"type": "string", "pattern": r"^pkg:(deb/[a-z]+|pypi)/[^@/]+@[^/]+$"},
        "licenses": {
            "type": "array",
            "maxItems": 1,
            "items": {
                "oneOf": [
                    {"required": ["expression"], "additionalProperties": False, "properties": {"expression": {"type": "string"}}},
                    {
                        "required": ["license"],
                        "additionalProperties": False,
                        "properties": {"license": {"type": "object", "required": ["name"]}},
                    },
                ]
            },
        },
    },
}
BOM = {
    "type": "object",
    "required": ["bomFormat", "specVersion"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"const": "http://cyclonedx.org/schema/bom-1.6.schema.json"},
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"const": "1.6"},
        "version": {"type": "integer", "minimum": 1},
        "metadata": {"type": "object", "properties": {"component": COMPONENT}, "additionalProperties": False},
        "components": {"type": "array", "items": COMPONENT, "uniqueItems": True},
        "dependencies": {"type": "array", "items": {"type": "object", "required": ["ref"]}},
    },
}


def archive(files: dict[str, bytes], links: dict[str, str], time: int) -> io.BytesIO:
    """A tar of these files and symbolic links, as an engine may write it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), time
            tar.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    out.seek(0)
    return out


def entry(name: str, config: str, *layers: str) -> dict[str, object]:
    return {"Config": config, "RepoTags": [f"{name}:1"], "Layers": list(layers)}


def test_archives_of_two_engines_become_the_same_files(tmp_path: Path) -> None:
    """An old engine writes folders and links, a new one blobs and an index beside them; times and order differ."""
    base, own, first, second = b"base layer", b"its own layer", b'{"a": 1}', b'{"b": 2}'
    old = [entry("a", "c1.json", "l1/layer.tar"), entry("b", "c2.json", "l2/layer.tar", "l3/layer.tar")]
    files = {"l1/layer.tar": base, "l1/VERSION": b"1.0", "l3/layer.tar": own, "c1.json": first, "c2.json": second}
    written = archive({**files, "manifest.json": json.dumps(old).encode(), "repositories": b"{}"}, {"l2/layer.tar": "../l1/layer.tar"}, 1)
    blob = {content: f"blobs/sha256/{hashlib.sha256(content).hexdigest()}" for content in (base, own, first, second)}
    new = [entry("b", blob[second], blob[base], blob[own]), entry("a", blob[first], blob[base])]
    newer = {"oci-layout": b"{}", "index.json": b"[]", "manifest.json": json.dumps(new).encode(), **{v: k for k, v in blob.items()}}
    for folder, tar in (("old", written), ("new", archive(newer, {}, 2))):
        (tmp_path / folder).mkdir()
        assert sorted(images.normalise(tar, tmp_path / folder)) == ["a:1", "b:1"]
    found = {file.name: file.read_bytes() for file in (tmp_path / "old").iterdir()}
    assert found == {file.name: file.read_bytes() for file in (tmp_path / "new").iterdir()}
    assert len(found) == 5 and set(found.values()) >= {base, own, first, second}
    assert all(name == "manifest.json" or hashlib.sha256(content).hexdigest() == name.split(".")[0] for name, content in found.items())
    described = json.loads(found["manifest.json"])
    assert [(image["RepoTags"], [found[layer] for layer in image["Layers"]]) for image in described] == [
        (["a:1"], [base]),
        (["b:1"], [base, own]),
    ]


def test_an_archive_that_was_cut_is_no_bundle(tmp_path: Path) -> None:
    program = [sys.executable, ROOT / "scripts/bundling/images.py", tmp_path]
    tar = archive({"l1/layer.tar": b"x"}, {}, 1).getvalue()
    done = subprocess.run(program, input=tar, capture_output=True, check=False)
    assert done.returncode == 1 and b"docker save did not write 'manifest.json'" in done.stderr


@pytest.fixture(scope="module")
def packages() -> list[inventory.Package]:
    """What is installed here: a Debian like that of the images, and this Python's distributions."""
    if not Path("/var/lib/dpkg/status").exists():
        pytest.skip("no Debian here")
    return sorted({package.url: package for package in inventory.debian() + inventory.python()}.values())


def test_the_bill_of_materials_is_cyclonedx_and_names_everything(packages: list[inventory.Package]) -> None:
    text = inventory.sbom(packages, "cloister-x", "1")
    bom = json.loads(text)
    jsonschema.validate(bom, BOM)
    urls = [component["purl"] for component in bom["components"]]
    references = [component["bom-ref"] for component in bom["components"]]
    assert len(set(references)) == len(references) and set(bom["dependencies"][0]["dependsOn"]) == set(references)
    installed = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n"], capture_output=True, text=True, check=True)
    names = {line.split()[1] for line in installed.stdout.splitlines() if line.startswith("installed ")}
    assert {unquote(re.split(r"[/@]", url)[2]) for url in urls if url.startswith("pkg:deb/")} == names
    assert any(url.startswith("pkg:pypi/pytest@") for url in urls)
    pytest_itself = next(component for component in bom["components"] if component["purl"].startswith("pkg:pypi/pytest@"))
    assert next(iter(pytest_itself["licenses"][0].values())) in ("MIT", {"name": "MIT"})
    assert text == inventory.sbom(sorted(packages), "cloister-x", "1")


def test_the_licences_hold_the_texts(packages: list[inventory.Package]) -> None:
    text = inventory.licences(packages)
    assert re.search(r"^=+\npytest \S+ \(pypi\): MIT.*\n=+\nThe MIT License", text, re.MULTILINE)
    assert text.count(" (pypi)") == len([package for package in packages if package.kind == "pypi"])


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_manual_is_one_page_that_loads_nothing(name: str) -> None:
    text = manual.page(ROOT / name)
    assert (
        re.findall(r'(?:src|href)="(?!data:image/png;base64,|https?://127|#|docs/|config/|services/|LICENSE|README[\w.-]*\.html)', text)
        == []
    )
    assert "<script" not in text and "default-src 'none'" in text
    assert ('lang="zh-CN"' in text) == ("zh-CN" in name)
    assert text.count("<table>") >= 3 and "data:image/png;base64,iVBOR" in text
    for target in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{target}"' in text, target


def test_every_sentence_of_the_manual_is_said_and_provoked() -> None:
    """docs/airgap.md's table of what may be wrong: the installer says each sentence, and a test hears it."""

    def text(*files: Path) -> str:
        return " ".join(" ".join(file.read_text().split()) for file in files)

    said = text(*(ROOT / "scripts/installing").iterdir())
    heard = text(*(ROOT / "tests/stack").glob("test_*.py"))
    table = (ROOT / "docs/airgap.md").read_text().split("## What may be wrong")[1].split("\n## ")[0]
    sentences = [
        sentence for row in re.findall(r"^\|.*\| (.*) \|$", table, re.MULTILINE) for sentence in re.findall(r"`([^`]* [^`]*)`", row)
    ]
    assert len(sentences) > 20
    for sentence in sentences:
        parts = [part for found in re.split(r"\S*[…\d]\S*", sentence) if len(part := found.split()) > 1]
        if not parts:
            continue  # one word between names and numbers
        runs = [" ".join(part[at : at + 3]) for part in parts for at in range(max(1, len(part) - 2))]
        assert any(run in said for run in runs), f"nobody says: {sentence}"
        assert any(run in heard for run in runs), f"no test hears: {sentence}"
