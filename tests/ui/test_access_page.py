"""Who may see the page, and what one person leaves in a browser that another one uses: in Chromium."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from services.shared.secret import digest
from services.ui.texts import WORDS, Language
from services.ui.visits import identity
from tests.conftest import ROOT
from tests.ui import fake as say
from tests.ui.conftest import PATIENCE, Visitors, serve_page
from tests.ui.fake import FakeApi
from tests.ui.front import front

ADDRESSES = itertools.count(1)
PASSWORDS = {"anna": "anna-secret", "ben": "ben-secret"}


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secrets") / "passwords"
    file.write_text("".join(f"{name} {digest(password).hex()}\n" for name, password in PASSWORDS.items()))
    return file


@pytest.fixture(scope="module")
def closed_page(_fake: FakeApi, passwords: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page that asks who is there."""
    process, url = serve_page(_fake.url, tmp_path_factory.mktemp("closed"), UI__PASSWORD=passwords)
    yield url
    process.terminate()
    process.wait(20)


@pytest.fixture
def contexts(browser: Browser) -> Iterator[list[BrowserContext]]:
    """Browser profiles that are closed in the end."""
    opened: list[BrowserContext] = []
    yield opened
    for context in opened:
        context.close()


def stranger(browser: Browser, contexts: list[BrowserContext], **more: object) -> Page:
    """A browser in which nobody has logged in, at an address of its own: nobody waits for another one's guesses."""
    own = {"X-Forwarded-For": f"10.0.0.{next(ADDRESSES)}"}  # the program believes a proxy on its machine
    context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1280, "height": 800}, "extra_http_headers": own, **more})
    context.set_default_timeout(PATIENCE)
    contexts.append(context)
    return context.new_page()


def enter(page: Page, name: str, language: Language = "en", password: str = "") -> None:
    words = WORDS[language].access
    page.get_by_label(words.name, exact=True).fill(name)
    page.get_by_label(words.password, exact=True).fill(password or PASSWORDS[name])
    page.get_by_role("button", name=words.enter).click()


def ask(page: Page, question: str) -> None:
    page.fill("#question textarea", question)
    page.press("#question textarea", "Enter")
    expect(page.locator("#chat .user-row").last).to_contain_text(question)
    page.wait_for_selector("#send", state="visible")


