"""The page below a path of somebody's web server that speaks TLS, in Chromium: everything works, and nothing is asked for beside it.

The fixture `visit` holds that no request leaves the address that it was given, here with its path, and that nothing complains.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from services.ui.texts import EN, ZH, Words
from tests.ui import fake as say
from tests.ui.conftest import Visitors, serve_page
from tests.ui.fake import FakeApi
from tests.ui.front import front

PATH = "/house/cloister"


@pytest.fixture(scope="module")
def below(_fake: FakeApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page behind the proxy, without a slash at its end."""
    home = tmp_path_factory.mktemp("below")
    process, inside = serve_page(_fake.url, home, UI__PATH=PATH)
    with front(inside, PATH, home) as url:
        yield url
    process.terminate()
    process.wait(20)


@pytest.mark.parametrize(("language", "words"), [("en-US", EN), ("zh-CN", ZH)])
def test_below_a_path_behind_tls(fake: FakeApi, below: str, visit: Visitors, language: str, words: Words) -> None:
    fake.default = [
        *say.thought("Hm."),
        *say.answer("So:\n\n```python\nx = 1\n```\n\n"),
        say.wait("rest"),
        *say.answer("\\(x^2\\)"),
        *say.end(),
    ]
    me = visit(below, language=language, ignore_https_errors=True)
    assert me.page.evaluate("isSecureContext") and me.page.evaluate("location.pathname").startswith(PATH)
    me.ask("Well?")
    answer = me.page.locator("#chat .bot-row .prose").last
    expect(answer).to_contain_text("x = 1")  # it comes while it grows
    expect(answer.locator(".katex")).to_have_count(0)
    fake.open("rest")
    me.answered()
    expect(answer.locator(".katex")).to_be_visible()
    expect(me.page.locator("#chat .thought-group")).to_contain_text(words.thought.partition("{")[0].strip())
    requested = len(me.requested)
    assert me.complaints == []
    me.page.reload()
    me.complaints.clear()  # a tick that was under way
    expect(answer.locator(".katex")).to_be_visible()
    expect(me.page.locator("#chat .typed")).to_have_text("Well?")
    fake.default = say.endless()
    me.ask("And?")
    expect(answer).to_contain_text("word")
    me.page.keyboard.press("Escape")
    me.answered()
    expect(me.page.locator("#chat")).to_contain_text(words.stopped)
    assert len(me.requested) > requested > 10
    fonts = me.page.evaluate("performance.getEntriesByType('resource').map(one => one.name).filter(name => name.includes('KaTeX'))")
    assert fonts and all(name.startswith(f"{below}/") for name in fonts)


def test_the_slash_at_its_end_may_be_left_out(fake: FakeApi, below: str, visit: Visitors) -> None:
    me = visit(below, ignore_https_errors=True)
    me.may_complain = True  # the browser looks ahead for what the page without the slash names
    me.page.goto(below)
    me.page.wait_for_url(below + "/")
    me.requested.clear()
    expect(me.page.locator("#hello h1")).to_be_visible()
    me.ask("Well?")
    me.answered()


def test_what_is_beside_the_path_is_not_the_page_s(below: str, visit: Visitors) -> None:
    me = visit(below, ignore_https_errors=True)
    beside = below.removesuffix(PATH)
    statuses = me.page.evaluate(
        "all => Promise.all(all.map(async (url) => (await fetch(url)).status))", [f"{below}/livez", f"{beside}/livez"]
    )
    assert statuses == [200, 404]
    me.requested.remove(f"{beside}/livez")
    me.may_complain = True  # of the 404
