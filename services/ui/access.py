"""Who may see the page: everything but the login waits until somebody has logged in, as long as there are passwords.

Owns the ways in and out and the cookies; the visits are kept by visits, the guesses counted by throttle, the form drawn by login.
What is logged says that a login went well or not, and never what was typed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import math
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.shared import logs
from services.shared.secret import SecretError, Secrets
from services.ui import login
from services.ui.texts import WORDS, Language, spoken
from services.ui.throttle import Key, Throttle
from services.ui.visits import LONGEST, Visit, Visits, identity

log = logging.getLogger("ui")

ANYBODY = "page"  # whose password goes with any name: the only one that scripts/keys makes by itself
OPEN = ("/livez", "/look/login.css", "/look/icon.svg")
WAYS = ("/login", "/logout")
# What the page asks for by itself, again and again: nobody needs to be there for that.
IDLE = ("/gradio_api/run/predict", "/gradio_api/heartbeat/")
STREAMS = ("/gradio_api/queue/data", "/gradio_api/heartbeat/")
UNKEPT = {"Cache-Control": "no-store"}
DEVICE_KEPT = 400 * 24 * 3600  # seconds: as long as browsers keep a cookie


class Access:
    """`path`: below which a proxy shows the page, for the cookies; `gateway`: connections come from the gateway of compose.yaml.
    For those inside, scope["state"] has the `visit` and the `person`, an id; neither where no password is asked for."""

    def __init__(self, app: ASGIApp, passwords: Secrets, *, path: str = "/", gateway: bool = False) -> None:
        self._app, self._passwords, self._path, self._gateway = app, passwords, path.rstrip("/") or "/", gateway
        self._above = f"{self._path}/" if self._path != "/" else "./"  # no setting says what it stands below: it is told from here
        self._visits, self._throttle = Visits(passwords), Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._refresh()
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if not self._passwords:
            away = PlainTextResponse("there is nothing here\n", 404)
            await (away if path in WAYS else self._app)(scope, receive, send)
            return
        visit = self._visits.find(self._cookie(scope, "login"), act=not path.startswith(IDLE))
        if path in WAYS:
            with contextlib.suppress(ClientDisconnect):
                await (await self._way(path, Request(scope, receive), visit))(scope, receive, send)
        elif visit:
            scope.setdefault("state", {}).update(visit=visit, person=identity(visit.person))
            await (self._stream(scope, receive, send, visit) if path.startswith(STREAMS) else self._app(scope, receive, send))
        elif path in OPEN:
            await self._app(scope, receive, send)
        elif path == "/" and scope["method"] in ("GET", "HEAD"):
            await self._first(scope)(scope, receive, send)
        else:
            await PlainTextResponse("log in first\n", 401)(scope, receive, send)

    def _refresh(self) -> None:
        try:
            if self._passwords.refresh():
                self._visits.sweep()
                log.info("the file of passwords has changed %s", logs.facts(passwords=len(self._passwords)))
        except SecretError as error:
            log.error("the passwords stay as they were: %s", error)

    async def _stream(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> None:
        """What lasts, but not longer than the visit."""
        begun = whole = False

        async def sender(message: Message) -> None:
            nonlocal begun, whole
            begun = True
            whole = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        streaming = asyncio.ensure_future(self._app(scope, receive, sender))
        ending = asyncio.ensure_future(visit.ended.wait())
        try:
            await asyncio.wait({streaming, ending}, return_when=asyncio.FIRST_COMPLETED)
            if streaming.done():
                await streaming
                return
            streaming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await streaming
            if not begun:
                await PlainTextResponse("log in first\n", 401)(scope, receive, send)
            elif not whole:
                await send({"type": "http.response.body", "body": b""})
        finally:
            streaming.cancel()
            ending.cancel()

    # The ways in and out

    def _first(self, scope: Scope) -> Response:
        """Somebody comes for the page and is not known to be inside. Who followed a link of another site may be: a strict cookie is only
        sent once a page of ours has sent them on."""
        if HTTPConnection(scope).headers.get("sec-fetch-site") == "cross-site":
            onward = f'<!doctype html><title>Cloister</title><meta http-equiv="refresh" content="0; url={self._above}login">'
            return HTMLResponse(onward, headers=UNKEPT)
        return self._to("login")

    async def _way(self, path: str, request: Request, visit: Visit | None) -> Response:
        if path == "/logout" and request.method == "POST":
            return self._leave(request.scope, visit)
        if path == "/login" and request.method == "POST":
            if int(request.headers.get("content-length", 0)) > login.LONGEST:
                return PlainTextResponse("the request is too long\n", 413)
            return self._enter(request, login.read(await request.body()), visit)
        if path == "/login" and request.method in ("GET", "HEAD"):
            return self._to("") if visit else self._ask(request)
        return PlainTextResponse("there is nothing here\n", 404)

    def _ask(self, request: Request) -> Response:
        """The login, and why somebody stands before it again."""
        query = parse_qs(request.url.query)
        language = login.language(query.get("language", [""])[0], request.headers.get("accept-language", ""))
        words, why = WORDS[language].access, query.get("after", [""])[0]
        said = {"login": words.cookies, "logout": words.left}.get(why, "")
        return self._page(language, said=said, good=why == "logout")

    def _enter(self, request: Request, form: login.Form, before: Visit | None) -> Response:
        """A name and a password: in, or the login again. Nothing is awaited in here, so that no two guesses pass at once."""
        language = login.language(form.language, request.headers.get("accept-language", ""))
        words, keys = WORDS[language], self._keys(request.scope, form.name)
        if seconds := math.ceil(self._throttle.wait(keys)):
            said = words.access.wait.format(time=spoken(words, seconds))
            return self._page(language, said=said, status=429, after=seconds)
        person = self._passwords.name(form.password)
        if person is None or (person != ANYBODY and person.casefold() != form.name.casefold()):
            self._throttle.failed(keys)
            log.info("login refused")
            return self._page(language, said=words.access.wrong if self._names() else words.access.wrong_password, status=401)
        self._throttle.passed(keys)
        if before:
            self._visits.end(before)
        log.info("login %s", logs.facts(person=person, visits=len(self._visits) + 1))
        answer = self._to("login?after=login")
        self._set(answer, request.scope, "login", self._visits.begin(person), int(LONGEST))
        self._set(answer, request.scope, "device", self._visits.device(person), DEVICE_KEPT)
        return answer

    def _leave(self, scope: Scope, visit: Visit | None) -> Response:
        if visit:
            self._visits.end(visit)
            log.info("logout %s", logs.facts(person=visit.person, visits=len(self._visits)))
        answer = self._to("login?after=logout")
        self._set(answer, scope, "login", "", 0)
        return answer

    def _keys(self, scope: Scope, name: str) -> list[Key]:
        """By what this guess is counted: by its device where that is one of the house's, so that no stranger can slow it down."""
        device = self._cookie(scope, "device")
        if device and self._visits.knows(device):
            return [self._throttle.key("device", device)]
        found = address(scope, gateway=self._gateway)
        return [
            self._throttle.key("all"),
            self._throttle.key("name", name.casefold()),
            *([self._throttle.key("address", found)] if found else ()),
        ]

    def _names(self) -> bool:
        return any(name != ANYBODY for name in self._passwords.names())

    def _page(self, language: Language, *, said: str = "", good: bool = False, status: int = 200, after: int = 0) -> Response:
        headers = UNKEPT | ({"Retry-After": str(after)} if after else {})
        return HTMLResponse(login.page(language, names=self._names(), said=said, good=good), status, headers)

    def _to(self, where: str) -> Response:
        """On to another address of ours."""
        return RedirectResponse(self._above + where, 303, UNKEPT)

    # Cookies

    def _cookie(self, scope: Scope, what: str) -> str:
        return HTTPConnection(scope).cookies.get(_name(scope, what), "")

    def _set(self, answer: Response, scope: Scope, what: str, value: str, seconds: int) -> None:
        answer.set_cookie(
            _name(scope, what), value, max_age=seconds, path=self._path, secure=_secure(scope), httponly=True, samesite="strict"
        )


def _name(scope: Scope, what: str) -> str:
    """Cookies don't know ports: each Cloister of a machine needs a name of its own."""
    port = HTTPConnection(scope).headers.get("host", "").rpartition(":")[2]
    return f"cloister-{port}-{what}" if port.isascii() and port.isdigit() else f"cloister-{what}"


def _secure(scope: Scope) -> bool:
    """Did the browser come with TLS? Whoever says so in vain only makes a cookie that won't come back."""
    return "https" in (scope.get("scheme"), HTTPConnection(scope).headers.get("x-forwarded-proto", "").partition(",")[0].strip())


def address(scope: Scope, *, gateway: bool) -> str:
    """Whose guess it is, as an address or the network of an IPv6 address; empty where that can't be told.

    The gateway sees door's address for everybody, and passes on what a proxy in front says before it where it believes that
    (CLOISTER_PROXIED). Without a gateway nobody is believed but a proxy on this machine, which uvicorn has already done.
    """
    name = (scope.get("client") or ("",))[0]
    if gateway:
        said = ",".join(HTTPConnection(scope).headers.getlist("x-forwarded-for")).split(",")
        name = said[-2] if len(said) > 1 else ""
    try:
        found = ipaddress.ip_address(name.strip().strip("[]"))
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
