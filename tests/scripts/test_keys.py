"""scripts/keys as a person runs it, and what the API makes of the file that it writes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from services.shared.secret import Limits, Secrets, plain
from tests.conftest import ROOT


def keys(home: Path, *arguments: str, code: int = 0) -> str:
    """Run it with secrets below `home`; what it said."""
    env = {**os.environ, "CLOISTER_SECRETS": str(home / "secrets")}
    done = subprocess.run([ROOT / "scripts/keys", *arguments], env=env, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def secret(said: str) -> str:
    return re.findall(r"^  (cl-\S{43})$", said, re.MULTILINE)[0]


def password(said: str) -> str:
    """Of 128 bits, in what every keyboard shows at once."""
    return re.findall(r"^  ([a-z2-7]{5}(?:-[a-z2-7]{5}){3}-[a-z2-7]{6})$", said, re.MULTILINE)[0]


def test_the_first_run_makes_all_and_the_next_one_nothing(tmp_path: Path) -> None:
    said = keys(tmp_path)
    found = Secrets(tmp_path / "secrets/api_keys")
    assert found.name(secret(said)) == "first" and found.name(plain(tmp_path / "secrets/page_key")) == "page"
    assert Secrets(tmp_path / "secrets/page_password").name(password(said)) == "page"
    assert "CLOISTER_API__KEYS=" in said
    before = (tmp_path / "secrets/api_keys").read_text()
    assert "already" in keys(tmp_path) and (tmp_path / "secrets/api_keys").read_text() == before
    assert secret(keys(tmp_path, "anna")) and len(Secrets(tmp_path / "secrets/api_keys")) == 3


def test_keys_with_limits_are_added_listed_and_taken_back(tmp_path: Path) -> None:
    anna = secret(keys(tmp_path, "add", "anna", "--rpm", "60", "--concurrent", "2"))
    ben = secret(keys(tmp_path, "add", "ben"))
    keys(tmp_path, "add", "an", "--tpm", "5000")
    file = tmp_path / "secrets/api_keys"
    found = Secrets(file)
    assert (found.name(anna), found.name(ben)) == ("anna", "ben")
    assert found.limits("anna") == Limits(rpm=60, concurrent=2) and found.limits("an") == Limits(tpm=5000) and not found.limits("ben")
    assert keys(tmp_path, "list").splitlines() == ["anna rpm=60 concurrent=2", "ben without limits", "an tpm=5000"]
    assert not (tmp_path / "secrets/page_password").read_text(), "a key more is no password more"
    inode = file.stat().st_ino
    keys(tmp_path, "remove", "an")
    found.refresh()
    assert (found.name(anna), found.name(ben), len(found)) == ("anna", "ben", 2)
    keys(tmp_path, "remove", "anna")
    keys(tmp_path, "remove", "ben")
    assert found.refresh() and found and found.name(ben) is None and file.read_text() == ""
    assert file.stat().st_ino == inode, "a container sees the file that it was given, not one that took its name"
    assert anna not in keys(tmp_path, "list")


def test_persons_get_passwords_of_their_own(tmp_path: Path) -> None:
    everybody = password(keys(tmp_path))
    anna, ben = (password(keys(tmp_path, "password", "add", name)) for name in ("anna", "ben"))
    file = tmp_path / "secrets/page_password"
    found = Secrets(file)
    assert [found.name(said) for said in (everybody, anna, ben)] == ["page", "anna", "ben"]
    assert not any(said in file.read_text() for said in (everybody, anna, ben))
    assert keys(tmp_path, "password", "list").splitlines() == ["page (goes with any name)", "anna", "ben"]
    assert keys(tmp_path, "list").splitlines() == ["first without limits", "page without limits"], "a password is no key"
    inode = file.stat().st_ino
    keys(tmp_path, "password", "remove", "anna")
    assert found.refresh() and [found.name(said) for said in (everybody, anna, ben)] == ["page", None, "ben"]
    keys(tmp_path, "password", "add", "anna")
    assert found.refresh() and found.name(anna) is None and file.stat().st_ino == inode


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["password"], "password add NAME, list or remove NAME"),
        (["password", "ben"], "password add NAME, list or remove NAME"),
        (["password", "add"], "needs a name"),
        (["password", "add", "a b"], "a name is made of"),
        (["password", "add", "ben", "--rpm", "1"], "unknown option --rpm"),
        (["password", "add", "carl"], "a password of carl already"),
        (["password", "remove", "nobody"], "no password of nobody"),
        (["remove", "carl"], "no key named carl"),
        (["add"], "needs a name"),
        (["remove", "nobody"], "no key named nobody"),
        (["add", "a b"], "a name is made of"),
        (["add", "--rpm"], "a name is made of"),
        (["add", "carl", "--rpm", "0"], "--rpm needs a whole number"),
        (["add", "carl", "--rpm"], "--rpm needs a whole number"),
        (["add", "carl", "--speed", "1"], "unknown option --speed"),
        (["add", "carl", "--tpm", "1", "--tpm", "2"], "--tpm stands twice"),
        (["list", "x"], "unknown option x"),
        (["carl", "--rpm", "1"], "unknown option --rpm"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    keys(tmp_path, "add", "anna")
    keys(tmp_path, "password", "add", "carl")
    files = [tmp_path / "secrets" / name for name in ("api_keys", "page_password")]
    before = [file.read_text() for file in files]
    assert complaint in keys(tmp_path, *arguments, code=1)
    assert [file.read_text() for file in files] == before


def test_a_name_is_there_once(tmp_path: Path) -> None:
    keys(tmp_path, "add", "a.b")
    assert "already" in keys(tmp_path, "add", "a.b", code=1)
    keys(tmp_path, "add", "axb")
    assert len(Secrets(tmp_path / "secrets/api_keys")) == 2
