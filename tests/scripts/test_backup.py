"""scripts/backup and scripts/restore on real files: everything of the user's goes into one file and comes back, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

Done = subprocess.CompletedProcess[str]
SHELLS = [["dash"], ["busybox", "sh"]]
SECRETS = {"api_keys": "first 1234\n", "page_password": "page 5678\n", "page_key": "cl-page", "hf_token": ""}
SETTINGS = "CLOISTER_UI__PORT=7861\nCLOISTER_API__SCREEN=var/screen.toml\n"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder with a Cloister in it that is somebody's."""
    return cloister(tmp_path / "here", used=True)


def cloister(folder: Path, used: bool = False, release: str = "") -> Path:
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config", folder / "config")
    shutil.copy(ROOT / "compose.yaml", folder)
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run(["git", "-C", folder, "add", "config"], check=True)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", folder, *identity, "commit", "-qm", "shipped"], check=True)
    if release:
        (folder / "RELEASE").write_text(f"release={release}\n")
        (folder / "SHA256SUMS").touch()
        (folder / ".env").write_text(f"CLOISTER_TAG={release}\nCLOISTER_MODEL__NAME=demo\n")
    if used:
        (folder / "var/secrets").mkdir(mode=0o700, parents=True)
        for name, text in SECRETS.items():
            (folder / "var/secrets" / name).write_text(text)
        (folder / "var/adapters/mine one").mkdir(parents=True)
        (folder / "var/adapters/mine one/adapter.gguf").write_bytes(os.urandom(300_000))
        (folder / "var/volume").mkdir()
        (folder / "var/volume/model.gguf").write_text("big")
        (folder / "var/screen.toml").write_text("patterns = []\n")
        with (folder / ".env").open("a") as file:
            file.write(SETTINGS)
    return folder


def run(folder: Path, script: str, *arguments: str | Path, shell: list[str] = SHELLS[0], more: dict[str, str] | None = None) -> Done:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
    environment |= {"CLOISTER_PROJECT": "cloister-nobody"} | (more or {})  # no volume of this machine
    command = [*shell, f"scripts/{script}", *arguments]
    # A group of processes of its own, which a test can kill.
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False, start_new_session=True)


def backed_up(folder: Path) -> Path:
    file = folder.parent / "backup.tar"
    done = run(folder, "backup", file)
    assert done.returncode == 0, done.stderr
    return file


