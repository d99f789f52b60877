"""The login over HTTP, with the real program: what is closed before it, what a guess gets, what ends it, whose streams are whose."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from services.shared.secret import Secrets, digest
from services.ui import login
from services.ui.access import Access, address
from services.ui.texts import EN, ZH
from services.ui.visits import IDLE, Visits, identity
from tests.ui import fake as say
from tests.ui.conftest import serve_page
from tests.ui.fake import FakeApi
from tests.ui.test_door import _event as event

PASSWORDS = {"page": "everybody's password", "anna": "anna's password", "ben": "ben's password"}


@dataclass
class House:
    """A page with passwords: its address, their file, its log."""

    url: str
    home: Path

    def write(self, **passwords: str) -> None:
        (self.home / "passwords").write_text("".join(f"{name} {digest(said).hex()}\n" for name, said in passwords.items()))

    @property
    def log(self) -> str:
        return (self.home / "ui.log").read_text()

    def browser(self, cookies: httpx.Cookies | None = None, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, cookies=cookies, headers={"Origin": self.url, **headers}, trust_env=False, timeout=60)

    def guess(self, client: httpx.Client, name: str, password: str) -> httpx.Response:
        return client.post("/login", data={"name": name, "password": password})

    def inside(self, name: str, **headers: str) -> httpx.Client:
        """A browser in which this person has logged in."""
        client = self.browser(**headers)
        assert self.guess(client, name, PASSWORDS[name]).headers["location"] == "./login?after=login"
        assert client.get("/config").status_code == 200
        return client


@pytest.fixture
def house(fake: FakeApi, tmp_path: Path) -> Iterator[House]:
    house = House("", tmp_path)
    house.write(**PASSWORDS)
    process, house.url = serve_page(fake.url, tmp_path, UI__PASSWORD=tmp_path / "passwords")
    yield house
    process.terminate()
    process.wait(20)
    log = house.log
    assert "Traceback" not in log and not any(said in log for said in PASSWORDS.values()), log


def test_everything_but_the_login_is_closed(house: House) -> None:
    stranger = house.browser()
    for path in ("/livez", "/login", "/look/login.css", "/look/icon.svg"):
        assert stranger.get(path).status_code == 200, path
    gone = stranger.get("/")
    assert gone.status_code == 303 and stranger.get(gone.headers["location"]).status_code == 200
    for path in ("/config", "/theme.css", "/look/page.js", "/assets/x", "/gradio_api/app_id", "/gradio_api/queue/data?session_hash=a"):
        assert stranger.get(path).status_code == 401, path
    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/cancel", "/", "/read"):
        assert stranger.post(path, json={}, headers={"X-File-Name": "a"}).status_code == 401, path
    assert house.inside("anna").post("/read", content=b"text", headers={"X-File-Name": "a"}).json()["text"] == "text"
    for path in ("/gradio_api/upload", "/nothing", "/logout"):
        assert stranger.get(path).status_code == 404, path


def test_the_login_is_a_page_that_needs_nothing_else(house: House) -> None:
    page = house.browser(**{"Accept-Language": "zh-CN,zh;q=0.9"}).get("/login")
    assert ZH.access.lead in page.text and '<html lang="zh-CN">' in page.text and "<script" not in page.text
    assert page.headers["cache-control"] == "no-store" and "form-action 'self'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "same-origin", "with no-referrer, browsers would send Origin: null with the form"
    assert set(re.findall(r'(?:src|href|action)="([^"]+)"', page.text)) == {
        *("./look/login.css", "./look/icon.svg", "./login", "./login?language=en")
    }
    assert EN.access.lead in house.browser(**{"Accept-Language": "zh-CN"}).get("/login?language=en").text
    evil = house.browser().get("/login", params={"language": '"><script>', "after": "<b>"}).text
    assert "<script" not in evil and "<b>" not in evil


def test_a_name_is_asked_for_once_somebody_has_one(house: House) -> None:
    assert 'name="name"' in house.browser().get("/login").text
    house.write(page=PASSWORDS["page"])
    alone = house.browser()
    assert 'name="name"' not in alone.get("/login").text
    assert EN.access.wrong_password in house.guess(alone, "", "wrong").text
    assert house.guess(alone, "", PASSWORDS["page"]).status_code == 303
    head = alone.get("/").text.partition("</head>")[0]
    assert f'<meta name="cloister-person" content="{identity("page")}">' in head


def test_who_gets_in(house: House) -> None:
    right = [("anna", "anna"), (" Anna ", "anna"), ("anybody", "page"), ("", "page")]
    wrong = [("anna", PASSWORDS["ben"]), ("", PASSWORDS["ben"]), ("anna", ""), ("anna", digest(PASSWORDS["anna"]).hex()), ("page", "")]
    for name, whose in right:
        client = house.browser()
        assert house.guess(client, name, PASSWORDS[whose] + "\n").status_code == 303, name
        assert client.get("/config").status_code == 200
    for name, password in [*wrong, ("\x00", "é\x00")]:
        client = house.browser()
        said = house.guess(client, name, password)
        assert said.status_code == 401 and EN.access.wrong in said.text and 'role="alert"' in said.text, (name, password)
        assert "set-cookie" not in said.headers and client.get("/config").status_code == 401


def test_the_cookie_is_for_the_page_alone(house: House) -> None:
    for forwarded, secure in (({}, False), ({"X-Forwarded-Proto": "https"}, True)):
        cookies = house.guess(house.browser(**forwarded), "ben", PASSWORDS["ben"]).headers.get_list("set-cookie")
        assert len(cookies) == 2
        for cookie in cookies:
            assert re.match(rf"cloister-{house.url.rpartition(':')[2]}-(login|device)=[\w.-]{{43,}};", cookie)
            assert "; HttpOnly" in cookie and "; Path=/;" in cookie and "; SameSite=strict" in cookie and "Domain" not in cookie
            assert ("; Secure" in cookie) == secure


def test_below_a_path(fake: FakeApi, tmp_path: Path) -> None:
    house = House("", tmp_path)
    house.write(**PASSWORDS)
    process, house.url = serve_page(fake.url, tmp_path, UI__PASSWORD=tmp_path / "passwords", UI__PATH="/cloister")
    try:
        client = house.browser()
        assert client.get("/").headers["location"] == "/cloister/login"
        said = house.guess(client, "anna", PASSWORDS["anna"])
        assert said.headers["location"] == "/cloister/login?after=login"
        assert all("; Path=/cloister;" in cookie for cookie in said.headers.get_list("set-cookie"))
    finally:
        process.terminate()
        process.wait(20)


def test_a_form_of_another_page_and_one_that_is_no_form(house: House) -> None:
    form = {"name": "anna", "password": PASSWORDS["anna"]}
    for origin in ("https://evil.example", "null"):
        assert house.browser(Origin=origin).post("/login", data=form).status_code == 403
        assert house.inside("anna").post("/logout", headers={"Origin": origin}).status_code == 403
    client = house.browser()
    assert client.post("/login", data={"password": "x" * login.LONGEST}).status_code == 413
    assert client.post("/login", content=b"\xff\xfe=&&&=;\x00").status_code == 401
    assert client.post("/login", json=form).status_code == 401
    assert client.put("/login", data=form).status_code == 404


def test_logging_out_ends_this_login_and_no_other(house: House) -> None:
    here, there = house.inside("anna"), house.inside("anna")
    copied = house.browser(here.cookies)
    assert here.get("/login").headers["location"] == "./", "who is inside is sent on"
    gone = here.post("/logout")
    assert gone.status_code == 303 and EN.access.left in here.get(gone.headers["location"]).text
    assert "Max-Age=0" in gone.headers["set-cookie"]
    assert here.get("/config").status_code == 401 and there.get("/config").status_code == 200
    assert copied.get("/config").status_code == 401, "a copy of the cookie is worth nothing now"
    assert EN.access.cookies in house.browser().get("/login?after=login").text
    again = house.inside("anna")
    copied = house.browser(again.cookies)
    assert house.guess(again, "ben", PASSWORDS["ben"]).status_code == 303
    assert copied.get("/config").status_code == 401, "another login in the same browser ends the one before"


def test_a_changed_file_counts_at_once(house: House) -> None:
    anna, ben, everybody = house.inside("anna"), house.inside("ben"), house.inside("page")
    house.write(page=PASSWORDS["page"], anna="another one", carl="carl's")
    assert [client.get("/config").status_code for client in (anna, ben, everybody)] == [401, 401, 200]
    assert house.guess(anna, "anna", PASSWORDS["anna"]).status_code == 401
    assert house.guess(house.browser(), "carl", "carl's").status_code == 303
    (house.home / "passwords").write_text("this is not a file of passwords\n")
    assert everybody.get("/config").status_code == 200 and "the passwords stay as they were" in house.log
    (house.home / "passwords").write_text("")
    assert everybody.get("/config").status_code == 401, "without any password nobody gets in, instead of everybody"
    assert house.browser().get("/").status_code == 303


def test_the_first_password_closes_a_page_that_was_open(fake: FakeApi, tmp_path: Path) -> None:
    house = House("", tmp_path)
    house.write()
    process, house.url = serve_page(fake.url, tmp_path, UI__PASSWORD=tmp_path / "passwords")
    try:
        client = house.browser()
        assert client.get("/config").status_code == 200 and client.get("/login").status_code == 404
        assert client.post("/login", data={"username": "a", "password": "b"}).status_code == 404, "Gradio's own way in is none"
        assert "cloister-person" not in client.get("/").text.partition("</head>")[0]
        house.write(anna=PASSWORDS["anna"])
        assert client.get("/config").status_code == 401
        anna = house.inside("anna")
        assert anna.get("/config", headers={"Host": "any.name.lan", "Origin": ""}).status_code == 401, "that asks for a login of its own"
    finally:
        process.terminate()
        process.wait(20)


def test_an_open_page_alone_does_not_keep_the_login(tmp_path: Path) -> None:
    asyncio.run(_days_go_by(tmp_path))


async def _days_go_by(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text(f"anna {digest('a').hex()}\n")
    now = 0.0
    access = Access(PlainTextResponse("inside"), Secrets(tmp_path / "passwords"))
    access._visits = Visits(access._passwords, lambda: now)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(access), base_url="http://page:7860") as anna:
        for path, status in (("/gradio_api/run/predict", 401), ("/gradio_api/queue/join", 200)):
            assert (await anna.post("/login", data={"name": "anna", "password": "a"})).status_code == 303
            for _ in range(2):
                now += 0.6 * IDLE
                said = await anna.post(path)
            assert said.status_code == status, path
        now += IDLE + 1
        assert (await anna.post(path)).status_code == 401


def test_guesses_have_to_wait_and_a_known_browser_does_not_wait_for_strangers(house: House) -> None:
    anna, stranger, fresh = house.inside("anna"), house.browser(), house.browser()
    anna.post("/logout")
    tried = [house.guess(stranger, "anna", f"guess {number}") for number in range(8)]
    assert [answer.status_code for answer in tried[:6]] == [401] * 6 and {answer.status_code for answer in tried[6:]} == {429}
    assert int(tried[-1].headers["retry-after"]) >= 1 and "Too many wrong tries" in tried[-1].text
    waiting = house.guess(stranger, "anna", PASSWORDS["anna"])
    assert waiting.status_code == 429, "a right one is not looked at either"
    assert house.guess(fresh, "ben", PASSWORDS["ben"]).status_code == 429  # of the same address
    assert house.guess(anna, "anna", PASSWORDS["anna"]).status_code == 303  # of a browser that has been inside before
    deadline = time.monotonic() + 10
    while (answer := house.guess(stranger, "anna", PASSWORDS["anna"])).status_code == 429 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert answer.status_code == 303, "the wait has an end, also for somebody who kept on trying"
    assert house.log.count("login refused") == 6 and "login person=anna" in house.log
    assert "guess" not in house.log


def test_who_follows_a_link_of_another_site_is_sent_on_by_a_page_of_ours(house: House) -> None:
    onward = house.browser(**{"Sec-Fetch-Site": "cross-site", "Origin": ""}).get("/")
    assert onward.status_code == 200 and 'content="0; url=./login"' in onward.text and "no-store" in onward.headers["cache-control"]


def test_nothing_that_was_typed_is_logged(house: House) -> None:
    client = house.browser()
    house.guess(client, "SECRET typed as a name", "SECRET")
    house.guess(client, PASSWORDS["anna"], "anna")
    assert client.get("/config?SECRET").status_code == 401
    assert house.log.count("login refused") == 2 and "SECRET" not in house.log and "typed" not in house.log


# Whose streams are whose


def test_a_session_belongs_to_the_login_that_opened_it(fake: FakeApi, house: House) -> None:
    fake.default = [*say.answer("FOR ANNA"), say.wait("all"), *say.end()]
    anna, ben = house.inside("anna"), house.inside("ben")
    number = _number(anna)
    question = {"session_hash": "annas", "fn_index": number, "data": ["q", [], "", None, [], "en"]}
    joined = anna.post("/gradio_api/queue/join", json=question)
    assert joined.status_code == 200
    assert ben.get("/gradio_api/queue/data?session_hash=annas").status_code == 403
    assert ben.get("/gradio_api/queue/data?session_hash=bens&session_hash=annas").status_code == 403
    assert ben.get("/gradio_api/heartbeat/annas").status_code == 403
    for path in ("queue/join", "run/predict", "cancel", "reset"):
        body = question | {"event_id": joined.json()["event_id"]}
        assert ben.post(f"/gradio_api/{path}", json=body).status_code == 403, path
        twice = '{"session_hash": "bens", "session_hash": "annas", "fn_index": 0, "data": [], "event_id": "x"}'
        assert ben.post(f"/gradio_api/{path}", content=twice, headers={"Content-Type": "application/json"}).status_code == 403, path
    assert house.inside("anna").get("/gradio_api/queue/data?session_hash=annas").status_code == 403, "another login of hers neither"
    fake.open("all")
    assert "FOR ANNA" in anna.get("/gradio_api/queue/data?session_hash=annas").text
    anna.post("/logout")
    assert ben.get("/gradio_api/queue/data?session_hash=annas").status_code == 403, "nor afterwards"
    assert ben.post("/gradio_api/queue/join", json=question | {"session_hash": "bens"}).status_code == 200
    assert ben.post("/gradio_api/queue/join", content=b"{not json").status_code == 422


@pytest.mark.parametrize("way", ["logout", "removed"])
def test_what_runs_ends_with_the_login(fake: FakeApi, house: House, way: str) -> None:
    fake.default = [*say.answer("word"), *say.endless()]
    anna, ben = house.inside("anna"), house.inside("ben")
    question = {"session_hash": "annas", "fn_index": _number(anna), "data": ["q", [], "", None, [], "en"]}
    assert anna.post("/gradio_api/queue/join", json=question).status_code == 200
    heard: list[str] = []
    beats: list[int] = []

    def listen() -> None:
        with anna.stream("GET", "/gradio_api/queue/data?session_hash=annas") as answer:
            heard.extend(answer.iter_lines())

    def beat() -> None:
        with anna.stream("GET", "/gradio_api/heartbeat/annas") as answer:
            beats.append(len(list(answer.iter_lines())))

    threads = [threading.Thread(target=target, daemon=True) for target in (listen, beat)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while not any("word" in line for line in heard) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(thread.is_alive() for thread in threads) and not fake.cancelled.is_set()
    if way == "logout":
        assert house.browser(anna.cookies).post("/logout").status_code == 303
    else:
        house.write(**{name: said for name, said in PASSWORDS.items() if name != "anna"})
        assert ben.get("/config").status_code == 200  # anybody's request will do
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads) and fake.cancelled.wait(20)
    assert any("word" in line for line in heard) and beats and beats[0] > 0


def test_without_passwords_a_session_is_found_by_its_hash_alone(fake: FakeApi, scripted_page: str) -> None:
    fake.default = [*say.answer("FOR ONE"), *say.end()]
    one, two = (httpx.Client(base_url=scripted_page, trust_env=False, timeout=60) for _ in range(2))
    question = {"session_hash": "x8f3k2", "fn_index": event(scripted_page, "submit", "click"), "data": ["q", [], "", None, [], "en"]}
    assert one.post("/gradio_api/queue/join", json=question).status_code == 200
    with contextlib.suppress(httpx.RemoteProtocolError):  # Gradio breaks off where it knows nothing of a session
        assert "FOR ONE" not in two.get("/gradio_api/queue/data?session_hash=x8f3k1").text
    assert two.get("/gradio_api/queue/data").status_code == 422
    assert "FOR ONE" in one.get("/gradio_api/queue/data?session_hash=x8f3k2").text


def _number(client: httpx.Client) -> int:
    """Gradio's number of the event that asks a question."""
    events = client.get("/config").json()["dependencies"]
    return next(int(found["id"]) for found in events if [target[1] for target in found["targets"]] == ["submit", "click"])


