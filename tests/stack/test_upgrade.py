"""Upgrade by what is new, back, forward, and what goes wrong on the way: on the machine without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.stack.bundles import Bundles, Installed, another_model, answers, refused, release, renamed, signed, unready, without
from tests.stack.conftest import QUESTION
from tests.stack.offline import ENTER, Machine

pytestmark = pytest.mark.usefixtures("installed")
UNTIL = 300


def upgrade(machine: Machine, folder: Path, into: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    told = replace(machine, environment=machine.environment | environment)
    return told.run("sh", "./install", "--upgrade", str(into), cwd=folder)


def back(machine: Machine, installed: Installed) -> subprocess.CompletedProcess[str]:
    return machine.run("sh", "scripts/rollback", cwd=installed.folder)


def runs(machine: Machine) -> set[str]:
    """The releases of the running containers."""
    return {image.split(":")[1] for image in machine.docker("ps", "--format", "{{.Image}}")}


def manifest(machine: Machine) -> str:
    """The served model's manifest."""
    api = machine.docker("ps", "--quiet", "--filter", "label=com.docker.compose.service=api")[0]
    return "\n".join(machine.docker("exec", api, "cat", "var/volume/current/manifest.json"))


def visit(installed: Installed, profile: Path) -> str:
    """What somebody sees who comes with the browser of the last visit: asked or kept, and the conversation."""
    password = installed.said.split("Password of the page, for any name, shown only now:")[1].split()[0]
    command = [*ENTER, sys.executable, "-m", "tests.stack.visitor", profile, password, QUESTION]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def newer(bundles: Bundles, machine: Machine) -> Path:
    return bundles.unpack(bundles.newer, machine.home / "newer")


def test_a_change_of_code_is_small(bundles: Bundles) -> None:
    full, new = bundles.file.stat().st_size, bundles.newer.stat().st_size
    print(f"whole {full}, since {new}: {new / full:.2%}; seconds: {bundles.seconds}")
    assert new <= 0.03 * full


def test_alone_it_is_no_installation(machine: Machine, newer: Path, bundles: Bundles) -> None:
    said = refused(machine, newer)
    assert "this bundle holds only what is new since 0.1.0-" in said and "./install --upgrade FOLDER" in said


def test_what_it_does_not_fit_is_named(machine: Machine, newer: Path, installed: Installed, bundles: Bundles) -> None:
    def said(folder: Path, into: Path, **environment: str) -> str:
        before = sorted(installed.folder.rglob("*"))
        sentence = refused(machine, folder, "--upgrade", str(into), **environment)
        assert sorted(installed.folder.rglob("*")) == before
        return sentence

    assert "holds no Cloister that ./install has installed" in said(newer, machine.programs)
    other = bundles.unpack(bundles.newer, machine.home / "other")
    renamed(other, "0.1.0-cccccccccccc", bundles.key, since="0.1.0-dddddddddddd")
    assert f"since 0.1.0-dddddddddddd, and {installed.folder} is {release(installed.folder)}" in said(other, installed.folder)
    lacks = without(machine, "docker", '[ "$1 $2" != "image inspect" ] || exit 1')
    assert "is not whole any more: take a whole bundle" in said(newer, installed.folder, PATH=lacks)
    shutil.rmtree(other.parent)


def test_upgraded_after_a_cut_and_everything_of_the_users_is_there(
    machine: Machine, newer: Path, installed: Installed, tmp_path: Path
) -> None:
    assert visit(installed, tmp_path / "browser").startswith("asked")
    old, new = release(installed.folder), release(newer)
    with (installed.folder / ".env").open("a") as settings:
        settings.write("CLOISTER_API__MAX_TOKENS=700\n")
    (installed.folder / "var/adapters/mine").write_text("mine")
    secrets = {file.name: file.read_bytes() for file in (installed.folder / "var/secrets").iterdir()}
    # Cut in the middle of the exchange: the release that comes has its files there, and the one that went has the containers.
    cut = subprocess.Popen(
        [*ENTER, "sh", "./install", "--upgrade", installed.folder], cwd=newer, env=machine.environment, stderr=subprocess.DEVNULL
    )
    journal, began = installed.folder / ".upgrading", time.monotonic()
    while not (journal.exists() and "moved" in journal.read_text().split()):
        assert cut.poll() is None and time.monotonic() - began < UNTIL
        time.sleep(0.02)
    cut.kill()
    cut.wait()
    done = upgrade(machine, newer, installed.folder)
    assert done.returncode == 0, done.stderr
    assert f"taking back what was done: {old}" in done.stderr and f"{old} -> {new}" in done.stderr
    assert release(installed.folder) == new and runs(machine) == {new}
    assert not journal.exists() and release(installed.folder / ".before") == old
    said = answers(installed, QUESTION)
    assert "23" in said and "12" in said
    conversation = visit(installed, tmp_path / "browser")
    assert conversation.startswith("kept") and "23" in conversation and "12" in conversation
    assert "CLOISTER_API__MAX_TOKENS=700\n" in (installed.folder / ".env").read_text()
    assert secrets == {file.name: file.read_bytes() for file in (installed.folder / "var/secrets").iterdir()}
    assert (installed.folder / "var/adapters/mine").read_text() == "mine"
    assert f"is {new} already" in refused(machine, newer, "--upgrade", str(installed.folder))


