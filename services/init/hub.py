"""Talks to a Hugging Face hub, or a mirror of one, through the huggingface_hub library's own session.

Owns requests, patience and what a failure means for a person. The library keeps the meaning of HF_ENDPOINT, HF_TOKEN,
HF_HUB_OFFLINE, proxies and SSL_CERT_FILE; its downloader is not used, because in 2.4 every download goes to a new
temporary name and starts over after a kill. Knows nothing of the volume.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, constants, get_session, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from services.init.errors import SourceError, Unreachable
from services.init.verify import Expected

# Seconds to connect, and for the next byte to come; both from the library's own variables, 10 by default.
TIMEOUT = httpx2.Timeout(constants.HF_HUB_ETAG_TIMEOUT, read=constants.HF_HUB_DOWNLOAD_TIMEOUT)
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each further try, when the hub answers badly or breaks off
WAITS_TO_CONNECT = (1.0, 2.0)  # the same when nobody answers at all: usually there is no network
LONGEST_WAIT = 60.0  # seconds of a Retry-After that are waited for
TRANSIENT = (408, 429, 500, 502, 503, 504)

T = TypeVar("T")
log = logging.getLogger("init")


@dataclass(frozen=True)
class Listing:
    """A revision's commit and all its files."""

    commit: str
    files: tuple[Expected, ...]


class _Broken(Exception):
    """The connection broke in the middle of a file."""


def endpoint() -> str:
    """The hub's address, from HF_ENDPOINT."""
    return constants.ENDPOINT


def listing(repo: str, revision: str) -> Listing:
    """Resolve a revision (branch, tag or commit) to its commit, with every file's size and hash. One request.

    Raises:
        Unreachable: nobody answers, or the hub keeps failing.
        SourceError: no such repository or revision, no access, or this is no hub.
    """

    def ask() -> Listing:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT)  # type: ignore[arg-type]
        if not info.sha or info.siblings is None:
            raise ValueError("no commit or no files in the answer")
        return Listing(
            info.sha,
            tuple(Expected(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None, file.blob_id) for file in info.siblings),
        )

    with _explained(repo, revision):
        return _patiently(ask, lambda: None)


def download(repo: str, commit: str, path: str, offset: Callable[[], int], write: Callable[[bytes, int], None]) -> None:
    """Stream a file from where `offset()` says; `write(data, position)` gets every piece. Goes on after broken connections.

    `write` gets a position below the offset when the server ignores ranges and sends the file from its start.

    Raises:
        Unreachable: the connection keeps breaking without a byte of progress, or the hub keeps failing.
        SourceError: no access, or the file is not there.
    """
    url = hf_hub_url(repo, path, revision=commit)

    def stream() -> None:
        # identity: a compressed answer has neither the file's size nor its ranges.
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        position = offset()
        if position:
            headers["Range"] = f"bytes={position}-"
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
            if response.status_code == 416:
                write(b"", 0)
                raise _Broken(f"the hub has no byte {position} of {path}; starting over")
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            if response.status_code != 206:
                position = 0
            for data in response.iter_bytes():
                write(data, position)
                position += len(data)

    with _explained(repo, commit, path):
        _patiently(stream, offset)


def _patiently(act: Callable[[], T], progress: Callable[[], int | None]) -> T:
    """Do it; again after a transient failure, with growing waits. Progress since the last failure starts the patience anew."""
    failures, before = 0, progress()
    while True:
        try:
            return act()
        except (httpx2.TransportError, HfHubHTTPError, _Broken) as error:
            response = error.response if isinstance(error, HfHubHTTPError) else None
            if response is not None and response.status_code not in TRANSIENT:
                raise
            now = progress()
            failures = 1 if now != before else failures + 1
            before = now
            waits = WAITS_TO_CONNECT if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout) else WAITS
            wait = _retry_after(response)
            if failures > len(waits) or (wait or 0) > LONGEST_WAIT:
                raise
            wait = waits[failures - 1] if wait is None else wait
            log.warning(f"{_reason(error)}; trying again in {wait:.0f} s")
            time.sleep(wait)


def _retry_after(response: httpx2.Response | None) -> float | None:
    """Seconds that the hub asks to wait; it may also give a date, which is not waited for."""
    text = response.headers.get("Retry-After", "") if response is not None else ""
    return float(text) if text.isdigit() else None


def _reason(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"the hub answered {error.response.status_code} {error.response.reason_phrase}"
    if isinstance(error, httpx2.TimeoutException):
        return "the hub did not answer in time"
    return f"the connection to the hub failed ({str(error) or type(error).__name__})"


@contextmanager
def _explained(repo: str, revision: str, path: str | None = None) -> Iterator[None]:
    """Turn the library's errors into ours."""
    what = f"{repo}:{path}" if path else repo
    try:
        yield
    except OfflineModeIsEnabled:
        raise Unreachable(f"{what} is not downloaded and HF_HUB_OFFLINE forbids to ask the hub") from None
    except GatedRepoError:
        raise SourceError(
            f"{repo} is gated: accept its licence on {endpoint()}/{repo}, and set HF_TOKEN to a token of that account"
        ) from None
    except RevisionNotFoundError:
        raise SourceError(f"{repo} has no revision {revision!r}; set [model] revision to one of its branches, tags or commits") from None
    except RemoteEntryNotFoundError:
        raise SourceError(f"{repo} has no file {path} at {revision}") from None
    except RepositoryNotFoundError:
        raise SourceError(
            f"{endpoint()} has no model {repo}, or it is private: check the name, or set HF_TOKEN to a token that may read it"
        ) from None
    except HFValidationError as error:
        raise SourceError(f"{repo} can't be the name of a repository: {error}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise SourceError(f"{endpoint()} refuses access to {what} ({status}): set HF_TOKEN to a token that may read it") from None
        if status in TRANSIENT:
            raise Unreachable(f"{endpoint()} keeps failing for {what}: {_reason(error)}") from None
        raise SourceError(f"{endpoint()} answered {status} {error.response.reason_phrase} for {what}") from None
    except httpx2.TransportError as error:
        hint = "; set SSL_CERT_FILE to your certificate authority's file" if "CERTIFICATE" in str(error).upper() else ""
        raise Unreachable(f"{endpoint()} can't be reached for {what}: {_reason(error)}{hint}") from None
    except _Broken as error:
        raise SourceError(f"{what}: {error}") from None
    except (ValueError, KeyError, TypeError, httpx2.HTTPError) as error:
        raise SourceError(
            f"{endpoint()} does not answer like a hub for {what} ({type(error).__name__}); check HF_ENDPOINT and the proxy settings"
        ) from None
