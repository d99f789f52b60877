"""OSV's API, POST /v1/query (https://google.github.io/osv.dev/post-v1-query/): asked, and answered from a file on this machine.

Knows nothing of what is shipped, or of who judges.
"""

from __future__ import annotations

import datetime
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scripts.updating import advisories
from scripts.updating.advisories import ECOSYSTEM, Database, DatabaseError, Record

URL = "https://api.osv.dev/v1/query"
TIMEOUT = 20.0  # seconds
PAGES = 100  # more than OSV has for any package; a server that never ends is not followed
AT_ONCE = 4  # questions
LARGEST = 1 << 20  # bytes of a question


class OsvError(Exception):
    """It does not answer, or not like OSV; the message is one line for a person."""


def ask(url: str, name: str, version: str | None = None) -> list[Record]:
    """All records of a package, or of one version of it, page after page.

    Raises:
        OsvError: it does not answer, or not like OSV.
    """
    query: dict[str, Any] = {"package": {"name": name, "ecosystem": ECOSYSTEM}} | ({"version": version} if version else {})
    found: list[Record] = []
    for _ in range(PAGES):
        answer = _post(url, query)
        records = answer.get("vulns", [])
        if not isinstance(records, list) or not all(isinstance(record, dict) and "id" in record for record in records):
            raise OsvError(f"{url} does not answer like OSV")
        found += records
        if not (token := answer.get("next_page_token")):
            return found
        query["page_token"] = token
    raise OsvError(f"{url} has no end of pages for {name}")


def collect(url: str, names: Iterable[str], told: Callable[[str], object]) -> Database:
    """Everything that OSV knows of these packages now. `told` is called with each name that is done.

    Raises:
        OsvError: one of them could not be had; then nothing is.
    """
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def one(name: str) -> tuple[str, list[Record]]:
        records = ask(url, name)
        told(name)
        return name, records

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return Database(date, url, dict(pool.map(one, sorted(set(names)))))
        except OsvError:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def serving(database: Database) -> Iterator[str]:
    """Answer from the database at an address of loopback, which is given."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"database": database}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    finally:
        server.shutdown()
        server.server_close()


def _post(url: str, query: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "User-Agent": "cloister-update"}
    try:
        request = urllib.request.Request(url, json.dumps(query).encode(), headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise OsvError(f"{url} answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise OsvError(f"{url} can't be reached ({error.reason})") from None
    except OSError as error:
        raise OsvError(f"{url} can't be reached ({error or type(error).__name__})") from None
    except ValueError as error:
        raise OsvError(f"{url} does not answer like OSV ({type(error).__name__})") from None
    if not isinstance(answer, dict):
        raise OsvError(f"{url} does not answer like OSV")
    return answer


class _Handler(BaseHTTPRequestHandler):
    """One page for every question."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet
    database: Database

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        try:
            query = json.loads(self.rfile.read(min(length, LARGEST)))
            name = query["package"]["name"]
            found = self.database.about(name, query.get("version"))
            # without the parts on other things: pip-audit stumbles over one that names no package
            records = [{**record, "affected": advisories.parts(record, name)} for record in found]
            self._answer(200, {"vulns": records} if records else {})
        except DatabaseError as error:
            self._answer(500, {"message": str(error)})
        except (ValueError, KeyError, TypeError):
            self._answer(400, {"code": 3, "message": "Invalid query."})

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
