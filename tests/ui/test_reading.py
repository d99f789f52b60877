"""What becomes of a file's bytes: text in its encodings, PDF, and a reason for everything else; and PDFs made to do harm."""

from __future__ import annotations

import asyncio
import codecs
import io
import time
import zlib
from collections.abc import Sequence

import pytest
from pypdf import PdfReader, PdfWriter

from services.ui import reading
from services.ui.reading import LARGEST, LONGEST, Reader, Unreadable
from services.ui.texts import EN, ZH


def text(data: bytes) -> str:
    return asyncio.run(Reader().text(data))


def refusal(data: bytes) -> Unreadable:
    """Why it is not read; both languages have a sentence for it."""
    with pytest.raises(Unreadable) as found:
        text(data)
    error = found.value
    for words in (EN.files, ZH.files):
        assert "{" not in words.reasons[error.reason].format(found=error.found, most=error.most)
        assert error.reason != "binary" or error.found in words.kinds
    return error


# PDFs


def objects(*bodies: bytes) -> bytes:
    """A file of these objects, numbered from 1; the first is the catalogue."""
    out, places = io.BytesIO(), []
    out.write(b"%PDF-1.7\n")
    for number, body in enumerate(bodies, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(bodies) + 1, start))
    return out.getvalue()


def stream(content: bytes, extra: bytes = b"") -> bytes:
    return b"<< /Length %d %s>>\nstream\n%s\nendstream" % (len(content), extra, content)


