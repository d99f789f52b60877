"""What tests of real engine processes stand on."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose name is short: a socket's path has at most 107 bytes."""
    return tmp_path_factory.mktemp("e")
