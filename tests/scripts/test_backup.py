"""scripts/backup and scripts/restore on real files: everything of the user's goes into one file and comes back, whole or not at all."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

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


def run(folder: Path, script: str, *arguments: str | Path, shell: list[str] = SHELLS[0]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOISTER_")}
    environment["CLOISTER_PROJECT"] = "cloister-nobody"  # no volume of this machine
    return subprocess.run(
        [*shell, f"scripts/{script}", *arguments], cwd=folder, env=environment, text=True, capture_output=True, check=False
    )


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
    assert "is damaged: var/secrets/page_key is not" in said(changed(whole, lambda members: members.pop("var/secrets/page_key") and None))
    assert "holds files that were not saved" in said(changed(whole, lambda members: members.update({"var/secrets/more": b"x"})))
    assert "is a backup of format 2" in said(changed(whole, lambda members: members.update(BACKUP=b"format=2\n")))
    assert "there is no BACKUP in it" in said(changed(whole, lambda members: members.pop("BACKUP") and None))
    for name in ("../outside", "/etc/outside", "var/../../outside", "scripts/up", ".git/hooks/pre-commit", "var/volume/current"):
        answer = said(changed(whole, with_name(name)))
        # The tar of busybox shows names without what leads outside.
        assert f"no backup does: {name}" in answer or f"not in a backup: {name.rpartition('../')[2].lstrip('/')}" in answer
    assert "neither file nor folder" in said(changed(whole, lambda members: None, link("var/secrets/link", "/etc/passwd")))
    assert "there is no such file" in said(top / "nowhere.tar")


def test_a_cut_restore_is_finished_by_the_next_one(top: Path, tmp_path: Path) -> None:
    """Cut where it can be: after the first file is in its place."""
    file = backed_up(top)
    other = cloister(tmp_path / "there", used=True)
    for secret in (other / "var/secrets").iterdir():
        secret.write_text("other")
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin/chmod"
    stub.write_text("#!/bin/sh\nkill -KILL $PPID\n")
    stub.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CLOISTER_PROJECT": "cloister-nobody"}
    cut = subprocess.run(["dash", "scripts/restore", file], cwd=other, env=environment, capture_output=True, check=False)
    assert cut.returncode != 0
    assert run(other, "restore", file).returncode == 0
    assert users(other) == users(top)
