"""Another node that has prepared the model and gives it away over HTTP: `depot` of swarm.yaml, with docker/Caddyfile.depot.

Owns requests and patience. There is nobody else to ask, and the first node may need an hour to prepare, so it waits for as long as it
takes; every single request is bounded. Knows nothing of the volume.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import BinaryIO

import httpx2

from services.init.errors import InitError, SettingsProblem
from services.shared import manifest
from services.shared.manifest import Manifest
from services.shared.progress import Progress

TIMEOUT = httpx2.Timeout(10.0, read=30.0)  # seconds to connect, and for the next byte to come
WAIT = 2.0  # seconds before the next try
SAY_EVERY = 60.0  # seconds between two log lines that say the same
LARGEST = 16 << 20  # bytes of a manifest; a chat template is the largest thing in it
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # what names become directories

Waiting = Callable[[str, Progress | None], None]


class Changed(Exception):
    """The peer does not have this file any more: it prepares, or publishes another one."""


class Wrong(Exception):
    """The file is not what the manifest says; the message says how."""


class Peer:
    """The node at `url`. Asked directly: a proxy for the way to the hub knows no names of the inside."""

    def __init__(self, url: str, log: logging.Logger) -> None:
        if not re.fullmatch(r"https?://[^/\s]+/?", url):
            raise SettingsProblem(f"[model] peer must look like http://depot:8080; found {url!r}")
        self.url = url.rstrip("/")
        self._log = log
        self._client = httpx2.Client(base_url=self.url, timeout=TIMEOUT, trust_env=False, headers={"Accept-Encoding": "identity"})
        self._said, self._say_again = "", 0.0

    def published(self, waiting: Waiting) -> tuple[str, Manifest]:
        """The manifest of the model that the peer has in use, as text and as it is understood; waits until there is one, and tells
        `waiting` what for and how far the peer is.

        Raises:
            InitError: it is no manifest of this version.
        """
        while True:
            try:
                answer = self._client.get("/volume/current/manifest.json")
                if answer.status_code == HTTPStatus.OK and len(answer.content) <= LARGEST:
                    return answer.text, self._understood(answer.text)
                reason = "has no model yet" if answer.status_code == HTTPStatus.NOT_FOUND else f"answers {answer.status_code}"
            except httpx2.TransportError as error:
                reason = _reason(error)
            now = self.progress()
            if now and now.state == "failed":
                reason = f"could not prepare the model: {now.error}"
            waiting(self._wait(reason), now)

    def progress(self) -> Progress | None:
        """What the peer's own init does or did last; None when it does not say."""
        try:
            answer = self._client.get("/progress/progress.json")
            return Progress(**answer.json()) if answer.status_code == HTTPStatus.OK else None
        except (httpx2.HTTPError, ValueError, TypeError):
            return None

    def download(self, path: str, size: int, out: BinaryIO, advance: Callable[[int], None]) -> None:
        """Append to `out` what it lacks of the `size` bytes of a file, going on after broken connections; `advance` gets the bytes that
        came, and less than nothing where they must come again.

        Raises:
            Changed: there is no such file now.
            Wrong: it has another size.
        """
        while (there := out.seek(0, 2)) != size:
            if there > size:
                advance(-there)
                out.truncate(0)
                continue
            try:
                self._stream(path, size, there, out, advance)
            except httpx2.TransportError as error:
                self._wait(_reason(error))
            finally:
                out.flush()

    def _stream(self, path: str, size: int, there: int, out: BinaryIO, advance: Callable[[int], None]) -> None:
        headers = {"Range": f"bytes={there}-"} if there else {}
        with self._client.stream("GET", path, headers=headers) as answer:
            if answer.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
                self._wait("has another model now")
                raise Changed
            if answer.status_code not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                self._wait(f"answers {answer.status_code}")
                return
            if there and answer.status_code == HTTPStatus.OK:  # it does not do ranges
                advance(-there)
                out.truncate(0)
            whole = answer.headers.get("Content-Range", "").rpartition("/")[2] or answer.headers.get("Content-Length", "")
            if whole != str(size):
                raise Wrong(f"it has {whole or 'an unknown number of'} bytes instead of {size}")
            for data in answer.iter_raw():
                out.write(data)
                advance(len(data))

    def _wait(self, reason: str) -> str:
        """Say why, not too often, and wait; returns the sentence."""
        sentence = f"waiting for {self.url}: it {reason}"
        now = time.monotonic()
        if sentence != self._said or now >= self._say_again:
            self._log.info(sentence)
            self._said, self._say_again = sentence, now + SAY_EVERY
        time.sleep(WAIT)
        return sentence

    def _understood(self, text: str) -> Manifest:
        try:
            made = manifest.parse(text, self.url)
        except manifest.ManifestError as error:
            raise InitError(f"{error}; both nodes must run the same version of Cloister") from None
        if not (PLAIN.fullmatch(made.name) and PLAIN.fullmatch(made.quant) and made.model.path == manifest.MODEL):
            raise InitError(f"{self.url} names its model {made.name!r}, {made.quant!r}, {made.model.path!r}, which can't be its place here")
        return made


def _reason(error: httpx2.TransportError) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return "did not answer in time"
    return f"can't be reached ({str(error) or type(error).__name__})"