def pdf(*contents: bytes) -> bytes:
    """A page for each of these content streams."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * place) for place in range(len(contents)))
    bodies = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(contents), kids)]
    bodies.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for place, content in enumerate(contents):
        resources = b"/Resources << /Font << /F1 3 0 R >> >> /MediaBox [0 0 612 792]"
        bodies.append(b"<< /Type /Page /Parent 2 0 R %s /Contents %d 0 R >>" % (resources, 5 + 2 * place))
        bodies.append(content if content.startswith(b"<<") else stream(content))
    return objects(*bodies)


def lines(*texts: str) -> bytes:
    """A content stream with a line for each text."""
    return b"BT /F1 12 Tf 14 TL 72 720 Td %s ET" % b" T* ".join(b"(%s) Tj" % line.encode("latin-1") for line in texts)


def encrypted(data: bytes, password: str, owner: str = "owner") -> bytes:
    writer, out = PdfWriter(clone_from=PdfReader(io.BytesIO(data))), io.BytesIO()
    writer.encrypt(password, owner_password=owner, algorithm="RC4-128")
    writer.write(out)
    return out.getvalue()


# Text

CHINESE = "姓名,数量\n鸡,23\n兔,12\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a,b\r\n1,2\r\n", "a,b\n1,2\n"),
        (b"one\rtwo", "one\ntwo"),
        (CHINESE.encode(), CHINESE),
        (codecs.BOM_UTF8 + CHINESE.encode(), CHINESE),
        (CHINESE.encode("utf-16"), CHINESE),
        (codecs.BOM_UTF16_BE + CHINESE.encode("utf-16-be"), CHINESE),
        (CHINESE.encode("utf-32"), CHINESE),
        (CHINESE.encode("gb18030"), CHINESE),
        ("🐇 €".encode("gb18030"), "🐇 €"),
        (b"# Title\n\n```python\nprint('x')\n```\n", "# Title\n\n```python\nprint('x')\n```\n"),
        (b"\x1b[31mred\x1b[0m\tlog\x0c\n", "\x1b[31mred\x1b[0m\tlog\x0c\n"),
        (b"ID3,name\n1,a\n", "ID3,name\n1,a\n"),
        (b"MZ is a letter pair", "MZ is a letter pair"),
        (b"BMW " * 40, "BMW " * 40),
    ],
)
def test_text_in_its_encodings(data: bytes, expected: str) -> None:
    assert text(data) == expected


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "image"),
        (b"GIF89a" + bytes(20), "image"),
        (b"RIFF\x00\x01\x00\x00WEBPVP8 ", "image"),
        (b"\0\0\0\x18ftypheic" + bytes(9), "image"),
        (b"\0\0\0\x18ftypmp42" + bytes(9), "media"),
        (b"RIFF\x00\x01\x00\x00WAVEfmt ", "media"),
        (b"ID3\x03\0\0", "media"),
        (b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml", "office"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(9), "office"),
        (b"PK\x03\x04" + bytes(26) + b"a.txt", "archive"),
        (b"\x1f\x8b\x08\0", "archive"),
        (b"\x7fELF\x02\x01\x01", "program"),
        (bytes(range(256)) * 4, "other"),
        (b"text and a \0 in it", "other"),
        (bytes(range(1, 32)) * 4, "other"),
        (b"\xff" * 10 + b"\x01\x02\x03" * 10, "other"),
    ],
)
def test_what_is_no_text_is_named(data: bytes, kind: str) -> None:
    error = refusal(data)
    assert (error.reason, error.found) == ("binary", kind)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ("Überall größer – naïve café ".encode("latin-1", "replace") + b"\xff\xff", 1),
        ("ab日本".encode("shift-jis") + b"\xfc \n" * 9, 3),
        (codecs.BOM_UTF16_LE + b"a\0b", 5),
    ],
)
def test_another_encoding_is_told_with_the_place(data: bytes, place: int) -> None:
    error = refusal(data)
    assert (error.reason, error.found) == ("encoding", place)


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", codecs.BOM_UTF8])
def test_an_empty_file_is_refused(data: bytes) -> None:
    assert refusal(data).reason == "empty"


def test_too_much_is_refused_with_both_numbers() -> None:
    error = refusal(b"a" * (LARGEST + 1))
    assert (error.reason, error.found, error.most) == ("too_large", 10.1, 10.0)
    assert "10.1 MB" in EN.files.reasons[error.reason].format(found=error.found, most=error.most)
    error = refusal("字".encode("gb18030") * 400_000)
    assert (error.reason, error.found, error.most) == ("too_long", 1.2, 1.0)
    assert len(text(b"a" * LONGEST)) == LONGEST


# PDF


def test_a_pdf_is_its_text_page_by_page() -> None:
    data = pdf(lines("Rabbits: 12", "Chickens: 23"), lines("Page two"))
    assert text(data) == "Rabbits: 12\nChickens: 23\n\nPage two"
    assert text(b"\n" * 100 + data).endswith("Page two")  # what a mail put in front of it


def test_a_pdf_whose_password_only_guards_printing_is_read() -> None:
    assert text(encrypted(pdf(lines("Open")), "")) == "Open"


@pytest.mark.parametrize(
    ("data", "reason", "found"),
    [
        (encrypted(pdf(lines("Secret")), "secret"), "pdf_encrypted", ""),
        (pdf(b"0 0 m 9 9 l S", b"", b"q Q"), "pdf_no_text", 3),
        (b"%PDF-1.7\nnothing of the kind", "pdf_broken", ""),
        (pdf(lines("x"))[:200], "pdf_broken", ""),
        (b"%PDF-1.7\n", "pdf_broken", ""),
    ],
)
def test_a_pdf_without_text_to_read_says_why(data: bytes, reason: str, found: object) -> None:
    error = refusal(data)
    assert (error.reason, error.found) == (reason, found)


def test_a_pdf_in_a_newer_encryption_says_so() -> None:
    """Its key is in the file, but the library for AES is not among ours."""
    trailer = (
        b"<< /Filter /Standard /V 5 /R 6 /Length 256 /P -1 /O (%s) /U (%s) /OE (%s) /UE (%s) /Perms (%s) "
        b"/CF << /StdCF << /CFM /AESV3 /Length 32 >> >> /StmF /StdCF /StrF /StdCF >>"
    ) % (b"o" * 48, b"u" * 48, b"e" * 32, b"e" * 32, b"p" * 16)
    data = pdf(lines("Secret")).replace(b"/Root 1 0 R", b"/Root 1 0 R /Encrypt " + trailer)
    assert refusal(data).reason == "pdf_encrypted"


def bomb(size: int, rounds: int = 1) -> bytes:
    """A content stream that unpacks to so many bytes."""
    content = lines("x") + b" " * size
    for _ in range(rounds):
        content = zlib.compress(content, 9)
    filters = b"/Filter [%s]" % b" ".join([b"/FlateDecode"] * rounds)
    return stream(content, filters)


def endless(*kids: bytes) -> bytes:
    return objects(b"<< /Type /Catalog /Pages 2 0 R >>", *(b"<< /Type /Pages /Count 1 /Kids [%s] >>" % kid for kid in kids))


HOSTILE: dict[str, bytes] = {
    "a page tree that bites its tail": endless(b"2 0 R"),
    "a page tree in a circle": endless(b"3 0 R", b"4 0 R", b"2 0 R"),
    "a page tree that doubles forty times": endless(*(b"%d 0 R %d 0 R" % (n, n) for n in range(3, 43)), b""),
    "a stream that unpacks to 300 MB": pdf(bomb(300_000_000)),
    "a stream packed twice": pdf(bomb(300_000_000, 2)),
    "a form that draws itself": pdf(b"/X Do").replace(b"/Font <<", b"/XObject << /X 5 0 R >> /Font <<"),
    "an array of a million arrays": pdf(b"<< /Length 5 >>\nstream\nq Q q\nendstream").replace(b"[0 0 612 792]", b"[" * 100_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pdf_that_is_made_to_do_harm_is_refused(name: str) -> None:
    began = time.monotonic()
    assert refusal(HOSTILE[name]).reason in ("pdf_too_much", "pdf_broken", "pdf_damaged", "pdf_no_text")
    assert time.monotonic() - began < reading.PATIENCE


def test_whatever_takes_too_long_is_ended_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pdf(lines(*["word"] * 300_000))
    monkeypatch.setattr(reading, "SECONDS", 1)
    began = time.monotonic()
    assert refusal(data).reason == "pdf_too_much"
    assert time.monotonic() - began < reading.PATIENCE


def test_whatever_takes_too_much_memory_is_ended_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MEMORY", 90 << 20)
    assert refusal(pdf(bomb(70_000_000))).reason == "pdf_too_much"
    monkeypatch.undo()
    assert text(pdf(lines("x"))) == "x"


def test_a_pdf_with_too_much_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST", 100)
    error = refusal(pdf(lines("a" * 60), lines("b" * 60)))
    assert error.reason == "too_long"
    assert text(pdf(lines("a" * 60))) == "a" * 60


def test_one_pdf_at_a_time_and_none_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once: list[int] = []
    running = 0

    async def slow(data: bytes) -> bytes:
        nonlocal running
        running += 1
        at_once.append(running)
        await asyncio.sleep(0.05 if data.endswith(b"quick") else 60)
        running -= 1
        return b'{"text": "read"}'

    monkeypatch.setattr(reading, "_child", slow)

    async def play() -> Sequence[object]:
        reader = Reader()
        quick = await asyncio.gather(*(reader.text(b"%PDF-quick") for _ in range(3)))
        monkeypatch.setattr(reading, "PATIENCE", 0.2)
        return [*quick, *await asyncio.gather(*(reader.text(b"%PDF-slow") for _ in range(2)), return_exceptions=True)]

    found = asyncio.run(play())
    assert found[:3] == ["read"] * 3 and max(at_once[:3]) == 1
    assert [getattr(error, "reason", error) for error in found[3:]] == ["pdf_too_much"] * 2


def test_the_child_is_gone_when_nobody_waits_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    create = asyncio.create_subprocess_exec

    async def watched(*command: str, **more: object) -> asyncio.subprocess.Process:
        assert more["env"] == {}  # nothing of ours
        started.append(await create(*command, **more))  # type: ignore[arg-type]
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)

    async def play() -> None:
        task = asyncio.create_task(Reader().text(pdf(lines(*["word"] * 300_000))))
        while not started:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert started[0].returncode is not None

    asyncio.run(play())
