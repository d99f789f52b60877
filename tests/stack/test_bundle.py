"""scripts/bundle on an engine, ./install on another one that has no network: every damage has its sentence, and then it answers."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.stack.bundles import SHELLS, Bundles, Installed, answers, flipped, refused, signed, without
from tests.stack.conftest import QUESTION
from tests.stack.offline import ENTER, Machine


@pytest.fixture(scope="module")
def unpacked(bundles: Bundles, machine: Machine) -> Path:
    return bundles.unpack(bundles.file, machine.home / "whole")


def test_the_same_input_makes_the_same_bytes(bundles: Bundles, unpacked: Path, tmp_path: Path) -> None:
    """The two were made one after the other, the second one in two goes; they differ in that one is in parts."""
    parts = sorted(bundles.parts.glob("c.tar.0*"))[1:]
    assert len(parts) > 2 and all(part.stat().st_size <= 300 << 20 for part in parts)
    joined, body = hashlib.sha256(), hashlib.sha256()
    for part in parts:
        joined.update(part.read_bytes())
    with bundles.file.open("rb") as file:
        file.seek(-sum(part.stat().st_size for part in parts), 2)
        while chunk := file.read(1 << 20):
            body.update(chunk)
    assert body.digest() == joined.digest()
    beginning = bundles.unpack(bundles.parts / "c.tar.000", tmp_path / "beginning")
    listed = set((beginning / "SHA256SUMS").read_text().splitlines()) - set((unpacked / "SHA256SUMS").read_text().splitlines())
    assert [line[66:] for line in listed] == ["PARTS"]


@pytest.mark.parametrize(
    ("name", "shell"),
    [("images", SHELLS[0]), ("model", SHELLS[1]), ("wheels", SHELLS[0]), ("RELEASE", SHELLS[1]), ("compose.yaml", SHELLS[0])],
)
def test_a_flipped_bit_is_found(machine: Machine, unpacked: Path, name: str, shell: list[str]) -> None:
    file = max((p for p in (unpacked / name).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size, default=unpacked / name)
    mend = flipped(file)
    try:
        assert f"{file.relative_to(unpacked)} is damaged" in refused(machine, unpacked, shell=shell)
    finally:
        mend()


def test_a_missing_file_is_named(machine: Machine, unpacked: Path) -> None:
    (unpacked / "LICENSE").rename(unpacked / "elsewhere")
    try:
        assert "LICENSE is missing here" in refused(machine, unpacked)
    finally:
        (unpacked / "elsewhere").rename(unpacked / "LICENSE")


def test_the_signature_is_looked_at(machine: Machine, unpacked: Path, bundles: Bundles) -> None:
    mend = flipped(unpacked / "SHA256SUMS")
    try:
        assert "the signature does not fit SHA256SUMS" in refused(machine, unpacked)
    finally:
        mend()
    assert f"signed by {bundles.fingerprint} and not by SHA256:x" in refused(machine, unpacked, "--fingerprint", "SHA256:x")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("name", "program", "sentence"),
    [
        ("ssh-keygen", "", "there is no ssh-keygen here to check the signature with, and no minisign"),
        ("docker", "", "there is no docker here"),
        ("docker", '[ "$1" != compose ] || exit 1', "Docker is here without Compose"),
        ("docker", '[ "$1" != version ] || { echo 19.03.15 amd64; exit; }', "Docker 19.03.15 is too old"),
        ("docker", '[ "$1" != version ] || { echo 28.0.0 arm64; exit; }', "this bundle is for amd64 and this machine is arm64"),
        ("docker", '[ "$1" != version ] || exit 1', "the Docker engine does not answer"),
    ],
)
def test_what_is_not_here_is_named(machine: Machine, unpacked: Path, name: str, program: str, sentence: str, shell: list[str]) -> None:
    assert sentence in refused(machine, unpacked, shell=shell, PATH=without(machine, name, program))


def test_a_port_that_is_taken_is_named(machine: Machine, unpacked: Path) -> None:
    listen = "import socket; s = socket.create_server(('127.0.0.1', 8000)); print('on', flush=True); s.accept()"
    other = subprocess.Popen([*ENTER, "python3", "-c", listen], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "on\n"
        assert "port 8000 is taken by another program: free it, or set CLOISTER_API__PORT" in refused(machine, unpacked)
    finally:
        other.kill()
        other.wait()


def test_too_little_disk_is_told_with_both_numbers(machine: Machine, unpacked: Path) -> None:
    small = machine.home / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], check=True)
    try:
        program = f'[ "$1" != info ] || {{ echo {small}; exit; }}'
        assert f"MB in {small}, and 68 MB are free" in refused(machine, unpacked, PATH=without(machine, "docker", program))
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("shell", SHELLS[1:])
def test_parts_that_are_wrong_are_named(machine: Machine, bundles: Bundles, shell: list[str]) -> None:
    beside = machine.home / f"parts-{shell[0]}"
    folder = bundles.unpack(bundles.parts / "c.tar.000", beside)
    assert "part c.tar.001 of " in refused(machine, folder, shell=shell)
    stick = beside / "stick"
    stick.mkdir()
    for part in bundles.parts.glob("c.tar.0*"):
        (stick / part.name).hardlink_to(part)
    one, two = stick / "c.tar.001", stick / "c.tar.002"

    def said() -> str:
        return refused(machine, folder, str(stick), shell=shell)

    mend = flipped(two)
    assert "c.tar.002 is damaged, or of another bundle" in said()
    mend()
    one.rename(stick / "x")
    two.rename(one)
    (stick / "x").rename(two)
    assert "c.tar.001 holds what belongs into c.tar.002: the parts were mixed up" in said()
    for part in (one, two):
        part.unlink()
        part.hardlink_to(bundles.parts / part.name)
    size = one.stat().st_size
    one.unlink()
    one.write_bytes((bundles.parts / one.name).read_bytes()[: size // 2])
    assert f"c.tar.001 has {size // 2} bytes instead of {size}: it was not copied whole, or is of another bundle" in said()
    one.unlink()
    one.hardlink_to(bundles.newer)
    assert "c.tar.001 has" in said()
    one.unlink()
    assert f"part c.tar.001 of {len(list(bundles.parts.iterdir())) - 2} is not in {stick}" in said()


def test_a_full_disk_is_told_before_anything_is_unpacked(machine: Machine, bundles: Bundles) -> None:
    small = machine.home / "stick"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], check=True)
    try:
        folder = bundles.unpack(bundles.parts / "c.tar.000", small / "here")
        assert f"MB in {folder}, and 6" in refused(machine, folder, str(bundles.parts))
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_beginning_that_was_cut_short_is_named(machine: Machine, bundles: Bundles) -> None:
    folder = bundles.unpack(bundles.parts / "c.tar.000", machine.home / "short")
    whole = (folder / "scripts/installing/docker.sh").read_bytes()
    (folder / "scripts/installing/docker.sh").write_bytes(whole[: len(whole) // 2])
    assert "scripts/installing/docker.sh is damaged" in refused(machine, folder)
    (folder / "scripts/installing/docker.sh").unlink()
    assert "scripts/installing/docker.sh is missing here: unpack the whole bundle" in refused(machine, folder)


@pytest.mark.parametrize("name", ["compose.override.yml", "images/more.tar", "model/..more"])
def test_what_nobody_signed_is_not_obeyed(machine: Machine, unpacked: Path, name: str) -> None:
    (unpacked / name).write_text("services: {api: {privileged: true}}\n")
    try:
        assert f"{name} is here and was not signed: unpack the bundle into an empty folder" in refused(machine, unpacked)
    finally:
        (unpacked / name).unlink()


def test_a_journal_of_somebody_else_removes_nothing(machine: Machine, unpacked: Path) -> None:
    machine.docker("volume", "create", "--label", "com.docker.compose.project=theirs", "theirs_model")
    (unpacked / ".installing").write_text("project theirs\nimage theirs:1\n")
    mend = flipped(unpacked / "LICENSE")
    try:
        done = machine.run("sh", "./install", cwd=unpacked)
        assert done.returncode == 1 and "LICENSE is damaged" in done.stderr
        assert "theirs_model" in machine.docker("volume", "ls", "--quiet")
    finally:
        mend()
        (unpacked / ".installing").unlink(missing_ok=True)
        machine.docker("volume", "rm", "theirs_model")


def test_minisign_does_where_there_is_no_ssh_keygen(machine: Machine, unpacked: Path, bundles: Bundles) -> None:
    path = without(machine, "ssh-keygen")
    Path(path, "minisign").symlink_to(shutil.which("minisign") or "missing")
    key = (unpacked / "minisign.pub").read_text().strip()
    assert key in bundles.said
    assert f"signed by {key} and not by SHA256:x" in refused(machine, unpacked, "--fingerprint", "SHA256:x", PATH=path)
    mends = [flipped(unpacked / "LICENSE")]
    try:
        assert "LICENSE is damaged" in refused(machine, unpacked, "--fingerprint", key, PATH=path)
        mends.append(flipped(unpacked / "SHA256SUMS"))
        assert "the signature does not fit SHA256SUMS" in refused(machine, unpacked, "--fingerprint", key, PATH=path)
    finally:
        for mend in mends:
            mend()


def test_somebody_else_can_change_and_sign_it_but_not_as_us(machine: Machine, bundles: Bundles) -> None:
    folder = bundles.unpack(bundles.newer, machine.home / "theirs")
    with (folder / "compose.yaml").open("a") as file:
        file.write("# and more\n")
    key = machine.home / "other-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signed(folder, key)
    assert f"and not by {bundles.fingerprint}: it does not come from whom you think" in refused(
        machine, folder, "--fingerprint", bundles.fingerprint
    )


def test_without_signature_goes_on_to_the_sums(machine: Machine, unpacked: Path) -> None:
    mends = [flipped(unpacked / "SHA256SUMS.sig"), flipped(unpacked / "LICENSE")]
    try:
        assert "the signature does not fit SHA256SUMS" in refused(machine, unpacked)
        assert "LICENSE is damaged" in refused(machine, unpacked, "--without-signature")
    finally:
        for mend in mends:
            mend()


def test_what_fails_later_is_undone(machine: Machine, unpacked: Path) -> None:
    program = '[ "$1 $4" != "compose up" ] || exit 1'
    assert "taking back what was done" in refused(machine, unpacked, PATH=without(machine, "docker", program))


def test_installed_from_parts_after_a_cut_it_answers_and_pulls_nothing(machine: Machine, installed: Installed) -> None:
    assert "taking back what was done" in installed.said and "23" in installed.said and "http://127.0.0.1:7860" in installed.said
    said = answers(installed, QUESTION)
    assert "23" in said and "12" in said
    events = machine.docker("events", "--since", f"{installed.began:.0f}", "--until", f"{time.time():.0f}", "--format", "{{json .}}")
    actions = {(event["Type"], event["Action"]) for event in map(json.loads, events)}
    assert ("container", "start") in actions and ("image", "pull") not in actions
    assert "Attempting next endpoint for pull" not in machine.log.read_text()


def test_two_of_the_same_name_are_not_made(machine: Machine, installed: Installed, unpacked: Path) -> None:
    assert "a Cloister named cloister is here already" in refused(machine, unpacked)
    assert "this folder was installed from before" in refused(machine, installed.folder)
