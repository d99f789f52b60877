"""The status panel in Chromium, in front of a scripted API: opened, read, kept up to date and closed."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from services.ui.texts import EN, ZH
from tests.ui import fake as say
from tests.ui.conftest import Visitor, Visitors
from tests.ui.fake import FakeApi


def opened(visitor: Visitor) -> None:
    visitor.page.click("#panel-button button")
    visitor.page.locator("#panel .sheet h2").wait_for()


def test_it_opens_and_closes_by_keyboard_and_leaves_an_answer_alone(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status = say.rich()
    fake.default = [*say.answer("It goes on."), say.wait("end"), *say.answer(" And ends."), *say.end()]
    me = visit(scripted_page)
    me.ask("Go on!")
    expect(me.page.locator("#chat [role=log]")).to_contain_text("It goes on.")
    button = me.page.get_by_role("button", name=EN.panel.open)
    button.focus()
    me.page.keyboard.press("Enter")
    dialog = me.page.get_by_role("dialog", name=EN.panel.open)
    expect(dialog).to_contain_text("21.5 tokens/s")
    me.page.keyboard.press("Tab")
    expect(dialog.get_by_role("button", name=EN.panel.close)).to_be_focused()
    me.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()
    expect(me.page.locator("#stop")).to_be_visible()  # the answer was not stopped
    fake.open("end")
    me.answered()
    expect(me.page.locator("#chat [role=log]")).to_contain_text("And ends.")


def test_it_follows_without_losing_focus_scroll_or_what_is_unfolded(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status = say.rich()
    me = visit(scripted_page)
    opened(me)
    table = me.page.locator("#plot-kv details")
    table.locator("summary").focus()
    me.page.keyboard.press("Enter")
    expect(table.locator("table")).to_be_visible()
    me.page.evaluate("document.getElementById('panel').scrollTop = 150; window.kept = document.querySelector('#plot-kv summary')")
    fake.status = say.rich(running=7, tokens_per_second=33.3)
    expect(me.page.locator("#panel .tiles")).to_contain_text("33.3 tokens/s")
    expect(me.page.locator("#panel .tiles")).to_contain_text("7 of 8")
    expect(table.locator("table")).to_be_visible()
    expect(table.locator("summary")).to_be_focused()
    assert me.page.evaluate("document.getElementById('panel').scrollTop") == 150
    assert me.page.evaluate("window.kept.isConnected")


def test_it_asks_only_while_it_is_open(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status = say.rich()
    me = visit(scripted_page)
    opened(me)
    me.page.click("#panel .close")
    me.page.wait_for_timeout(500)
    fake.status = say.rich(running=7)
    me.page.wait_for_timeout(3000)
    expect(me.page.locator("#panel .tiles")).not_to_contain_text("7 of 8")


def test_the_hash_is_copied(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status = say.rich()
    me = visit(scripted_page)
    opened(me)
    me.page.locator("#panel").get_by_role("button", name=EN.panel.copy).click()
    expect(me.page.locator("#panel [role=status]")).to_have_text(EN.panel.copied)
    assert me.page.evaluate("navigator.clipboard.readText()") == "0123456789abcdef" * 4


def test_every_state_is_shown_and_a_time_without_figures_is_a_gap(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status = say.rich()
    me = visit(scripted_page, language="zh-CN")
    me.page.wait_for_timeout(6000)  # the server takes a sample every 5 seconds
    fake.status = say.preparing("fetch", 1_200_000_000, 3_554_000_000)
    opened(me)
    state = me.page.locator("#panel .state")
    expect(state).to_have_text(ZH.panel.states["preparing"])
    expect(me.page.locator("#panel .said")).to_contain_text("33 %")
    expect(me.page.locator("#plot-speed rect.gap").last).to_be_attached()
    expect(me.page.locator("#plot-speed path.line0")).to_have_attribute("d", re.compile("^M"))
    fake.status = {**say.failed("the hub can't be reached"), "error": "the hub can't be reached"}
    expect(me.page.locator("#panel .said")).to_have_text("the hub can't be reached")
    fake.status = {"state": "nonsense"}
    expect(state).to_have_text(ZH.panel.states["starting"])
    fake.status = say.rich()
    expect(state).to_have_text(ZH.panel.states["ready"])


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(fake: FakeApi, scripted_page: str, visit: Visitors, dark: bool) -> None:
    fake.status = say.rich()
    fake.status["isolation"]["checked"] = say.checked(api=24, ui=25, gateway=-1)
    me = visit(scripted_page, dark=dark)
    opened(me)
    for summary in me.page.locator("#panel summary").all():
        summary.click()
    expect(me.page.locator("#panel-provenance li")).to_be_visible()
    found = Axe().run(me.page, context="#panel").response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_on_a_phone_nothing_goes_sideways_and_targets_are_large(
    fake: FakeApi, scripted_page: str, visit: Visitors, language: str, dark: bool
) -> None:
    fake.status = say.rich()
    me = visit(scripted_page, language=language, width=360, height=640, dark=dark, touch=True)
    opened(me)
    expect(me.page.locator("#panel-sha256")).to_have_text("0123456789abcdef" * 4)
    assert me.sideways() == 0
    assert me.page.evaluate("(d => d.scrollWidth - d.clientWidth)(document.getElementById('panel'))") == 0
    for target in me.page.locator("#panel button, #panel summary, #panel-button button").all():
        box = target.bounding_box()
        assert box and box["height"] >= 40