def users(folder: Path) -> dict[str, bytes]:
    files = [file for part in ("var/secrets", "var/adapters") for file in (folder / part).rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("shell", SHELLS)
def test_everything_comes_back_on_another_machine(top: Path, tmp_path: Path, shell: list[str]) -> None:
    with (top / "config/models.toml").open("a") as file:
        file.write("# mine\n")
    done = run(top, "backup", shell=shell)
    [file] = top.glob("cloister-backup-*.tar") if done.returncode == 0 else [Path(done.stderr)]
    assert done.returncode == 0 and "settings, " in done.stderr and "keys and passwords" in done.stderr
    assert "1 adapter files" in done.stderr and "config/models.toml" in done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as archive:
        names = archive.getnames()
    assert "config/cloister.toml" not in names and not [name for name in names if "volume" in name or "model.gguf" in name]
    assert "is there already" in run(top, "backup", file, shell=shell).stderr
    other = cloister(tmp_path / "there")
    done = run(other, "restore", file, shell=shell)
    assert done.returncode == 0, done.stderr
    assert users(other) == users(top) and (other / ".env").read_text() == SETTINGS
    assert (other / "config/models.toml").read_text().endswith("# mine\n") and (other / "var/screen.toml").exists()
    assert (other / "var/secrets").stat().st_mode & 0o777 == 0o700
    assert all(secret.stat().st_mode & 0o777 == 0o644 for secret in (other / "var/secrets").iterdir())
    for name in ("var", "var/adapters", "var/adapters/mine one"):  # the containers' user looks for adapters there
        assert (other / name).stat().st_mode & 0o777 == 0o755, name
    assert not [left for left in other.rglob("*") if left.name.startswith((".backup", ".restoring")) or left.suffix == ".part"]


def test_what_was_there_is_kept_and_mounted_files_stay_the_same_files(top: Path) -> None:
    file = backed_up(top)
    keys = top / "var/secrets/api_keys"
    inode = keys.stat().st_ino
    keys.write_text("second 9999\n")
    assert run(top, "restore", file).returncode == 0
    assert keys.read_text() == SECRETS["api_keys"] and keys.stat().st_ino == inode
    [kept] = (top / "var").glob("before-restore-*.tar")
    assert run(top, "restore", kept).returncode == 0
    assert keys.read_text() == "second 9999\n"


def test_in_a_bundles_folder_the_release_stays(top: Path, tmp_path: Path) -> None:
    release = cloister(tmp_path / "release", release="0.1.0-aaaaaaaaaaaa")
    assert run(release, "restore", backed_up(top)).returncode == 0
    assert (release / ".env").read_text() == SETTINGS + "CLOISTER_TAG=0.1.0-aaaaaaaaaaaa\nCLOISTER_MODEL__NAME=demo\n"
    kept = tmp_path / "kept.tar"
    assert run(release, "backup", kept).returncode == 0
    checkout = cloister(tmp_path / "checkout")
    assert run(checkout, "restore", kept).returncode == 0
    assert (checkout / ".env").read_text() == SETTINGS


def test_in_a_bundles_folder_keys_stay_where_its_way_of_running_looks(top: Path, tmp_path: Path) -> None:
    """A backup made with Docker comes to an installation without: neither the project nor the place of keys is lost."""
    with (top / ".env").open("a") as file:
        file.write("CLOISTER_PROJECT=there\nCLOISTER_SECRETS=./var/secrets\n")
    release = cloister(tmp_path / "release", release="0.1.0-aaaaaaaaaaaa")
    here = "CLOISTER_PROJECT=here\nCLOISTER_API__KEYS=var/secrets/api_keys\n"
    with (release / ".env").open("a") as file:
        file.write(here)
    assert run(release, "restore", backed_up(top)).returncode == 0
    assert (release / ".env").read_text() == SETTINGS + here + "CLOISTER_TAG=0.1.0-aaaaaaaaaaaa\nCLOISTER_MODEL__NAME=demo\n"


def test_a_bundle_that_is_not_installed_yet_is_left_alone(top: Path, tmp_path: Path) -> None:
    release = cloister(tmp_path / "release", release="0.1.0-aaaaaaaaaaaa")
    (release / ".env").unlink()
    done = run(release, "restore", backed_up(top))
    assert done.returncode == 1 and "not installed yet: ./install first" in done.stderr
    assert not (release / "var").exists() and not list(release.glob(".env*"))
    (top / ".upgrading").touch()
    assert "under way here or was cut" in run(top, "restore", release.parent / "backup.tar").stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_links_come_back_as_what_they_lead_to(top: Path, tmp_path: Path, shell: list[str]) -> None:
    (tmp_path / "elsewhere.gguf").write_text("mine")
    (top / "var/adapters/current.gguf").symlink_to(tmp_path / "elsewhere.gguf")
    other = cloister(tmp_path / "there")
    file = tmp_path / "backup.tar"
    assert run(top, "backup", file, shell=shell).returncode == 0
    done = run(other, "restore", file, shell=shell)
    assert done.returncode == 0, done.stderr
    assert (other / "var/adapters/current.gguf").read_text() == "mine"
    (tmp_path / "elsewhere.gguf").unlink()
    done = run(top, "backup", tmp_path / "other.tar", shell=shell)
    assert done.returncode == 1 and "var/adapters can't be read: nothing was saved" in done.stderr
    assert not [left for left in tmp_path.iterdir() if left.name.startswith(".backup") or left.name == "other.tar"]


@pytest.mark.parametrize("line", ['CLOISTER_API__SCREEN="var/my screen.toml"\n', "CLOISTER_API__SCREEN=./var/my screen.toml"])
def test_patterns_are_found_however_the_setting_is_written(top: Path, tmp_path: Path, line: str) -> None:
    (top / ".env").write_text(line)
    (top / "var/my screen.toml").write_text("mine")
    other = cloister(tmp_path / "there")
    assert run(other, "restore", backed_up(top)).returncode == 0
    assert (other / "var/my screen.toml").read_text() == "mine"
    (top / ".env").write_text("CLOISTER_API__SCREEN=/srv/screen.toml\n")
    assert "patterns in /srv/screen.toml, outside of var, are not in" in run(top, "backup", tmp_path / "other.tar").stderr


def test_who_may_read_the_settings_stays(top: Path, tmp_path: Path) -> None:
    (top / ".env").chmod(0o600)
    file = backed_up(top)
    other = cloister(tmp_path / "there")
    for folder in (top, other):
        assert run(folder, "restore", file).returncode == 0
        assert (folder / ".env").stat().st_mode & 0o777 == 0o600


def test_changed_settings_are_saved_below_a_repository_of_others(top: Path, tmp_path: Path) -> None:
    inner = cloister(top / "var/inner", used=True)
    shutil.rmtree(inner / ".git")
    file = tmp_path / "backup.tar"
    assert "config/models.toml" in run(inner, "backup", file).stderr


def test_an_authority_that_can_not_be_read_is_named(top: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    for name, program, sentence in (
        ("a.tar", "[ $1 != run ]", "cloister-nobody_gateway can't be read"),
        ("b.tar", "exit 1", "Docker does not answer"),
    ):
        docker.write_text(f"#!/bin/sh\n{program}\n")
        docker.chmod(0o755)
        done = run(top, "backup", tmp_path / name, more={"PATH": f"{docker.parent}:{os.environ['PATH']}"})
        assert done.returncode == 0 and sentence in done.stderr and ", the gateway" not in done.stderr


def changed(file: Path, change: Callable[[dict[str, bytes]], None], extra: tarfile.TarInfo | None = None) -> Path:
    """The backup with other members."""
    with tarfile.open(file) as archive:
        members = {m.name: (archive.extractfile(m) or io.BytesIO()).read() for m in archive if m.isfile()}
    change(members)
    other = file.with_name("changed.tar")
    with tarfile.open(other, "w") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
        if extra:
            archive.addfile(extra)
    return other


def with_name(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({name: b"x"})


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize("shell", SHELLS)
def test_damage_is_named_and_nothing_is_touched(top: Path, shell: list[str]) -> None:
    whole = backed_up(top)
    before = {file: file.read_bytes() for file in top.rglob("*") if file.is_file()}

    def said(file: Path) -> str:
        done = run(top, "restore", file, shell=shell)
        assert done.returncode == 1, done.stderr
        assert {file: file.read_bytes() for file in top.rglob("*") if file.is_file()} == before
        return done.stderr.splitlines()[-1]

    bytes_ = whole.read_bytes()
    part = whole.with_name("part.tar")
    part.write_bytes(bytes_[: len(bytes_) // 2])
    assert "or it was cut short: tar can't read it" in said(part)
    part.write_bytes(b"hello" * 1000)
    assert "is no backup of scripts/backup" in said(part)
    place = bytes_.index(b"first 1234")
    part.write_bytes(bytes_[:place] + b"F" + bytes_[place + 1 :])
    assert "is damaged: var/secrets/api_keys is not what was saved" in said(part)
    assert "is damaged: var/secrets/page_key is not" in said(changed(whole, lambda members: members.__delitem__("var/secrets/page_key")))
    assert "holds files that were not saved" in said(changed(whole, lambda members: members.update({"var/secrets/more": b"x"})))
    assert "is a backup of format 2" in said(changed(whole, lambda members: members.update({"BACKUP": b"format=2\n", "new/name": b"x"})))
    assert "there is no BACKUP in it" in said(changed(whole, lambda members: members.__delitem__("BACKUP")))
    for name in ("../outside", "/etc/outside", "var/../../outside", "scripts/up", ".git/hooks/pre-commit", "var/volume/current"):
        answer = said(changed(whole, with_name(name)))
        # The tar of busybox shows names without what leads outside.
        assert f"no backup does: {name}" in answer or f"not in a backup: {name.rpartition('../')[2].lstrip('/')}" in answer
    for name in ("var/anything", "var/cloister.service", "var/volume/current"):  # also with its sum
        line = f"{hashlib.sha256(b'x').hexdigest()}  {name}\n".encode()

        def with_sum(members: dict[str, bytes], name: str = name, line: bytes = line) -> None:
            members.update({name: b"x", "SHA256SUMS": members["SHA256SUMS"] + line})

        assert f"not in a backup: {name}" in said(changed(whole, with_sum))
    assert "neither file nor folder" in said(changed(whole, lambda members: None, link("var/secrets/link", "/etc/passwd")))
    assert "there is no such file" in said(top / "nowhere.tar")


def test_a_cut_restore_is_finished_by_the_next_one(top: Path, tmp_path: Path) -> None:
    """Killed before each program that puts a file into its place: no file is half new, and nothing of before is lost."""
    file = backed_up(top)
    new = users(top)
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name in ("cat", "cp", "chmod", "mv"):  # each counts, and the last one kills all of the restore and itself
        counted = 'echo >>"$COUNT"; [ "$(wc -l <"$COUNT")" -ne "$KILL" ] || kill -KILL 0'
        program = f'case "$*" in *var/.restoring/* | *.part*) {counted} ;; esac\nexec {shutil.which(name)} "$@"\n'
        (stubs / name).write_text(f"#!/bin/sh\n{program}")
        (stubs / name).chmod(0o755)
    cuts = 0
    for kill in range(1, 40):
        other = cloister(tmp_path / f"there{kill}", used=True)
        for secret in (other / "var/secrets").iterdir():
            secret.write_text("other")
        (other / "var/secrets/hf_token").unlink()
        (other / ".env").write_text("CLOISTER_UI__PORT=1\n")
        old = users(other)
        more = {"PATH": f"{stubs}:{os.environ['PATH']}", "COUNT": str(tmp_path / f"count{kill}"), "KILL": str(kill)}
        if run(other, "restore", file, more=more).returncode == 0:
            break
        cuts += 1
        for name, text in users(other).items():
            if not name.endswith(".part"):  # one that a container has mounted is written in place: it may be empty
                assert text in (old.get(name), new[name]) or (name.startswith("var/secrets/") and not text), name
        assert (other / ".env").read_text() in ("CLOISTER_UI__PORT=1\n", SETTINGS)
        [kept] = (other / "var").glob("before-restore-*.tar")
        with tarfile.open(kept) as archive:
            assert (archive.extractfile("var/secrets/api_keys") or io.BytesIO()).read() == b"other"
        assert run(other, "restore", file).returncode == 0
        assert users(other) == new and (other / ".env").read_text() == SETTINGS
        assert not [left for left in other.rglob("*") if left.name.startswith((".backup", ".restoring")) or left.suffix == ".part"]
    assert cuts >= 8


def test_too_little_room_is_told_with_both_numbers(top: Path, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("a small file system needs root")
    file = backed_up(top)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        other = cloister(small / "top")
        done = run(other, "restore", file)
        assert done.returncode == 1 and re.search(r"restoring needs \d+ MB in .*, and \d+ MB are free", done.stderr), done.stderr
        assert not list((other / "var").iterdir())
    finally:
        subprocess.run(["umount", small], check=True)


def test_nothing_of_the_users_comes_back_as_nothing(tmp_path: Path) -> None:
    empty = cloister(tmp_path / "empty")
    done = run(empty, "backup", tmp_path / "none.tar")
    assert done.returncode == 0 and "nothing here is yours yet" in done.stderr
    assert run(empty, "restore", tmp_path / "none.tar").returncode == 0
