"""OSV for tests: speaks POST /v1/query over real HTTP, with invented advisories.

Owns the protocol (a package alone or with a version, pages, error codes) and matches by the versions that a record lists and nothing
else, so that whoever matches by ranges can be held against it. Counts what was asked. Knows nothing of who asks.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PAGE = 2  # records of one answer to a question without a version; outside it is 1000


def record(name: str, package: str, versions: tuple[str, ...] = (), *events: dict[str, str], **more: Any) -> dict[str, Any]:
    """An advisory that is about `versions`, and says the same by the events of one range."""
    affected: dict[str, Any] = {"package": {"name": package, "ecosystem": "PyPI", "purl": f"pkg:pypi/{package}"}}
    affected |= {"versions": list(versions)} | ({"ranges": [{"type": "ECOSYSTEM", "events": list(events)}]} if events else {})
    dates = {"modified": "2026-02-03T04:05:06.789Z", "published": "2026-01-02T03:04:05Z"}
    return {"id": name, "schema_version": "1.7.0", **dates, "summary": f"invented: {name}", "affected": [affected], **more}


class Osv:
    """The server; a context manager. `status` other than 200 is the answer to everything."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = list(records)
        self.queries: list[dict[str, Any]] = []
        self.status = 200
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"osv": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1/query"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, query: dict[str, Any]) -> dict[str, Any]:
        """What OSV says."""
        package = query["package"]
        assert package["ecosystem"] == "PyPI", package
        mine = [(one, part) for one in self.records for part in one["affected"] if part.get("package", {}).get("name") == package["name"]]
        if version := query.get("version"):
            found = [one for one, part in mine if version in part["versions"]]
            return {"vulns": found} if found else {}
        start = int(query.get("page_token", "0"))
        found = [one for one, _ in mine][start : start + PAGE]
        more = {"next_page_token": str(start + PAGE)} if start + PAGE < len(mine) else {}
        return ({"vulns": found} if found else {}) | more


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet
    osv: Osv

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.osv.queries.append(query)
        status = self.osv.status if self.path == "/v1/query" else 404
        body = json.dumps(self.osv.answer(query) if status == 200 else {"code": 13, "message": "ordered"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
