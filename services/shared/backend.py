"""llama.cpp's compute backends: loads the CPU variant that suits this machine where the library was built with one file a variant.

A portable build (GGML_BACKEND_DL, as in the container images) brings variants from plain x86-64 to AVX-512 and loads none by
itself; a native build has its one backend inside. The library is handed in, so that services without it can import this package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_loaded: list[str] = []


def load(library: Any) -> str:
    """Load the backends of the `llama_cpp` package, once a process; the name of the variant: `haswell`, or `native`.

    The variants lie in site-packages/bin; llama.cpp asks each of them how well it suits this CPU.
    """
    variants = Path(library.__file__).parents[1] / "bin"
    if not any(variants.glob("libggml-cpu-*.so")):
        return "native"
    if not _loaded:
        # Not through CDLL("libggml.so"): that copy fills a registry which libllama never sees.
        library.llama_cpp._lib.ggml_backend_load_all_from_path(str(variants).encode())
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        _loaded[:] = sorted(set(re.findall(r"/libggml-cpu-(\w+)\.so", mapped)))
    return "+".join(_loaded) or "none"
