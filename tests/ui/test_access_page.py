"""Who may see the page, and what one person leaves in a browser that another one uses: in Chromium."""

from __future__ import annotations

from tests.ui.conftest import Visitors
from tests.ui.fake import FakeApi


def test_what_a_browser_keeps_goes_by_the_person(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    me.ask("What is it?")
    me.answered()
    assert me.page.evaluate("cloisterKey('x')") == "cloister-x"
    assert me.page.evaluate("Object.keys(sessionStorage)") == ["cloister-conversation"]
    me.page.evaluate("document.head.insertAdjacentHTML('beforeend', '<meta name=\"cloister-person\" content=\"abc\">')")
    assert me.page.evaluate("cloisterKey('x')") == "cloister-abc-x"