def test_what_a_browser_keeps_goes_by_the_person(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    me.ask("What is it?")
    me.answered()
    assert me.page.evaluate("cloisterKey('x')") == "cloister-x"
    assert me.page.evaluate("sessionStorage.getItem('cloister-open')")
    expect(me.page.locator("#leave")).to_have_count(0)
    me.page.evaluate("document.head.insertAdjacentHTML('beforeend', '<meta name=\"cloister-person\" content=\"abc\">')")
    assert me.page.evaluate("cloisterKey('x')") == "cloister-abc-x"


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_login_by_keyboard_in_both_languages(
    browser: Browser, contexts: list[BrowserContext], closed_page: str, language: Language, script: bool
) -> None:
    words = WORDS[language].access
    page = stranger(browser, contexts, locale="zh-CN" if language == "zh" else "en-GB", java_script_enabled=script)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(closed_page)
    assert page.url == closed_page + "/login" and page.title() == f"{words.title} · Cloister"
    expect(page.get_by_text(words.lead)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link")).to_be_focused()
    for label, text in ((words.name, "anna"), (words.password, "wrong")):
        page.keyboard.press("Tab")
        expect(page.get_by_label(label, exact=True)).to_be_focused()
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text(words.wrong)
    assert page.url == closed_page + "/login", "what was typed is in no address"
    expect(page.get_by_label(words.password, exact=True)).to_be_empty()
    page.get_by_role("link").click()
    other: Language = "en" if language == "zh" else "zh"
    expect(page.get_by_text(WORDS[other].access.lead)).to_be_visible()
    enter(page, "anna", other, "wrong again")
    expect(page.get_by_role("alert")).to_have_text(WORDS[other].access.wrong)  # it stays in the language that was chosen
    enter(page, "anna", other)
    page.wait_for_url(closed_page + "/")
    if script:
        expect(page.locator("#hello h1")).to_have_text(WORDS[language].hello)
        expect(page.get_by_role("button", name=words.leave)).to_be_visible()
    assert [url for url in asked if not url.startswith(closed_page + "/")] == []


def test_two_persons_in_two_browsers(fake: FakeApi, browser: Browser, contexts: list[BrowserContext], closed_page: str) -> None:
    fake.default = [*say.answer("word"), say.wait("all"), *say.end()]
    anna, ben = stranger(browser, contexts), stranger(browser, contexts)
    sessions: list[str] = []
    anna.on("request", lambda request: sessions.extend(request.url.split("session_hash=")[1:]))
    for page, name in ((anna, "anna"), (ben, "ben")):
        page.goto(closed_page)
        enter(page, name)
        page.fill("#question textarea", f"from {name}")
        page.press("#question textarea", "Enter")
        expect(page.locator("#chat [role=log]")).to_contain_text("word")
    for page, other in ((anna, "ben"), (ben, "anna")):
        assert other not in page.locator("#chat [role=log]").inner_text()
        assert identity(other) not in page.content()
    session = sessions[-1]
    for path, status in ((f"queue/data?session_hash={session}", 403), (f"heartbeat/{session}", 403)):
        assert ben.evaluate("path => fetch('/gradio_api/' + path).then(answer => answer.status)", path) == status
    fake.open("all")
    for page in (anna, ben):
        page.wait_for_selector("#send", state="visible")


def test_one_after_the_other_in_one_browser(fake: FakeApi, browser: Browser, contexts: list[BrowserContext], closed_page: str) -> None:
    page = stranger(browser, contexts)
    page.goto(closed_page)
    enter(page, "anna")
    ask(page, "the diary of anna")
    page.reload()
    expect(page.locator("#chat .user-row")).to_contain_text("the diary of anna")
    page.evaluate("localStorage.setItem(cloisterKey('x'), 'of anna')")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("status")).to_have_text("You are logged out.")
    assert page.evaluate("sessionStorage.length") == 0
    page.go_back()
    expect(page.get_by_label("Password", exact=True)).to_be_visible()
    enter(page, "ben")
    expect(page.locator("#hello h1")).to_be_visible()
    page.wait_for_timeout(2000)
    assert "diary" not in page.content() and page.evaluate("localStorage.getItem(cloisterKey('x'))") is None
    assert page.evaluate("[cloisterKey('x'), JSON.stringify(sessionStorage)].join().includes('anna')") is False
    ask(page, "the diary of ben")
    page.get_by_role("button", name="Log out").click()
    enter(page, "anna")
    expect(page.locator("#hello h1")).to_be_visible()
    assert page.evaluate("localStorage.getItem(cloisterKey('x'))") == "of anna", "her own she finds again"
    assert "diary" not in page.content()


def test_a_link_on_another_site_leads_inside(
    fake: FakeApi, browser: Browser, contexts: list[BrowserContext], closed_page: str, scripted_page: str
) -> None:
    page = stranger(browser, contexts)
    page.goto(closed_page)
    enter(page, "anna")
    expect(page.locator("#hello h1")).to_be_visible()
    page.goto(scripted_page.replace("127.0.0.1", "localhost") + "/livez")
    page.evaluate("url => { location.href = url }", closed_page)
    expect(page.locator("#hello h1")).to_be_visible()
    assert page.url == closed_page + "/"


def test_a_password_that_is_taken_back_ends_the_page(
    fake: FakeApi, browser: Browser, contexts: list[BrowserContext], tmp_path: Path
) -> None:
    fake.default = say.endless()
    file = tmp_path / "passwords"
    lines = {name: f"{name} {digest(password).hex()}\n" for name, password in PASSWORDS.items()}
    file.write_text("".join(lines.values()))
    process, url = serve_page(fake.url, tmp_path, UI__PASSWORD=file)
    try:
        page = stranger(browser, contexts)
        page.goto(url)
        enter(page, "anna")
        page.fill("#question textarea", "talk")
        page.press("#question textarea", "Enter")
        expect(page.locator("#chat [role=log]")).to_contain_text("word word")
        file.write_text(lines["ben"])
        expect(page.get_by_label("Password", exact=True)).to_be_visible()  # by itself, within a tick
        assert fake.cancelled.wait(20)
        enter(page, "ben")
        expect(page.locator("#hello h1")).to_be_visible()
        page.wait_for_timeout(1000)
        assert "word word" not in page.content()
    finally:
        process.terminate()
        process.wait(20)


def test_below_a_path_and_behind_tls(
    fake: FakeApi, browser: Browser, contexts: list[BrowserContext], passwords: Path, tmp_path: Path
) -> None:
    process, inside = serve_page(fake.url, tmp_path, UI__PASSWORD=passwords, UI__PATH="/cloister")
    try:
        with front(inside, "/cloister", tmp_path) as url:
            page = stranger(browser, contexts, ignore_https_errors=True)
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(url)  # without a slash at its end, as a person types it
            assert page.url == url + "/login"
            enter(page, "anna")
            page.wait_for_url(url + "/")
            ask(page, "What is it?")
            cookies = {cookie["name"].rpartition("-")[2]: cookie for cookie in page.context.cookies()}
            assert set(cookies) == {"login", "device"}
            for cookie in cookies.values():
                assert cookie["path"] == "/cloister" and cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Strict"
            page.get_by_role("button", name="Log out").click()
            expect(page.get_by_role("status")).to_be_visible()
            assert page.url.startswith(url + "/login?") and [name for name in asked if not name.startswith(url)] == []
            assert [cookie["name"].rpartition("-")[2] for cookie in page.context.cookies()] == ["device"]
            page.context.close()
            contexts.clear()
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_login_on_a_phone_in_light_and_dark(
    browser: Browser, contexts: list[BrowserContext], closed_page: str, language: Language, dark: bool
) -> None:
    page = stranger(
        browser,
        contexts,
        locale="zh-CN" if language == "zh" else "en-GB",
        viewport={"width": 360, "height": 640},
        color_scheme="dark" if dark else "light",
        is_mobile=True,
        has_touch=True,
    )
    page.goto(closed_page)
    enter(page, "anna", language, "wrong")
    expect(page.get_by_role("alert")).to_be_visible()
    page.wait_for_load_state()  # with its stylesheet
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for control in page.locator("a, input:not([type=hidden]), button").all():
        box = control.bounding_box()
        assert box and box["height"] >= 40 and box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert Axe().run(page).response["violations"] == []
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(25, 24, 22)" if dark else "rgb(250, 247, 241)")


def test_the_login_has_the_colours_of_the_page() -> None:
    assets = ROOT / "services/ui/assets"
    page, login = ((assets / name).read_text() for name in ("page.css", "login.css"))
    light, dark = (re.search(pattern, page, re.S) for pattern in (r":root \{(.*?)\}", r":root\.dark.*?\{(.*?)\}"))
    assert light and dark
    own = re.findall(r"--[\w-]+: [^;]+;", login)
    split = next(place for place, line in enumerate(own) if place and line.startswith("--paper"))
    assert split > 10 and [line for line in own[:split] if line not in light[1]] == []
    assert len(own) - split >= 10 and [line for line in own[split:] if line not in dark[1]] == []
