"""scripts/update in a checkout of its own, against a real hub, a real git remote and a real OSV; pip-audit really runs."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.updating import advisories, audit
from scripts.updating.advisories import Database
from scripts.updating.model import Change, compare
from scripts.updating.release import newer_than
from scripts.updating.shipped import shipped
from services.init.errors import SourceError
from services.init.hub import Listing
from services.init.verify import Expected
from services.shared import VERSION, manifest
from tests import checkpoints
from tests.conftest import ROOT, environment
from tests.hub import Hub
from tests.osv import Osv, record

REPO = "someone/small-llama"
NOBODY = "http://127.0.0.1:9/v1/query"
HERE = {package.name: package.version for package in shipped(ROOT)}
PINNED = (ROOT / "services/init/requirements.txt").read_text()
NUMPY = sorted(re.findall(r"^numpy==(\S+)", PINNED, re.MULTILINE))[0]  # the older one, for Python 3.11
SERIOUS = record(
    "GHSA-0000-test-0001",
    "uvicorn",
    (HERE["uvicorn"],),
    *({"introduced": "0"}, {"fixed": "0.0.1"}, {"introduced": "0.2"}, {"fixed": "998.1"}),
    aliases=["CVE-0000-0001"],
)
SAME = record(
    "PYSEC-0000-1",
    "uvicorn",
    (HERE["uvicorn"],),
    *({"introduced": "0"}, {"fixed": "998.1"}),
    aliases=["CVE-0000-0001", "GHSA-0000-test-0001"],
)
UNMENDED = record("GHSA-0000-test-0002", "numpy", (NUMPY,), {"introduced": NUMPY}, {"last_affected": NUMPY})
HARMLESS = (
    record("GHSA-0000-test-0003", "jinja2", ("1.0", "1.1"), {"introduced": "0"}, {"fixed": "1.2"}),
    record("GHSA-0000-test-0004", "jinja2", (HERE["jinja2"],), {"introduced": "0"}, withdrawn="2026-03-01T00:00:00Z"),
    record("GHSA-0000-test-0005", "jinja2", (), {"introduced": "999"}),
)
FOUND = {
    ("uvicorn", HERE["uvicorn"], ("CVE-0000-0001", "GHSA-0000-test-0001", "PYSEC-0000-1"), "998.1"),
    ("numpy", NUMPY, ("GHSA-0000-test-0002",), None),
}


def git(folder: Path, *arguments: str) -> str:
    command = ("git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@example.invalid", *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with an origin that has the tag of the version here."""
    folder = tmp_path_factory.mktemp("update") / "checkout"
    for name in ("scripts", "services", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "demo"))
    shutil.copy(ROOT / ".gitignore", folder)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    git(folder.parent, "init", "--quiet", "--bare", "origin.git")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "remote", "add", "origin", str(folder.parent / "origin.git"))
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "as here")
    git(folder, "tag", f"v{VERSION}")
    git(folder, "push", "--quiet", "origin", "main", f"v{VERSION}")
    return folder


