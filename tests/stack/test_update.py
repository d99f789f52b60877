"""scripts/update beside the Docker stack: the model in its volume, and an unpacked bundle where Python is only in the images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.conftest import ROOT
from tests.osv import Osv, record
from tests.stack.conftest import REPO, Stack


def test_the_model_in_the_stacks_volume_is_compared_with_the_hub(stack: Stack) -> None:
    with Osv() as osv:
        done = stack.run(ROOT / "scripts/update", "--json", "--osv", osv.url, check=False)
    found = {one["topic"]: one for one in json.loads(done.stdout)}
    assert found["model"]["level"] == "ok", found
    assert found["model"]["facts"]["repo"] == REPO
    assert found["model"]["facts"]["here"] == found["model"]["facts"]["newest"]
    assert found["advisories"]["level"] == "ok"


def test_an_unpacked_bundle_looks_inside_of_an_image(stack: Stack, tmp_path: Path) -> None:
    """Where the bundle is, there may be no Python and is no network: one of its images looks."""
    for name in ("scripts", "config"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "RELEASE").write_text("release=none\n")
    for folder in ("sbom", "licences"):
        (tmp_path / folder).mkdir()
    for service in ("api", "ui"):
        volumes = ("--volume", f"{ROOT}/scripts/bundling:/bundling:ro", "--volume", f"{tmp_path}:/out")
        run = ("docker", "run", "--rm", "--network", "none", "--user", "0:0", *volumes, "--entrypoint", "python3")
        stack.run(*run, stack.image(service), "/bundling/inventory.py", f"cloister-{service}", "0", "/out")
    bill = json.loads((tmp_path / "sbom/cloister-ui.cdx.json").read_text())
    (version,) = [one["version"] for one in bill["components"] if one["name"] == "uvicorn"]
    with Osv(record("GHSA-0000-test-0001", "uvicorn", (version,), {"introduced": "0"}, {"fixed": "998.1"})) as osv:
        stack.run(ROOT / "scripts/update", "--osv", osv.url, "--save-advisories", tmp_path / "advisories.json")
    done = stack.run(tmp_path / "scripts/update", "--json", check=False)
    found = json.loads(done.stdout)
    assert (done.returncode, [one["level"] for one in found]) == (1, ["skip", "skip", "BAD", "ok"]), done.stdout + done.stderr
    assert found[2]["facts"]["where"] == ["api", "ui"]
    assert found[2]["facts"]["fixed"] == "998.1"
    shutil.copy(tmp_path / "advisories.json", tmp_path / "newer.json")
    (tmp_path / "advisories.json").unlink()
    done = stack.run(tmp_path / "scripts/update", "--advisories", tmp_path / "newer.json", check=False)
    assert done.returncode == 1 and "uvicorn 998.1 mends it" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["RELEASE", "config", "licences", "newer.json", "sbom", "scripts"]
