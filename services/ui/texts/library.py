"""What there is to say about versions of a question or an answer, and about the conversations that the browser keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LibraryWords:
    """One language."""

    version: str
    earlier: str
    later: str


EN = LibraryWords(
    version="Version {shown} of {all}",
    earlier="Earlier version",
    later="Later version",
)

ZH = LibraryWords(
    version="第 {shown} 版，共 {all} 版",
    earlier="上一版",
    later="下一版",
)