@pytest.fixture
def tagged(place: Path) -> Iterator[list[str]]:
    """Tags put into the list are made on the origin by `scripts` of World; they are gone afterwards."""
    tags: list[str] = []
    yield tags
    for tag in tags:
        git(place, "push", "--quiet", "origin", f":refs/tags/{tag}")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (recipe,) = [recipe for recipe in checkpoints.RECIPES if recipe.name == "SmolLM2-135M-Instruct"]
    return checkpoints.write(dataclasses.replace(recipe, shards=2, generation={"temperature": 0.7}), tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def home(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the model of the hub's first commit in its volume."""
    folder = tmp_path_factory.mktemp("home")
    with Hub() as hub:
        hub.add(REPO, checkpoint)
        env = environment(folder) | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "hf")}
        command = [sys.executable, "-m", "services.init", "--model", REPO, "--quant", "q8_0"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[Hub]:
    with Hub() as hub:
        hub.add(REPO, checkpoint)
        yield hub


@pytest.fixture
def osv() -> Iterator[Osv]:
    with Osv(*HARMLESS) as osv:
        yield osv


@dataclasses.dataclass
class Update:
    """What a run said."""

    code: int
    findings: list[dict[str, Any]]
    err: str

    def of(self, topic: str) -> dict[str, Any]:
        """The first finding on a topic."""
        return next(one for one in self.findings if one["topic"] == topic)

    @property
    def vulnerable(self) -> set[tuple[str, str, tuple[str, ...], str | None]]:
        bad = [one["facts"] for one in self.findings if one["level"] == "BAD"]
        return {(one["package"], one["version"], tuple(sorted(one["names"])), one["fixed"]) for one in bad}


class World:
    """The checkout, a home and everybody who is asked."""

    def __init__(self, place: Path, home: Path, hub: Hub, osv: Osv) -> None:
        self.place, self.home, self.hub, self.osv = place, home, hub, osv
        self.settings: dict[str, object] = {"MODEL__NAME": REPO}

    def run(self, *arguments: str, place: Path | None = None, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        env = environment(self.home, **self.settings) | {"HF_ENDPOINT": self.hub.endpoint, "HF_HOME": str(self.home / "hf")} | more
        command = [(place or self.place) / "scripts/update", "--osv", self.osv.url, *arguments]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=280)

    def update(self, *arguments: str, **more: Any) -> Update:
        done = self.run("--json", *arguments, **more)
        assert "Traceback" not in done.stderr
        assert done.stdout.startswith("["), done.stderr
        return Update(done.returncode, json.loads(done.stdout), done.stderr)

    def unaudited(self, **more: Any) -> Update:
        """Where OSV is away, so that pip-audit is not asked, which takes most of a run: for tests of other topics."""
        said = self.update("--osv", NOBODY, **more)
        assert said.of("advisories")["level"] == "FAIL"
        return said


@pytest.fixture
def world(place: Path, home: Path, hub: Hub, osv: Osv) -> World:
    return World(place, home, hub, osv)


def changed(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint as a later commit has it: one small file changed, one new, one gone, the weights as before."""
    shutil.copytree(checkpoint, folder)
    (folder / "config.json").write_text((checkpoint / "config.json").read_text() + "\n")
    (folder / "special_tokens_map.json").write_text("{}")
    (folder / "generation_config.json").unlink()
    (folder / "README.md").write_text("not a file of the model")
    return folder


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and "hf" not in file.parts]
    return {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


def test_nothing_is_new_and_nothing_is_changed(world: World) -> None:
    before = snapshot(world.place, world.home)
    done = world.run()
    assert done.returncode == 0, done.stdout + done.stderr
    model, release, packages = done.stdout.splitlines()
    commit = manifest.read(world.home / "volume/current").source.commit
    assert commit
    assert model == f"ok    model: {REPO} has nothing newer on main at {commit[:12]}"
    assert release.startswith(f"ok    release: {VERSION} is the newest")
    assert packages.startswith(f"ok    advisories: no known vulnerability in {len(shipped(ROOT))} packages, as OSV knows them now")
    assert "0 new, 0 could not be asked. Nothing was changed" in done.stderr
    assert snapshot(world.place, world.home) == before
    assert git(world.place, "status", "--porcelain") == ""
    asked = {(query["package"]["name"], query["version"]) for query in world.osv.queries}
    assert asked == {(package.name, package.version) for package in shipped(ROOT)}
    assert [request.file for request in world.hub.requests if request.file] == []


def test_a_new_commit_tells_its_files_and_bytes(world: World, checkpoint: Path, tmp_path: Path) -> None:
    commit = world.hub.add(REPO, changed(checkpoint, tmp_path / "later"))
    said = world.unaudited()
    found = said.of("model")
    assert (said.code, found["level"]) == (1, "NEW")
    facts = found["facts"]
    assert facts["changed"] == ["config.json"] and facts["new"] == ["special_tokens_map.json"]
    assert facts["gone"] == ["generation_config.json"]
    kept = any((world.home / "volume/sources").rglob("*.safetensors"))
    wanted = {"config.json", "special_tokens_map.json"} | (
        set() if kept else {file.path for file in source(world).files} - set(facts["gone"])
    )
    assert facts["bytes"] == sum((tmp_path / "later" / name).stat().st_size for name in wanted)
    assert found["todo"] == f"CLOISTER_MODEL__REVISION={commit} scripts/up"


def test_doing_what_is_said_brings_the_new_commit(world: World, checkpoint: Path, tmp_path: Path) -> None:
    commit = world.hub.add(REPO, changed(checkpoint, tmp_path / "later"))
    shutil.copytree(world.home, tmp_path / "home", symlinks=True)
    world.home = tmp_path / "home"
    env = environment(world.home, MODEL__REVISION=commit) | {"HF_ENDPOINT": world.hub.endpoint, "HF_HOME": str(world.home / "hf")}
    command = [sys.executable, "-m", "services.init", "--model", REPO, "--quant", "q8_0"]
    subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, timeout=300)
    found = world.unaudited().of("model")
    assert (found["level"], found["facts"]["here"]) == ("ok", commit)
    (tmp_path / "later/config.json").write_text((tmp_path / "later/config.json").read_text() + "\n")
    again = world.hub.add(REPO, tmp_path / "later")
    found = world.unaudited().of("model")
    assert (found["level"], found["facts"]["changed"]) == ("NEW", ["config.json"])
    assert f"{again[:12]} on main, here is {commit[:12]}, at which [model] revision holds it" in found["found"]


def source(world: World) -> manifest.Source:
    return manifest.read(world.home / "volume/current").source


def test_a_commit_that_leaves_the_models_files_alone_is_not_new(world: World, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "later")
    (tmp_path / "later/README.md").write_text("more words")
    commit = world.hub.add(REPO, tmp_path / "later")
    said = world.update()
    assert said.code == 0
    assert f"{commit[:12]} changes none of the files" in said.of("model")["found"]


def test_one_gguf_of_a_repository_is_compared_by_itself() -> None:
    def listing(**sizes: int) -> Listing:
        files = (Expected(f"{name}.gguf", size, f"sha256 of {name} with {size}", f"blob of {size}") for name, size in sizes.items())
        return Listing(f"commit of {sizes}", tuple(files))

    before = listing(mine=10, other=20)
    mine = {"repo": REPO, "files": [{"path": "mine.gguf", "size": 10, "sha256": "sha256 of mine with 10"}]}
    assert not compare(mine, before, listing(mine=10, other=21), {})
    assert not compare(mine, None, listing(mine=10), {})
    assert compare(mine, before, listing(mine=11, other=20), {"mine.gguf": 10}) == Change(("mine.gguf",), (), (), 11)
    with pytest.raises(SourceError, match=r"has no file mine\.gguf any more"):
        compare(mine, before, listing(other=20), {})


def test_a_commit_without_the_model_can_not_replace_it(world: World, tmp_path: Path) -> None:
    (tmp_path / "later").mkdir()
    (tmp_path / "later/README.md").write_text("moved elsewhere")
    world.hub.add(REPO, tmp_path / "later")
    said = world.update()
    assert (said.code, said.of("model")["level"]) == (0, "skip")
    assert "has no safetensors" in said.of("model")["found"]


def test_a_rewritten_history_is_compared_by_hash(world: World, checkpoint: Path, tmp_path: Path) -> None:
    world.hub.repositories.clear()
    world.hub.add(REPO, changed(checkpoint, tmp_path / "later"))
    facts = world.unaudited().of("model")["facts"]
    assert "config.json" in facts["changed"]
    assert [name for name in facts["changed"] if name.endswith(".safetensors")] == []


def test_another_model_in_the_settings_is_named_in_what_to_do(world: World, checkpoint: Path, tmp_path: Path) -> None:
    commit = world.hub.add(REPO, changed(checkpoint, tmp_path / "later"))
    world.settings = {"MODEL__NAME": "demo"}
    assert world.unaudited().of("model")["todo"] == f"CLOISTER_MODEL__REVISION={commit} scripts/up --model {REPO}"


def test_a_hub_that_does_not_answer_is_told(world: World) -> None:
    world.hub.repositories.clear()
    said = world.update(HF_HUB_ETAG_TIMEOUT="1")
    assert (said.code, said.of("model")["level"]) == (2, "FAIL")
    assert said.of("model")["found"].startswith("could not be asked: ")
    assert said.of("release")["level"] == "ok" and said.of("advisories")["level"] == "ok"
    said = world.unaudited(HF_ENDPOINT="http://127.0.0.1:9")
    assert "can't be reached" in said.of("model")["found"]
    found = world.unaudited(HF_HUB_OFFLINE="1").of("model")
    assert found["level"] == "FAIL" and "HF_HUB_OFFLINE" in found["found"]


def test_models_without_a_hub_say_so(world: World, demo_volume: Path, copying_volume: Path, tmp_path: Path) -> None:
    world.home = demo_volume.parent
    found = world.unaudited().of("model")
    assert found["level"] == "skip" and "there is no hub to ask" in found["found"]
    world.home = copying_volume.parent
    assert "so there is no hub to ask" in world.unaudited().of("model")["found"]
    world.home = tmp_path
    assert "none is prepared here" in world.unaudited().of("model")["found"]


def test_newer_tags_are_told_and_others_ignored(world: World, tagged: list[str]) -> None:
    for tag in ("v0.0.9", "nightly", "v99.0.0rc1", "v98.2.0", "v98.10.0", "latest-2026"):
        git(world.place, "push", "--quiet", "origin", f"HEAD:refs/tags/{tag}")
        tagged.append(tag)
    said = world.unaudited()
    found = said.of("release")
    assert (said.code, found["level"]) == (1, "NEW")
    assert found["facts"]["newer"] == ["v98.2.0", "v98.10.0"]
    assert found["todo"].startswith("git fetch origin tag v98.10.0 && git checkout v98.10.0")
    assert git(world.place, "tag").split() == [f"v{VERSION}"]


@pytest.mark.parametrize(
    ("here", "newer"), [("0.9", ["v0.10"]), ("0.10", []), ("0.10rc1", ["v0.10rc2", "v0.10"]), ("0.10.post1", []), ("0.8", ["0.9", "v0.10"])]
)
def test_versions_are_compared_as_versions(here: str, newer: list[str]) -> None:
    assert newer_than(here, ["v0.10", "0.9", "v0.10rc2", "x", "", "v"]) == newer


def test_without_git_or_origin_it_says_so(world: World, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "copy", symlinks=True)
    git(tmp_path / "copy", "remote", "set-url", "origin", str(tmp_path / "gone.git"))
    said = world.update(place=tmp_path / "copy")
    assert said.code == 2 and "gone.git" in said.of("release")["found"]
    git(tmp_path / "copy", "remote", "remove", "origin")
    assert "no git remote" in world.unaudited(place=tmp_path / "copy").of("release")["found"]
    shutil.rmtree(tmp_path / "copy/.git")
    found = world.unaudited(place=tmp_path / "copy").of("release")
    assert found["level"] == "FAIL" and "no git checkout" in found["found"]


def test_vulnerabilities_are_found_alike_online_offline_and_without_pip_audit(world: World, tmp_path: Path) -> None:
    world.osv.records += [SERIOUS, SAME, UNMENDED]
    online = world.update()
    assert (online.code, online.vulnerable) == (1, FOUND)
    uvicorn = next(one for one in online.findings if one["level"] == "BAD" and one["facts"]["package"] == "uvicorn")
    assert uvicorn["found"].startswith(f"uvicorn {HERE['uvicorn']} of api, relay, ui: PYSEC-0000-1")
    assert uvicorn["todo"].startswith("uvicorn 998.1 mends it")

    saved = world.run("--save-advisories", "kept/advisories.json", cwd=tmp_path)
    assert saved.returncode == 0, saved.stderr
    file = tmp_path / "kept/advisories.json"
    assert {name: len(records) for name, records in advisories.read(file).packages.items() if records} == {
        "jinja2": 3,
        "uvicorn": 2,
        "numpy": 1,
    }
    assert re.search(r'^"date": "20\d\d-', file.read_text(), re.MULTILINE)  # scripts/bundle reads it there
    world.osv.status = 500
    asked = len(world.osv.queries)
    offline = world.update("--advisories", "kept/advisories.json", cwd=tmp_path)
    assert (offline.code, offline.vulnerable) == (1, FOUND)
    assert len(world.osv.queries) == asked
    alone = audit.alone(shipped(ROOT), advisories.read(file))
    assert {(one.package.name, one.package.version, tuple(sorted(one.names))) for one in alone} == {one[:3] for one in FOUND}


def test_advisories_that_are_saved_twice_differ_in_their_date_only(world: World, tmp_path: Path) -> None:
    world.osv.records += [SERIOUS, SAME]
    texts = []
    for name in ("one", "two"):
        assert world.run("--save-advisories", str(tmp_path / name)).returncode == 0
        texts.append(json.loads((tmp_path / name).read_text()))
        world.osv.records.reverse()
    assert [text.pop("date")[:2] for text in texts] == ["20", "20"]
    assert json.dumps(texts[0]) == json.dumps(texts[1])


def test_an_osv_that_fails_is_told_and_saves_nothing(world: World, tmp_path: Path) -> None:
    world.osv.status = 503
    said = world.update()
    assert (said.code, said.of("advisories")["level"]) == (2, "FAIL")
    assert "answers 503" in said.of("advisories")["found"]
    done = world.run("--save-advisories", str(tmp_path / "file"))
    assert done.returncode == 2 and "nothing is saved" in done.stderr
    assert not (tmp_path / "file").exists()
    said = world.update("--osv", NOBODY)
    assert said.code == 2 and "can't be reached" in said.of("advisories")["found"]
    assert [one["level"] for one in said.findings].count("ok") == 2


def test_an_osv_that_breaks_off_in_the_midst_is_told(world: World) -> None:
    world.osv.records.append(SERIOUS | {"affected": [*SERIOUS["affected"], {"ranges": []}]})  # over this pip-audit stumbles
    said = world.update()
    assert (said.code, said.of("advisories")["level"]) == (2, "FAIL")
    assert "pip-audit came to no judgement" in said.of("advisories")["found"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"format": 1, "date"', "is damaged or no database of advisories"),
        ('{"format": 2, "date": "2026-01-01T00:00:00+00:00", "source": "", "packages": {}}', "has the format 2 and not 1"),
        ('{"format": 1, "date": "yesterday", "source": "", "packages": {}}', "is damaged"),
        (
            '{"format": 1, "date": "2026-01-01T00:00:00+00:00", "source": "", "packages": {"uvicorn": [{"affected": 1}]}}',
            "is not as OSV's schema",
        ),
        (None, "No such file or directory"),
    ],
)
def test_damaged_advisories_are_told(world: World, tmp_path: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "file").write_text(content)
    said = world.update("--advisories", str(tmp_path / "file"))
    assert (said.code, said.of("advisories")["level"]) == (2, "FAIL")
    assert sentence in said.of("advisories")["found"]


def test_advisories_of_other_packages_are_no_all_clear(world: World, tmp_path: Path) -> None:
    packages = {package.name: [] for package in shipped(ROOT) if package.name != "uvicorn"}
    (tmp_path / "file").write_text(advisories.text(Database("2026-01-01T00:00:00+00:00", "", packages)))
    said = world.update("--advisories", str(tmp_path / "file"))
    assert said.code == 2
    assert any(one["level"] == "FAIL" and "does not tell of uvicorn" in one["found"] for one in said.findings)
    assert "days ago); there may be newer ones" in said.of("advisories")["found"]


def test_an_unpacked_bundle_looks_into_its_own_file(world: World, tmp_path: Path) -> None:
    """Offline: no git, no hub, no pip-audit; the packages are those of the bills of materials."""
    bundle = tmp_path / "cloister"
    for name in ("scripts", "config"):
        shutil.copytree(world.place / name, bundle / name)
    (bundle / ".venv").symlink_to(ROOT / ".venv")
    (bundle / "RELEASE").write_text("release=0.1.0-0123456789ab\n")
    (bundle / "sbom").mkdir()
    components = [{"purl": f"pkg:pypi/uvicorn@{HERE['uvicorn']}"}, {"purl": f"pkg:pypi/numpy@{NUMPY}"}, {"purl": "pkg:deb/debian/bash@5"}]
    (bundle / "sbom/cloister-api.cdx.json").write_text(json.dumps({"components": components}))
    said = world.update(place=bundle)
    assert said.code == 2 and "this bundle has no advisories.json" in said.of("advisories")["found"]
    world.osv.records += [SERIOUS, SAME, UNMENDED]
    assert world.run("--save-advisories", str(bundle / "advisories.json")).returncode == 0
    asked = len(world.osv.queries), len(world.hub.requests)
    said = world.update(place=bundle)
    assert (said.code, said.vulnerable) == (1, FOUND)
    assert [one["level"] for one in said.findings] == ["skip", "skip", "BAD", "BAD", "ok"]
    assert "0.1.0-0123456789ab" in said.of("release")["found"]
    assert "as OSV knew them on 20" in said.findings[-1]["found"]
    assert (len(world.osv.queries), len(world.hub.requests)) == asked
    done = world.run("--save-advisories", place=bundle)
    assert done.returncode == 2 and "where Cloister's source is" in done.stderr


def test_where_pip_audit_can_not_be_installed_the_rest_is_told(world: World, tmp_path: Path) -> None:
    nothing = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    said = world.update(**nothing)
    assert said.code == 2
    assert said.of("model")["level"] == "ok" and said.of("release")["level"] == "ok"
    assert "pip-audit is not installed here" in said.of("advisories")["found"]


def test_wrong_use_and_help(world: World) -> None:
    done = world.run("--nonsense")
    assert done.returncode == 2 and "--nonsense" in done.stderr
    done = world.run("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Is there something newer") and done.stdout.rstrip().endswith("wrong arguments.")


@pytest.mark.parametrize(
    ("events", "inside", "outside"),
    [
        ([{"introduced": "0"}, {"fixed": "2.0"}], ["0.1", "1.9", "2.0rc1"], ["2.0", "3"]),
        ([{"fixed": "2.0"}, {"introduced": "1.0"}, {"introduced": "3.0"}], ["1.0", "1.10", "3.0", "4"], ["0.9", "2.0", "2.5"]),
        ([{"introduced": "1.0"}, {"last_affected": "1.2"}], ["1.0", "1.2", "1.2.0"], ["1.2.1", "1.10"]),
        ([{"introduced": "0"}, {"limit": "2.0"}], ["1.0"], ["2.0"]),
        ([{"introduced": "0"}, {"fixed": "not a version"}], ["1.0", "99"], []),
    ],
)
def test_ranges_are_evaluated_as_the_schema_has_it(events: list[dict[str, str]], inside: list[str], outside: list[str]) -> None:
    one = record("GHSA-0000-test-0006", "thing", (), *events)
    assert [version for version in inside + outside if advisories.affects(one, "thing", version)] == inside


def test_all_locked_packages_are_looked_at() -> None:
    """What is locked for a Linux, and only that; numpy in both versions."""
    names = {package.name for package in shipped(ROOT)}
    assert {"uvicorn", "gradio", "supervisor", "huggingface-hub", "llama-cpp-python", "anyio"} <= names
    assert not {"colorama", "tzdata", "httpx2-jsfetch", "pytest", "pip-audit"} & names
    assert sum(package.name == "numpy" for package in shipped(ROOT)) == 2
