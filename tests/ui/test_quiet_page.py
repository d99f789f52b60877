"""The model is asked for answers, and for nothing behind the visitor's back."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.ui.conftest import Visitors
from tests.ui.fake import FakeApi


def test_a_title_costs_no_call_of_the_model(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    """Also not for follow-up questions or tags: as many calls as questions, and the title is the first question's beginning."""
    me = visit(scripted_page)
    for question in ("Why do hens lay eggs?", "And ducks?"):
        me.ask(question)
        me.answered()
    me.page.click("#shelf")
    expect(me.page.locator("#library li .open span")).to_have_text(["Why do hens lay eggs?"])
    me.page.wait_for_timeout(2000)  # long enough for whatever would come after an answer
    assert [body["messages"][-1]["content"] for body in fake.asked] == ["Why do hens lay eggs?", "And ducks?"]