# Whose guess it is


@pytest.mark.parametrize(
    ("peer", "forwarded", "gateway", "expected"),
    [
        ("192.168.1.20", [], False, "192.168.1.20"),
        ("192.168.1.20", ["1.2.3.4"], False, "192.168.1.20"),  # anybody can say so
        ("::ffff:10.0.0.1", [], False, "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", [], False, "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], False, "fe80::/64"),
        ("", [], False, ""),
        ("172.18.0.5", [], True, ""),
        ("172.18.0.5", ["172.18.0.6"], True, ""),  # the door, for everybody
        ("172.18.0.5", ["9.9.9.9, 1.2.3.4, 172.18.0.6"], True, "1.2.3.4"),  # what the client says about itself does not count
        ("172.18.0.5", ["9.9.9.9", "1.2.3.4, 172.18.0.6"], True, "1.2.3.4"),
        ("172.18.0.5", ["nonsense, 172.18.0.6"], True, ""),
    ],
)
def test_by_which_address_a_guess_is_counted(peer: str, forwarded: list[str], gateway: bool, expected: str) -> None:
    scope = {
        "type": "http",
        "client": (peer, 1) if peer else None,
        "headers": [(b"x-forwarded-for", value.encode()) for value in forwarded],
    }
    assert address(scope, gateway=gateway) == expected
