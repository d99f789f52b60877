"""A GGUF in F16, BF16 or F32 becomes a smaller one, through the native library's quantizer.

Owns the quants' numbers and the progress. Which quant to take is the settings' choice; what comes before is convert.py's.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

from gguf import LlamaFileType

from services.init import header
from services.init.errors import InitError, SettingsProblem
from services.shared import hardware

FILE_TYPES = {
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
    "q5_0": LlamaFileType.MOSTLY_Q5_0,
    "q5_k_m": LlamaFileType.MOSTLY_Q5_K_M,
    "q6_k": LlamaFileType.MOSTLY_Q6_K,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
}
UNQUANTIZED = ("f16", "bf16", "f32")
ROWS = 64 << 20  # bytes of one tensor's rows that the quantizer keeps at once; its own default is 8 GiB
PROGRESS = re.compile(r"\[ *(\d+)/ *(\d+)\] +(\S+)")


def gguf_quant(path: Path) -> str:
    """Which quant a GGUF has: q4_k_m, f16, ...; `unknown` when the file does not say.

    Raises:
        CorruptFile: it is no whole GGUF.
    """
    return header.read(path).quant


def quantize(source: Path, out: Path, quant: str, threads: int, on_progress: Callable[[int, int, str], None]) -> None:
    """Write `source` as `quant` to `out` (which should be a name that nobody reads; it is not fsynced).

    `threads` are compute threads. `on_progress(done, total, detail)` is told of every tensor begun. The result does not depend
    on `threads`.

    Raises:
        SettingsProblem: no such quant.
        CorruptFile: the source is no whole GGUF.
        InitError: it is quantized already, or the library failed; then with its own error line.
    """
    from services.init import native

    if quant not in FILE_TYPES:
        raise SettingsProblem(f"there is no quant {quant!r}; choose one of {', '.join(FILE_TYPES)}")
    found = header.read(source)
    if found.quant not in UNQUANTIZED:
        raise InitError(
            f"{source} is {found.quant} already and can't become {quant}; set [model] quant to {found.quant}, "
            f"or start from a file in {', '.join(UNQUANTIZED)}"
        )
    total = len(found.tensors)

    def listen(text: str) -> None:
        if step := PROGRESS.match(text):
            on_progress(int(step[1]) - 1, total, step[3])

    native.start(listen)
    parameters = native.library.llama_model_quantize_default_params()
    parameters.nthread = max(1, threads)
    parameters.ftype = int(FILE_TYPES[quant])
    parameters.max_buf_size = ROWS
    status = native.library.llama_model_quantize(bytes(source), bytes(out), ctypes.byref(parameters))
    reason = native.reason(f"status {status}")
    if "iostream error" in reason:  # all that the C++ library says of a failed write
        reason = f"writing failed, with {hardware.human(hardware.disk_free(out.parent))} free on that disk; free some space and start again"
    native.start()
    if status != 0 or not out.is_file():
        raise InitError(f"{source} could not be quantized to {quant}: {reason}")
    on_progress(total, total, "")
