"""What stands in a file that somebody hands to the page: bytes become text, or a reason why not.

Owns what counts as text, and the process that reads a PDF (pdf). Keeps nothing. Knows nothing of HTTP, of languages or of tokens.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
import sys

from services.shared.settings import ROOT

LARGEST = 10_000_000  # bytes of a file
LONGEST = 1_000_000  # bytes of its text in UTF-8
SECONDS = 20  # of computing, for a PDF
MEMORY = 512 << 20  # bytes of address space, for a PDF
PATIENCE = 60.0  # seconds for a PDF, those before it included

# By what files begin with that are no text, and that people take for text or try anyway.
_KINDS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("office", re.compile(rb"PK\x03\x04.{26}(?:\[Content_Types\]|_rels/|word/|xl/|ppt/|mimetypeapplication/vnd)|\xd0\xcf\x11\xe0", re.S)),
    ("archive", re.compile(rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf\x27\x1c|Rar!\x1a|BZh[1-9]1AY|\x28\xb5\x2f\xfd|\xfd7zXZ")),
    ("image", re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|BM.{4}\0{4}|RIFF.{4}WEBP|\0.{3}ftyp(?:heic|avif|mif1)|II\*\0|MM\0\*", re.S)),
    ("media", re.compile(rb"ID3[\2-\4]|OggS\0|fLaC\0|RIFF.{4}(?:WAVE|AVI )|\0.{3}ftyp|\x1aE\xdf\xa3|\xff[\xfb\xf3\xf2]", re.S)),
    ("program", re.compile(rb"\x7fELF|MZ.\0|\xca\xfe\xba\xbe|\xcf\xfa\xed\xfe", re.S)),
)
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # a log may have colours (ESC) and a listing its form feeds
_MOST_CONTROL = 1 / 200  # of a text's characters


class Unreadable(Exception):
    """`reason` is the name of a sentence in services/ui/texts/files.py; `found` and `most` are filled in there."""

    def __init__(self, reason: str, found: str | float = "", most: str | float = "") -> None:
        super().__init__(reason)
        self.reason, self.found, self.most = reason, found, most


class Reader:
    """Reads files, one PDF at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def text(self, data: bytes) -> str:
        """The text, with plain newlines.

        Raises:
            Unreadable: there is none, or too much of it.
        """
        if len(data) > LARGEST:
            raise too_large(len(data))
        pdf = b"%PDF-" in data[:1024]
        text = await self._pdf(data) if pdf else decoded(data).replace("\r\n", "\n").replace("\r", "\n")
        if not text.strip():
            raise Unreadable("empty")
        if (size := len(text.encode())) > LONGEST:
            raise Unreadable("too_long", megabytes(size), megabytes(LONGEST))
        return text

    async def _pdf(self, data: bytes) -> str:
        try:
            async with asyncio.timeout(PATIENCE), self._turn:
                told = json.loads(await _child(data))
        except (TimeoutError, ValueError):  # it was ended by us, or by the limits that it has set itself
            raise Unreadable("pdf_too_much") from None
        if (reason := told.get("reason")) == "too_long":
            raise Unreadable("too_long", f"> {megabytes(LONGEST)}", megabytes(LONGEST))
        if reason:
            raise Unreadable(f"pdf_{reason}", told.get("found", ""))
        return str(told["text"])


async def _child(data: bytes) -> bytes:
    """What services/ui/pdf.py says of a file; nothing if it died. It gets nothing of this process's environment."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    command = (sys.executable, "-m", "services.ui.pdf", *map(str, (LONGEST, SECONDS, MEMORY)))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={}, stdin=pipe, stdout=pipe, stderr=nothing)
    try:
        return (await process.communicate(data))[0]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def decoded(data: bytes) -> str:
    """A text file as text: what its byte order mark says, else UTF-8, else GB18030.

    Raises:
        Unreadable: it is none, or in another encoding.
    """
    if kind := next((kind for kind, begin in _KINDS if begin.match(data)), None):
        raise Unreadable("binary", kind)
    marked = next((encoding for mark, encoding in _BOMS if data.startswith(mark)), None)
    if b"\0" in data and not marked:
        raise Unreadable("binary", "other")
    wrong = 0  # the first byte that is not what the mark says, or not UTF-8
    for encoding in (marked,) if marked else ("utf-8", "gb18030"):
        try:
            text, wrong = data.decode(encoding), 0
            break
        except UnicodeDecodeError as error:
            wrong = wrong or error.start + 1
    else:
        text = "" if marked else data.decode("latin-1")  # to look at only
    if len(_CONTROL.findall(text)) > len(text) * _MOST_CONTROL:
        raise Unreadable("binary", "other")
    if wrong:
        raise Unreadable("encoding", wrong)
    return text


def too_large(size: int) -> Unreadable:
    """A file of so many bytes is more than is read."""
    return Unreadable("too_large", megabytes(size), megabytes(LARGEST))


def megabytes(size: int) -> float:
    """With one digit, and never rounded down to what is allowed."""
    return -(-size // 100_000) / 10