def test_a_release_that_does_not_become_ready_takes_itself_back(
    machine: Machine, bundles: Bundles, installed: Installed, newer: Path
) -> None:
    """It brings another model, too, which has the same place in the volume as the one before."""
    bad, good = bundles.unpack(bundles.newer, machine.home / "bad"), release(newer)
    another_model(bad, installed.folder / "model")
    unready(bad)
    renamed(bad, "0.1.0-bbbbbbbbbbbb", bundles.key, since=good)
    before = machine.docker("images", "--quiet"), manifest(machine), sorted(installed.folder.rglob("*"))
    done = upgrade(machine, bad, installed.folder)
    assert done.returncode == 1, done.stdout
    assert "0.1.0-bbbbbbbbbbbb did not become ready: see above" in done.stderr
    assert done.stderr.splitlines()[-1] == f"cloister: {installed.folder} is {good} as before"
    assert runs(machine) == {good} and release(installed.folder) == good
    assert (machine.docker("images", "--quiet"), manifest(machine), sorted(installed.folder.rglob("*"))) == before
    assert "23" in answers(installed, QUESTION)


def test_rolled_back_and_forward_again(machine: Machine, bundles: Bundles, installed: Installed, newer: Path) -> None:
    new, old = release(newer), release(installed.folder / ".before")
    with (installed.folder / ".env").open("a") as settings:
        settings.write("CLOISTER_API__MAX_TOKENS=600\n")
    done = back(machine, installed)
    assert done.returncode == 0, done.stderr
    print(re.findall(r"done in .* s", done.stderr))
    assert release(installed.folder) == old and runs(machine) == {old} and release(installed.folder / ".before") == new
    assert "23" in answers(installed, QUESTION)
    assert "CLOISTER_API__MAX_TOKENS=600\n" in (installed.folder / ".env").read_text()
    done = back(machine, installed)
    assert done.returncode == 0, done.stderr
    assert release(installed.folder) == new and runs(machine) == {new}


def test_another_model_comes_and_goes_with_its_release(machine: Machine, bundles: Bundles, installed: Installed, newer: Path) -> None:
    third, second = bundles.unpack(bundles.newer, machine.home / "third"), release(newer)
    first, before = release(installed.folder / ".before"), manifest(machine)
    another_model(third, installed.folder / "model")
    renamed(third, "0.1.0-eeeeeeeeeeee", bundles.key, since=second)
    # An engine that takes no image without all its layers: the first try is refused.
    flag = machine.home / "refused"
    strict = without(machine, "docker", f'[ "$1" != load ] || [ -e {flag} ] || {{ : >{flag} && exit 1; }}')
    done = upgrade(machine, third, installed.folder, PATH=strict)
    assert done.returncode == 0, done.stderr
    assert flag.exists() and f"this engine wants all layers: taking those of {second} out of it" in done.stderr
    assert manifest(machine) != before and "23" in answers(installed, QUESTION)
    assert not machine.docker("images", "--quiet", "--filter", f"reference=*:{first}"), "the release before the last one is kept"
    done = back(machine, installed)
    assert done.returncode == 0, done.stderr
    assert manifest(machine) == before and runs(machine) == {second}


def test_without_a_release_before_there_is_no_way_back(machine: Machine, bundles: Bundles) -> None:
    folder = bundles.unpack(bundles.newer, machine.home / "fresh")
    signed(folder, bundles.key)
    done = machine.run("sh", "scripts/rollback", cwd=folder)
    assert done.returncode == 1 and "holds no Cloister that ./install has installed" in done.stderr
