"""A Hugging Face hub for tests: speaks the hub's protocol over real HTTP, so that the real huggingface_hub client talks to it.

Owns the protocol (model info, tree, paths-info, refs, resolve with redirects to a "CDN", ranges, error codes) and faults on
order: refuse, slow down, cut, corrupt. Serves folders as repositories. Counts every request and every byte. Knows nothing of init.

    python -m tests.hub --repo owner/name=FOLDER --port 8100      then HF_ENDPOINT=http://127.0.0.1:8100
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TextIO
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".pkl")
LFS_SIZE = 10_000_000  # bytes from which the hub takes any file as LFS
PIECE = 64 << 10
TREE_PAGE = 3  # entries of a page of the tree: few, so that every repository has several


@dataclass(frozen=True)
class Entry:
    """A file at a commit. `size` and hashes are what the hub says of it; a test may make them untrue."""

    path: str
    content: Path
    size: int
    sha256: str
    blob: str

    @property
    def lfs(self) -> bool:
        return self.path.endswith(LFS) or self.size >= LFS_SIZE

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob


@dataclass
class Repository:
    """Commits by id, each with its files by path; branches and tags point at commits."""

    commits: dict[str, dict[str, Entry]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(self, revision: str) -> str | None:
        if revision in self.commits:
            return revision
        return self.branches.get(revision) or self.tags.get(revision)


@dataclass
class Fault:
    """What goes wrong with requests whose `METHOD /path` matches, `times` times (None: always).

    `status` answers with an error and `headers`; `cut` closes the connection after that many bytes of the body; `flip` inverts
    the byte at that offset of the file; `rate` is bytes a second; `silence` answers nothing for that many seconds, then closes;
    `ranges` False ignores Range.
    """

    match: str
    times: int | None = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    flip: int | None = None
    rate: float | None = None
    silence: float | None = None
    ranges: bool = True


@dataclass
class Request:
    """One request as it was served. `file` is the repository's file that the body came from, `sent` bytes of it."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    status: int = 0
    file: str | None = None
    sent: int = 0


