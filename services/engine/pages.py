"""Huge pages for what the model reads at every token: weights and KV cache.

A step streams all weights through the CPU. In pages of 4 KB that costs an address translation every 64 cache lines, twice as dear
in a virtual machine; in pages of 2 MB a step took 0.87 of the time (docs/performance.md). Linux gives them on request where
/sys/kernel/mm/transparent_hugepage/enabled says `madvise`, the default of most distributions. Knows nothing of the model.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

HUGE = 2 << 20  # bytes
LEAST = 4 * HUGE  # of a mapping that is worth it
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25  # https://man7.org/linux/man-pages/man2/madvise.2.html; the second since Linux 6.1
MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *$", re.MULTILINE)  # private, writable, of no file, without a name


def enlarge() -> int:
    """Move the large anonymous mappings of this process into huge pages; bytes that were moved. Takes some 2 seconds a gigabyte, and
    may run beside a step. Where the kernel has no huge pages to give, or is older than Linux 6.1, it moves them by and by, or never."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    moved = 0
    for begin, end in mappings():
        start, stop = -(-begin // HUGE) * HUGE, end // HUGE * HUGE
        madvise(start, stop - start, MADV_HUGEPAGE)
        for page in range(start, stop, HUGE):  # one by one: the kernel gives up at the first that was never written
            if madvise(page, HUGE, MADV_COLLAPSE) == 0:
                moved += HUGE
    return moved


def mappings() -> Iterator[tuple[int, int]]:
    """Begin and end of the large anonymous mappings of this process."""
    for found in MAPPING.finditer(Path("/proc/self/maps").read_text()):
        begin, end = int(found[1], 16), int(found[2], 16)
        if end - begin >= LEAST:
            yield begin, end
