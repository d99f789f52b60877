"""Is what Cloister needs here: Python, a compiler for llama.cpp, the locked packages."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.diagnosis.finding import Finding, Notes
from services.shared.settings import ROOT

REQUIREMENTS = [f"services/{name}/requirements.txt" for name in ("init", "engine", "api", "ui")] + ["config/requirements.txt"]
OLDEST = (3, 11)


def examine(environ: Mapping[str, str], *, containers: bool) -> list[Finding]:
    """`containers`: it runs in Docker, or would, and then nothing of this is needed on the machine itself."""
    notes, path = Notes("installation"), environ.get("PATH")
    version = ".".join(map(str, sys.version_info[:3]))
    notes.ok(f"Python {version}" if _in_venv() else f"Python {version}, the system's: there is no .venv")
    if _there("llama_cpp"):
        notes.ok("llama.cpp is compiled and installed for this CPU")
    elif containers:
        notes.ok("the images bring llama.cpp: no compiler is needed here")
        return notes.all
    elif compiler := next((name for name in (environ.get("CXX") or "c++", "g++", "clang++") if shutil.which(name, path=path)), None):
        notes.warn(f"llama.cpp is not compiled yet; {compiler} can do it", "run scripts/up, which takes about 5 minutes for it, once")
    else:
        notes.bad(
            "llama.cpp must be compiled once for this CPU and there is no C++ compiler",
            "install one (Debian: apt install g++), or use Docker",
        )
    if _in_venv() and not _stamped(ROOT / ".venv/installed"):
        notes.warn("the packages in .venv are not those that are locked now", "run scripts/setup (scripts/up does it by itself)")
    return notes.all


def _in_venv() -> bool:
    return sys.prefix != sys.base_prefix


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _stamped(stamp: Path) -> bool:
    """Whether scripts/setup has installed these very requirements, alone or with those of the tests."""
    try:
        stamps = stamp.read_text(encoding="utf-8").split()
    except OSError:
        return False
    return any(_hash(files) in stamps for files in (REQUIREMENTS, [*REQUIREMENTS, "tests/requirements.txt"]))


def _hash(files: list[str]) -> str:
    """As scripts/setup has it of these files."""
    return hashlib.sha256(b"".join((ROOT / file).read_bytes() for file in files)).hexdigest()
