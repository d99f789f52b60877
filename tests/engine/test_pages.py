"""Large memory moves into huge pages without a change of what is in it."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import pytest

from services.engine import pages

SIZE = 32 << 20


def huge_bytes() -> int:
    """Bytes of this process that are in huge pages."""
    found = re.search(r"AnonHugePages: +(\d+) kB", Path("/proc/self/smaps_rollup").read_text())
    assert found
    return int(found[1]) << 10


def test_what_was_written_moves_into_huge_pages_and_stays_the_same() -> None:
    modes = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not modes.exists() or "[never]" in modes.read_text():
        pytest.skip("this kernel gives no huge pages")
    memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = bytes(range(256)) * (SIZE >> 8)
    before = huge_bytes()
    moved = pages.enlarge()
    assert moved >= SIZE - 2 * pages.HUGE
    assert huge_bytes() - before >= SIZE - 2 * pages.HUGE
    assert memory[:] == bytes(range(256)) * (SIZE >> 8)


def test_memory_that_was_never_written_is_left_alone() -> None:
    untouched = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    before = int(Path("/proc/self/statm").read_text().split()[1])
    pages.enlarge()
    assert int(Path("/proc/self/statm").read_text().split()[1]) - before < SIZE // 4096 // 2
    untouched.close()
