"""config/cloister.service as ./install --native fills it in: systemd reads it, and finds little that it leaves open."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


def unit(folder: Path, bind: str) -> Path:
    """The unit of an installation in the checkout that listens there."""
    program = '. scripts/installing/native.sh; home=$1 bind=$2; unit_for "$(id -un)" "$(id -gn)"'
    text = subprocess.run(["sh", "-euc", program, "sh", ROOT, bind], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert not re.search(r"@\w+@", text), "a place is not filled in"
    file = folder / "cloister.service"
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if not found and os.environ.get("CI") == "true":
        subprocess.run(["apt-get", "install", "-y", "-qq", "systemd"], check=True, capture_output=True, timeout=600)
        found = shutil.which("systemd-analyze")
    if not found:
        pytest.skip("there is no systemd-analyze here")
    return found


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
def test_systemd_reads_the_service_and_finds_it_closed(analyze: str, tmp_path: Path, bind: str) -> None:
    file = unit(tmp_path, bind)
    (tmp_path / "var").mkdir()
    verified = subprocess.run([analyze, "verify", file], text=True, capture_output=True, check=False)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    # An exposure of 10 would be everything; a service that does nothing against it has 9.6.
    rated = subprocess.run([analyze, "security", "--offline=true", "--threshold=20", file], text=True, capture_output=True, check=False)
    assert rated.returncode == 0, rated.stdout + rated.stderr


@pytest.mark.parametrize(("bind", "reachable"), [("127.0.0.1", "localhost"), ("192.168.1.5", "localhost link-local 10.0.0.0/8 ")])
def test_only_the_machine_itself_is_reached_until_it_is_opened(tmp_path: Path, bind: str, reachable: str) -> None:
    lines = unit(tmp_path, bind).read_text().splitlines()
    [allowed] = [line for line in lines if line.startswith("IPAddressAllow=")]
    assert "IPAddressDeny=any" in lines
    assert allowed == f"IPAddressAllow={reachable}" or (reachable.endswith(" ") and allowed.startswith(f"IPAddressAllow={reachable}"))


def test_an_upgrade_without_docker_refuses_to_replace_changed_settings(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    names = ("config/cloister.toml", "config/models.toml")
    sums = "".join(f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (tmp_path / "SHA256SUMS").write_text(sums)
    program = ". scripts/installing/common.sh; . scripts/installing/native.sh; project=cloister-nobody home=$1; check_settings; echo fine"

    def said() -> str:
        done = subprocess.run(["sh", "-euc", program, "sh", tmp_path], cwd=ROOT, text=True, capture_output=True, check=False)
        return done.stdout + done.stderr

    assert said() == "fine\n"
    with (tmp_path / "config/cloister.toml").open("a") as file:
        file.write("# mine\n")
    assert f"config/cloister.toml was changed in {tmp_path}, and an upgrade would replace it" in said()
