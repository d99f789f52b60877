"""Settings: the file's defaults, the environment's overrides, and one clear sentence for everything wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.shared import settings
from services.shared.settings import ROOT, SettingsError
from tests.conftest import environment

DEFAULT = ROOT / "config/cloister.toml"


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = DEFAULT.read_text()
    assert old in text
    file = tmp_path / "cloister.toml"
    file.write_text(text.replace(old, new))
    return file


def test_the_defaults_load_and_relative_paths_stand_in_the_checkout() -> None:
    config = settings.load({})
    assert config.model.name == "deepseek-r1-distill-qwen-1.5b" and config.model.quant == "q4_k_m"
    assert (config.ui.port, config.api.port, config.ui.host, config.api.host) == (7860, 8000, "127.0.0.1", "127.0.0.1")
    assert config.paths.volume == ROOT / "var/volume" and config.paths.socket == ROOT / "var/run/engine.sock"


def test_the_environment_overrides_with_types() -> None:
    config = settings.load(
        {
            "CLOISTER_ENGINE__CONTEXT": "4096",
            "CLOISTER_MODEL__KEEP_SOURCE": "no",
            "CLOISTER_PATHS__VOLUME": "/srv/models",
            "CLOISTER_MODEL__QUANT": "q8_0",
            "HF_ENDPOINT": "http://mirror",
            "PATH": "/bin",
        }
    )
    assert config.engine.context == 4096 and config.model.keep_source is False
    assert config.paths.volume == Path("/srv/models") and config.model.quant == "q8_0"


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"CLOISTER_ENGINE__CONTEX": "1"},
            "unknown setting CLOISTER_ENGINE__CONTEX in the environment; did you mean CLOISTER_ENGINE__CONTEXT?",
        ),
        ({"CLOISTER_ENGINE__CONTEXT": "many"}, "CLOISTER_ENGINE__CONTEXT must be a whole number; found 'many'"),
        ({"CLOISTER_API__PORT": "70000"}, "CLOISTER_API__PORT must be from 1 to 65535; found 70000"),
        (
            {"CLOISTER_MODEL__QUANT": "q4"},
            "CLOISTER_MODEL__QUANT must be one of q4_0, q4_k_m, q5_0, q5_k_m, q6_k, q8_0, f16, bf16; found 'q4'",
        ),
        ({"CLOISTER_MODEL__KEEP_SOURCE": "maybe"}, "CLOISTER_MODEL__KEEP_SOURCE must be true or false; found 'maybe'"),
        ({"CLOISTER_MODEL__NAME": " "}, "CLOISTER_MODEL__NAME must be text that is not empty; found ' '"),
        ({"CLOISTER_ENGINE__CELLS": "4096"}, "[engine] cells is 4096, less than [engine] context 8192"),
    ],
)
def test_a_wrong_variable_is_named_with_what_was_found(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings.load(variables)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("port = 7860", "prot = 7860", "unknown key [ui] prot; did you mean port?"),
        ("[log]", "[logs]", "unknown section [logs]; did you mean log?"),
        ("port = 7860", "", "[ui] port is missing"),
        ("port = 7860", 'port = "7860"', "[ui] port must be a whole number; found '7860'"),
        ("keep_source = true", "keep_source = 1", "[model] keep_source must be true or false; found 1"),
        ("port = 7860", "port = ", "not valid TOML"),
        ("[log]\n", "log = 3\n", "unknown key [ui] log"),
    ],
)
def test_a_wrong_file_is_named_with_the_place(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    file = edited(tmp_path, old, new)
    with pytest.raises(SettingsError) as error:
        settings.load({}, file)
    assert sentence in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        settings.load({}, tmp_path / "none.toml")


@pytest.mark.parametrize("service", ["shared", "init", "engine", "api", "ui"])
def test_every_program_stops_with_one_line_and_code_2(service: str, tmp_path: Path) -> None:
    env = environment(tmp_path, ENGINE__THREDS=3)
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith("unknown setting CLOISTER_ENGINE__THREDS in the environment; did you mean CLOISTER_ENGINE__THREADS?")
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("section, key, name", [("API", "keys", "host"), ("API", "keys", "published"), ("UI", "password", "host")])
def test_others_are_let_in_only_with_a_secret(tmp_path: Path, section: str, key: str, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("\n")
    opened = {f"CLOISTER_{section}__{name.upper()}": "0.0.0.0", f"CLOISTER_{section}__{key.upper()}": str(secret)}
    for environ in (opened, {k: v for k, v in opened.items() if v == "0.0.0.0"}):
        with pytest.raises(SettingsError, match=rf"\[{section.lower()}\] .* no {key}: run scripts/keys"):
            settings.load(environ)
    secret.write_text("anna 00\n")
    assert settings.load(opened)
    with pytest.raises(SettingsError, match="can't be read"):
        settings.load({**opened, f"CLOISTER_{section}__{key.upper()}": str(tmp_path / "gone")})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_this_machine_alone_needs_no_secret(host: str) -> None:
    assert settings.load({"CLOISTER_API__HOST": host, "CLOISTER_UI__HOST": host})


def test_what_is_published_counts_and_not_where_a_container_listens() -> None:
    assert settings.load({"CLOISTER_API__HOST": "0.0.0.0", "CLOISTER_API__PUBLISHED": "127.0.0.1"})
