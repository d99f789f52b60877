"""The laws of the house, held by reading the code: who may import what, who reads the environment, what stands twice."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SERVICES = sorted(p.name for p in (ROOT / "services").iterdir() if (p / "__init__.py").exists() and p.name != "shared")
MODULES = {"llama-cpp-python": "llama_cpp", "huggingface-hub": "huggingface_hub"}  # distributions whose module has another name


def imports(file: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "services" else {str(node.module)}
            if node.module and node.module.startswith("services"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def requirements(service: str) -> set[str]:
    """Modules of everything that is installed for a service."""
    text = (ROOT / "services" / service / "requirements.txt").read_text()
    names = re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


def shared_closure(modules: set[str]) -> set[Path]:
    """Files of services.shared that these imports reach, directly or through one another."""
    todo = [ROOT / "services/shared" / f"{m.split('.')[2]}.py" for m in modules if m.startswith("services.shared.")]
    seen: set[Path] = {ROOT / "services/shared/__init__.py"}
    while todo:
        file = todo.pop()
        if file.exists() and file not in seen:
            seen.add(file)
            todo += [ROOT / "services/shared" / f"{m.split('.')[2]}.py" for m in imports(file) if m.startswith("services.shared.")]
    return seen


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_the_standard_library_itself_shared_and_its_requirements(service: str) -> None:
    own = sorted((ROOT / "services" / service).rglob("*.py"))
    allowed = requirements(service)
    reached = {m for file in own for m in imports(file)}
    for file in [*own, *shared_closure(reached)]:
        for module in imports(file):
            top = module.split(".")[0]
            if top == "services":
                inside = ("services", f"services.{service}", "services.shared")
                assert module in inside or module.startswith((f"services.{service}.", "services.shared.")), f"{file} imports {module}"
            else:
                assert top in sys.stdlib_module_names or top in allowed, f"{file} imports {module}"


def test_a_stray_import_would_be_found(tmp_path: Path) -> None:
    file = tmp_path / "stray.py"
    file.write_text("def f():\n    import fastapi\n    from services.init import plan\n    from services import api\n")
    assert imports(file) >= {"fastapi", "services.init", "services.init.plan", "services.api"}


@pytest.mark.parametrize("name", ["scheduler", "kv", "sequence", "text", "tokens", "engine"])
def test_scheduling_knows_nothing_of_the_native_library(name: str) -> None:
    assert not {"llama_cpp", "numpy", "services.engine.native"} & imports(ROOT / f"services/engine/{name}.py")


def test_the_engine_knows_nothing_of_json_http_or_templates() -> None:
    for file in (ROOT / "services/engine").glob("*.py"):
        unknown = {"json", "http", "jinja2", "fastapi", "urllib"}
        if file.name == "grammar.py":
            unknown.remove("json")  # a JSON schema is a grammar, and arrives as text
        assert not unknown & {m.split(".")[0] for m in imports(file)}, file


def test_only_main_reads_the_environment() -> None:
    for file in (ROOT / "services").rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        if names & {"environ", "getenv", "environb", "putenv"}:
            assert file.name == "__main__.py", f"{file} reads the environment"


def test_no_utils_and_no_module_without_a_docstring() -> None:
    for file in (ROOT / "services").rglob("*.py"):
        assert file.name != "utils.py"
        source = file.read_text()
        assert not source.strip() or ast.get_docstring(ast.parse(source)), f"{file} does not say what it owns"


def test_every_program_of_supervisord_is_a_service() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "config/supervisord.conf")
    programs = {s.partition(":")[2]: config[s]["command"] for s in config.sections() if s.startswith("program:")}
    assert programs == {name: f"python -m services.{name}" for name in ("engine", "api", "ui")}


def test_every_setting_has_a_comment_and_stands_in_both_readmes() -> None:
    file = ROOT / "config/cloister.toml"
    lines = [line for line in file.read_text().splitlines() if re.match(r"^\w+ = ", line)]
    keys = {key for section in tomllib.loads(file.read_text()).values() for key in section}
    assert len(lines) == sum(len(s) for s in tomllib.loads(file.read_text()).values())
    assert [line for line in lines if " # " not in line and not line.startswith("port")] == []
    for readme in ("README.md", "README.zh-CN.md"):
        text = (ROOT / readme).read_text()
        assert [key for key in sorted(keys) if f"`{key}`" not in text] == [], readme


def test_requirements_are_locked_by_hash_and_name_no_host() -> None:
    for file in [*ROOT.glob("*/requirements.txt"), *ROOT.glob("*/*/requirements.txt")]:
        text = file.read_text()
        assert "://" not in text and "--index" not in text and "--find-links" not in text, file
        pins = re.findall(r"^[A-Za-z0-9._-]+==[^\\]*\\\n(?:    --hash=sha256:[0-9a-f]{64}[ \\]*\n?)+", text, re.MULTILINE)
        assert len(pins) == len(re.findall(r"^[A-Za-z0-9._-]+==", text, re.MULTILINE)), f"{file}: a pin without hashes"


def test_requirements_agree_on_versions() -> None:
    versions: dict[str, set[str]] = {}
    for file in [*ROOT.glob("*/requirements.txt"), *ROOT.glob("*/*/requirements.txt")]:
        for pin, version in re.findall(r"^([A-Za-z0-9._-]+==\S+(?: ; .*?)?) \\$()", file.read_text(), re.MULTILINE):
            name, _, marker = pin.partition(" ; ")
            versions.setdefault(name.split("==")[0] + marker, set()).add(name + version)
    assert {name for name, found in versions.items() if len(found) > 1} == set()


def test_shell_scripts_are_clean() -> None:
    scripts = [p for p in (ROOT / "scripts").iterdir() if p.is_file() and p.read_bytes().startswith(b"#!/usr/bin/env bash")]
    done = subprocess.run(
        ["shellcheck", "-x", "-P", ROOT / "scripts", *scripts, ROOT / ".ci/run"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    bare = [p for p in (ROOT / "scripts").rglob("*") if p.is_file() and p.read_bytes().startswith((b"#!/bin/sh", b"# shellcheck shell=sh"))]
    # Sourced files set what others use; install and rollback source them from where they stand.
    command = ["shellcheck", "-e", "SC1090,SC1091,SC2034,SC2154", *bare]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_compose_names_only_settings_that_exist() -> None:
    """What compose.yaml hands to containers are settings; what it reads for itself is told to services/shared/settings.py."""
    from services.shared import settings

    text = (ROOT / "compose.yaml").read_text()
    config = tomllib.loads((ROOT / "config/cloister.toml").read_text())
    known = {f"CLOISTER_{section}__{key}".upper() for section, keys in config.items() for key in keys}
    handed = set(re.findall(r"^ +(CLOISTER_\w+):", text, re.MULTILINE))
    read = set(re.findall(r"\$\{(CLOISTER_\w+)", text))
    assert handed <= known
    assert read - known == settings.COMPOSE_NAMES
    shared = {name for name in known if name.split("__")[0].removeprefix("CLOISTER_") in ("MODEL", "ENGINE", "LOG")}
    assert shared - handed == set(), "a setting of .env would not reach the containers"


def test_the_images_version_is_the_services() -> None:
    from services.shared import VERSION

    assert f'image.version="{VERSION}"' in (ROOT / "docker/Dockerfile").read_text()
    assert set(re.findall(r"CLOISTER_TAG:-([\d.]+)\}", (ROOT / "compose.yaml").read_text())) == {VERSION}