class Hub:
    """The server; a context manager. `token`: what a private or gated repository asks for. `xet`: headers of a Xet store
    that nobody answers at. `rate` limits every body, in bytes a second. `tls`: a PEM file with key and certificate, for https.
    `cdn`: another name or address of this machine, for which clients don't have the token."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str = "hf_right",
        xet: bool = False,
        rate: float | None = None,
        tls: Path | None = None,
        cdn: str = "localhost",
    ) -> None:
        self.repositories: dict[str, Repository] = {}
        self.token, self.xet, self.rate, self.cdn = token, xet, rate, cdn
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.journal: TextIO | None = None  # gets a line for each request
        self._lock = threading.Lock()
        self._server = _Server((host, port), self)
        self._scheme = "https" if tls else "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def endpoint(self) -> str:
        """For HF_ENDPOINT."""
        host, port = self._server.server_address[:2]
        return f"{self._scheme}://{host!s}:{port}"

    @property
    def scheme(self) -> str:
        return self._scheme

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        """Serve in this thread until interrupted."""
        self._server.serve_forever()

    def add(self, repo: str, folder: Path, *, branch: str = "main", tag: str | None = None) -> str:
        """A commit with the folder's files as they are now; returns its id."""
        entries = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = str(path.relative_to(folder))
                entries[name] = Entry(name, path, path.stat().st_size, *_hashes(path))
        repository = self.repositories.setdefault(repo, Repository())
        text = "".join(f"{entry.blob} {entry.path}\n" for entry in entries.values()) + repo
        commit = hashlib.sha1(text.encode()).hexdigest()
        repository.commits[commit] = entries
        repository.branches[branch] = commit
        if tag:
            repository.tags[tag] = commit
        return commit

    def fault(self, match: str, **what: Any) -> Fault:
        """Order a fault for requests that match the regular expression; the first that matches counts."""
        fault = Fault(match, **what)
        self.faults.append(fault)
        return fault

    def sent(self, file: str) -> int:
        """Bytes of a file that went out, over all requests."""
        return sum(request.sent for request in self.requests if request.file == file)

    def gets(self, file: str) -> list[Request]:
        """The requests that sent of a file."""
        return [request for request in self.requests if request.file == file and request.method == "GET"]

    def take_fault(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times != 0 and re.search(fault.match, f"{request.method} {request.path}"):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        self.hub = hub
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what the tests are about."""


class _Refusal(Exception):
    """An error answer: status, the hub's code and its message."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        # Small, so that what counts as sent is close to what has arrived.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        hub = self.server.hub
        self.request_ = Request(self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization"))
        hub.requests.append(self.request_)
        if hub.journal:
            print(f"{self.client_address[0]} {self.command} {self.path}", file=hub.journal, flush=True)
        self.fault = hub.take_fault(self.request_)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.fault and self.fault.silence is not None:
                time.sleep(self.fault.silence)
                self.close_connection = True
                return
            if self.fault and self.fault.status is not None:
                self._answer(self.fault.status, b'{"error": "ordered"}', {"Content-Type": "application/json", **self.fault.headers})
                return
            self._route(body)
        except _Refusal as refusal:
            headers = {"X-Error-Message": str(refusal), "Content-Type": "application/json"}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self._answer(refusal.status, json.dumps({"error": str(refusal)}).encode(), headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _origin(self, *, cdn: bool = False) -> str:
        """The address by which the client found us. LFS files come from another origin, as outside, where loopback has two names."""
        host = self.headers.get("Host", "localhost")
        if cdn:
            host = f"{self.server.hub.cdn}:{self.server.server_address[1]}"
        return f"{self.server.hub.scheme}://{host}"

    def _route(self, body: bytes) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        path = url.path
        if match := re.fullmatch(r"/cdn/([0-9a-f]{64})/(.+)", path):
            return self._cdn(match[1])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            return self._info(match[1], "main", query)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", path):
            return self._info(match[1], unquote(match[2]), query)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?", path):
            return self._tree(match[1], unquote(match[2]), unquote(match[3] or ""), query)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/paths-info/([^/]+)", path):
            return self._paths(match[1], unquote(match[2]), parse_qs(body.decode()).get("paths", []))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/refs", path):
            return self._refs(match[1])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(match[1], unquote(match[2]), unquote(match[3]))
        raise _Refusal(404, None, "Not Found")

    def _repository(self, repo: str) -> Repository:
        hub = self.server.hub
        repository = hub.repositories.get(repo)
        known = self.headers.get("Authorization") == f"Bearer {hub.token}"
        if self.headers.get("Authorization") and not known:
            raise _Refusal(401, None, "Invalid credentials in Authorization header")
        if repository is None or (repository.private and not known):
            # The hub does not tell a stranger which of the two it is.
            raise _Refusal(404 if known else 401, "RepoNotFound", "Repository not found")
        return repository

    def _commit(self, repo: str, revision: str) -> tuple[str, dict[str, Entry]]:
        repository = self._repository(repo)
        commit = repository.commit(revision)
        if commit is None:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository.commits[commit]

    def _info(self, repo: str, revision: str, query: dict[str, list[str]]) -> None:
        commit, entries = self._commit(repo, revision)
        blobs = "blobs" in query
        siblings: list[dict[str, Any]] = []
        for entry in entries.values():
            sibling: dict[str, Any] = {"rfilename": entry.path}
            if blobs:
                sibling |= {"size": entry.size, "blobId": entry.blob}
                if entry.lfs:
                    sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 135}
            siblings.append(sibling)
        repository = self.server.hub.repositories[repo]
        gated = "manual" if repository.gated else False
        self._json(
            {"_id": commit[:24], "id": repo, "modelId": repo, "sha": commit, "private": repository.private, "gated": gated}
            | {"disabled": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings}
        )

    def _tree(self, repo: str, revision: str, below: str, query: dict[str, list[str]]) -> None:
        _, entries = self._commit(repo, revision)
        inside = [entry for entry in entries.values() if not below or entry.path.startswith(below.rstrip("/") + "/")]
        if below and not inside:
            raise _Refusal(404, "EntryNotFound", f"{below} does not exist on {revision}")
        if query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
            depth = below.count("/") + 1 if below else 0
            inside = [entry for entry in inside if entry.path.count("/") == depth]
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + TREE_PAGE < len(inside):
            more = f"{self._origin()}{urlsplit(self.path).path}?recursive=true&cursor={start + TREE_PAGE}"
            headers["Link"] = f'<{more}>; rel="next"'
        self._json([self._described(entry) for entry in inside[start : start + TREE_PAGE]], headers)

    def _paths(self, repo: str, revision: str, wanted: list[str]) -> None:
        _, entries = self._commit(repo, revision)
        self._json([self._described(entries[path]) for path in wanted if path in entries])

    def _described(self, entry: Entry) -> dict[str, Any]:
        described: dict[str, Any] = {"type": "file", "oid": entry.blob, "size": entry.size, "path": entry.path}
        if entry.lfs:
            described["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 135}
            if self.server.hub.xet:
                described["xetHash"] = entry.sha256
        return described

    def _refs(self, repo: str) -> None:
        repository = self._repository(repo)
        branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit} for name, commit in repository.branches.items()]
        tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit} for name, commit in repository.tags.items()]
        self._json({"branches": branches, "converts": [], "tags": tags})

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        hub = self.server.hub
        commit, entries = self._commit(repo, revision)
        repository = hub.repositories[repo]
        if repository.gated and self.headers.get("Authorization") != f"Bearer {hub.token}":
            raise _Refusal(401, "GatedRepo", f"Access to model {repo} is restricted. You must have access to it and be authenticated.")
        entry = entries.get(path)
        if entry is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not entry.lfs:
            self._file(entry, headers | {"ETag": f'"{entry.etag}"'})
            return
        headers |= {"X-Linked-Etag": f'"{entry.etag}"', "X-Linked-Size": str(entry.size), "ETag": f'"{entry.blob}"'}
        if hub.xet:
            headers["X-Xet-Hash"] = entry.sha256
            headers["Link"] = f'<{self._origin()}/api/models/{repo}/xet-read-token/{commit}>; rel="xet-auth"'
        self._answer(
            302, b"", headers | {"Location": f"{self._origin(cdn=True)}/cdn/{entry.sha256}/{quote(repo)}/{quote(path)}?Signature=x"}
        )

    def _cdn(self, sha256: str) -> None:
        if self.headers.get("Authorization"):
            raise _Refusal(400, None, "Only one auth mechanism allowed")  # as storage with signed addresses says
        for repository in self.server.hub.repositories.values():
            for entries in repository.commits.values():
                for entry in entries.values():
                    if entry.sha256 == sha256:
                        return self._file(entry, {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})
        raise _Refusal(403, None, "Forbidden")

    def _file(self, entry: Entry, headers: dict[str, str]) -> None:
        request, fault = self.request_, self.fault or Fault("")
        request.file = entry.path
        start, status = 0, 200
        if fault.ranges and (match := re.fullmatch(r"bytes=(\d+)-", request.range or "")):
            start, status = int(match[1]), 206
            if start >= entry.size:
                self._answer(416, b"", {"Content-Range": f"bytes */{entry.size}"})
                return
            headers = headers | {"Content-Range": f"bytes {start}-{entry.size - 1}/{entry.size}"}
        self._head(status, headers | {"Content-Length": str(entry.size - start), "Content-Type": "application/octet-stream"})
        if self.command == "HEAD":
            return
        rate = fault.rate or self.server.hub.rate
        began = time.monotonic()
        with entry.content.open("rb") as file:
            file.seek(start)
            position = start
            while position < entry.size:
                length = min(PIECE, entry.size - position)
                if fault.cut is not None:
                    length = min(length, fault.cut - (position - start))
                    if length <= 0:
                        self.close_connection = True
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return
                piece = bytearray(file.read(length))
                if fault.flip is not None and position <= fault.flip < position + length:
                    piece[fault.flip - position] ^= 0xFF
                request.sent += len(piece)  # before anybody can have it
                self.wfile.write(piece)
                position += len(piece)
                if rate:
                    time.sleep(max(0.0, (position - start) / rate - (time.monotonic() - began)))

    def _json(self, value: object, headers: Mapping[str, str] | None = None) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._head(status, {**headers, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.request_.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _hashes(path: Path) -> tuple[str, str]:
    """SHA-256 and git blob id."""
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    for piece in _pieces(path):
        sha256.update(piece)
        blob.update(piece)
    return sha256.hexdigest(), blob.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def main() -> None:
    parser = argparse.ArgumentParser(description="A Hugging Face hub for tests, over folders.")
    parser.add_argument("--repo", action="append", required=True, metavar="OWNER/NAME=FOLDER")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--rate", type=float, help="bytes a second of every body")
    parser.add_argument("--gated", action="append", default=[], metavar="OWNER/NAME")
    parser.add_argument("--token", default="hf_right", help="what gated repositories ask for")
    parser.add_argument("--xet", action="store_true", help="announce a Xet store that nobody answers at")
    parser.add_argument("--cdn", default="localhost", help="another name of this machine, where large files come from")
    parser.add_argument("--journal", type=argparse.FileType("a"), help="a file that gets a line for each request")
    given = parser.parse_args()
    hub = Hub(given.host, given.port, token=given.token, xet=given.xet, rate=given.rate, cdn=given.cdn)
    hub.journal = given.journal
    for item in given.repo:
        repo, _, folder = item.partition("=")
        print(f"{repo} at {hub.add(repo, Path(folder))}")
        hub.repositories[repo].gated = repo in given.gated
    print(f"HF_ENDPOINT={hub.endpoint}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        hub.serve()


if __name__ == "__main__":
    main()
