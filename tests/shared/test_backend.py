"""Backends: a native build needs none loaded; a portable one is tried in tests/stack."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from services.shared import backend


def test_a_native_build_is_left_alone(tmp_path: Path) -> None:
    library = SimpleNamespace(__file__=str(tmp_path / "llama_cpp" / "__init__.py"))  # has nothing that could be called
    assert backend.load(library) == "native"
