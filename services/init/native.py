"""The native library as quantize and check need it: its backends loaded, its log lines heard, its errors kept.

Owns the log callback (the library writes to it from its own threads; the reference must outlive the library's use of it).
Importing this module loads llama.cpp, so import it only where it is needed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llama_cpp

from services.shared import backend

library: Any = llama_cpp.llama_cpp  # the low-level API: C functions, untyped

ERROR, CONTINUED = 4, 5  # enum ggml_log_level in ggml.h; the comments in llama-cpp-python have other numbers

_listener: Callable[[str], None] | None = None
_errors: list[str] = []
_last_level = 0


def _hear(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    global _last_level
    _last_level = _last_level if level == CONTINUED else level
    line = text.decode("utf-8", "replace")
    if _last_level == ERROR and line.strip():
        _errors.append(line.strip())
    if _listener:
        _listener(line)


_on_log = library.llama_log_callback(_hear)


def start(listener: Callable[[str], None] | None = None) -> None:
    """Load the compute backends once and send every piece of log text to `listener` (pieces may be parts of a line)."""
    global _listener
    _listener = listener
    _errors.clear()
    library.llama_log_set(_on_log, ctypes.c_void_p(0))
    backend.load(llama_cpp)
    library.llama_backend_init()


def reason(otherwise: str) -> str:
    """What went wrong since `start`, in the library's own words: its first error line, for later ones only follow from it."""
    return _errors[0] if _errors else otherwise
