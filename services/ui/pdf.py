"""A child process of the page that takes the text out of one PDF: the file comes in, a JSON object goes out, and that is its life.

A PDF is a program for somebody else's parser, so the kernel ends this process when it computes for too long or takes too much memory.
It writes no file. Knows nothing of the page; services/ui/reading.py starts it.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import sys

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]+")


def limit(seconds: int, memory: int) -> None:
    """Bound what this process may take: so many seconds of computing and bytes of memory. Everything else on the machine goes first."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)


def read(data: bytes, most: int) -> dict[str, object]:
    """`text`, of at most so many bytes in UTF-8, or the `reason` why not, with what was `found`: see services/ui/texts/files.py."""
    parts: list[str] = []
    size = count = 0
    try:
        pages = PdfReader(io.BytesIO(data)).pages
        count = len(pages)
        for page in pages:
            part = _CONTROL.sub(" ", page.extract_text()).strip()
            size += len(part.encode()) + 2
            if size > most:
                return {"reason": "too_long"}
            parts.append(part)
    except (FileNotDecryptedError, DependencyError):  # only the library for AES may be missing
        return {"reason": "encrypted"}
    except (LimitReachedError, MemoryError):
        return {"reason": "too_much"}
    except Exception:  # whatever a broken file makes of a parser
        return {"reason": "damaged", "found": len(parts) + 1} if count else {"reason": "broken"}
    text = "\n\n".join(part for part in parts if part)
    return {"text": text} if text else {"reason": "no_text", "found": count}


def main() -> None:
    """Read the file from the standard input; the arguments are the most bytes of text, the seconds, and the bytes of memory."""
    most, seconds, memory = map(int, sys.argv[1:])
    limit(seconds, memory)
    sys.stdout.buffer.write(json.dumps(read(sys.stdin.buffer.read(), most)).encode())


if __name__ == "__main__":
    main()
