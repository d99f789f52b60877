"""Secrets at rest: found by hash, refused with a sentence that gives nothing away."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.shared.secret import Limits, SecretError, Secrets, digest, plain


def test_a_secret_is_found_by_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"anna {digest('cl-one').hex()}\n\nben {digest('cl-two').hex()}\n")
    secrets = Secrets(file)
    assert secrets
    assert [secrets.name(secret) for secret in ("cl-one", "cl-two", "cl-three", "", "é\ud800")] == ["anna", "ben", None, None, None]


def test_no_file_and_an_empty_one_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    assert not Secrets(None) and not Secrets(tmp_path / "empty")


@pytest.mark.parametrize("content", ["cl-plain-key", "anna cl-plain-key", "anna " + "0" * 63])
def test_a_file_of_something_else_is_refused_without_its_content(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys").write_text(content)
    with pytest.raises(SecretError, match="line 1 is not a name and a hash") as refusal:
        Secrets(tmp_path / "keys")
    assert "plain" not in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="gone can't be read"):
        Secrets(tmp_path / "gone")


def test_a_secret_that_must_be_known_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("cl-page\n")
    assert (plain(None), plain(tmp_path / "key")) == ("", "cl-page")
    with pytest.raises(SecretError, match="gone can't be read"):
        plain(tmp_path / "gone")


def test_limits_stand_behind_the_hash(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"anna {digest('cl-one').hex()} rpm=60 concurrent=2\nben {digest('cl-two').hex()}\n")
    secrets = Secrets(file)
    assert secrets.limits("anna") == Limits(rpm=60, tpm=0, concurrent=2)
    assert not secrets.limits("ben") and not secrets.limits("nobody")


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("speed=9", "come rpm=NUMBER, tpm=NUMBER, concurrent=NUMBER, each at most once"),
        ("rpm=1 rpm=2", "each at most once"),
        ("rpm", "rpm must be a whole number from 1"),
        ("rpm=0", "rpm must be a whole number from 1"),
        ("tpm=1.5", "tpm must be a whole number from 1"),
    ],
)
def test_limits_that_are_none_are_named(tmp_path: Path, field: str, complaint: str) -> None:
    (tmp_path / "keys").write_text(f"\nanna {digest('cl-one').hex()} {field}\n")
    with pytest.raises(SecretError, match=f"line 2.*{complaint}"):
        Secrets(tmp_path / "keys")
