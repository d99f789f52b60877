"""The page in Chromium: versions of questions and answers, and the ways between them."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from services.ui.texts import EN, ZH
from tests.ui import fake as say
from tests.ui.conftest import Visitor, Visitors
from tests.ui.fake import FakeApi


def log(visitor: Visitor) -> Locator:
    return visitor.page.locator("#chat [role=log]")


def versions(visitor: Visitor, shown: int, among: int) -> Locator:
    """The group that says so."""
    return visitor.page.get_by_role("group", name=EN.library.version.format(shown=shown, all=among))


def edit(visitor: Visitor, place: int, question: str) -> None:
    visitor.page.hover(f"#chat .user-row >> nth={place}")
    visitor.page.get_by_label(EN.edit, exact=True).nth(place).click()
    visitor.page.locator("#chat textarea").fill(question)
    visitor.page.keyboard.press("Enter")


def test_answering_again_keeps_all_versions(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    me.ask("one")
    me.answered()
    for text in ("The second answer.", "The third answer."):
        fake.default = [*say.answer(text), *say.end()]
        me.page.get_by_label(EN.regenerate).click()
        expect(log(me)).to_contain_text(text)
        me.answered()
    expect(versions(me, 3, 3)).to_have_text("3 / 3")
    expect(versions(me, 3, 3).get_by_label(EN.library.later)).to_be_disabled()
    versions(me, 3, 3).get_by_label(EN.library.earlier).click()
    expect(log(me)).to_contain_text("The second answer.")
    versions(me, 2, 3).get_by_label(EN.library.earlier).click()
    expect(log(me)).to_contain_text("It can fly.")
    expect(log(me)).not_to_contain_text("The second answer.")
    me.ask("two")  # goes on from the version that is shown
    me.answered()
    assert [m["content"] for m in fake.asked[-1]["messages"]] == ["one", "It **can** fly.", "two"]
    me.reload()
    expect(log(me)).to_contain_text("It can fly.")
    expect(versions(me, 1, 3)).to_be_visible()
    expect(me.page.locator("#chat .typed")).to_have_text(["one", "two"])


def test_any_answer_can_be_given_again_not_only_the_last(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    for question in ("one", "two", "three"):
        me.ask(question)
        me.answered()
    fake.default = [*say.answer("Another one."), *say.end()]
    expect(me.page.get_by_label(EN.regenerate)).to_have_count(3)
    me.page.get_by_label(EN.regenerate).nth(1).click()
    expect(log(me)).to_contain_text("Another one.")
    me.answered()
    expect(me.page.locator("#chat .typed")).to_have_text(["one", "two"])
    assert [m["content"] for m in fake.asked[-1]["messages"]] == ["one", "It **can** fly.", "two"]
    versions(me, 2, 2).get_by_label(EN.library.earlier).click()
    expect(me.page.locator("#chat .typed")).to_have_text(["one", "two", "three"])


def test_an_edited_question_is_a_branch_reached_by_the_keyboard(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    for question in ("one", "two"):
        me.ask(question)
        me.answered()
    edit(me, 0, "eins")
    expect(me.page.locator("#chat .typed")).to_have_text(["eins"])
    me.answered()
    assert [m["content"] for m in fake.asked[-1]["messages"]] == ["eins"]
    versions(me, 2, 2).get_by_label(EN.library.earlier).focus()
    me.page.keyboard.press("Enter")
    expect(me.page.locator("#chat .typed")).to_have_text(["one", "two"])
    expect(versions(me, 1, 2).get_by_label(EN.library.later)).to_be_focused()
    me.page.keyboard.press("Enter")
    expect(me.page.locator("#chat .typed")).to_have_text(["eins"])


def test_while_an_answer_comes_nobody_leaves_it_by_accident(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    me.ask("one")
    me.answered()
    fake.default = [*say.answer("Half"), say.wait("rest"), *say.answer(" and whole."), *say.end()]
    me.page.get_by_label(EN.regenerate).click()
    expect(log(me)).to_contain_text("Half")
    expect(me.page.get_by_label(EN.regenerate)).to_have_count(0)
    expect(versions(me, 2, 2).get_by_label(EN.library.earlier)).to_be_disabled()
    fake.open("rest")
    me.answered()
    expect(versions(me, 2, 2).get_by_label(EN.library.earlier)).to_be_enabled()


def test_on_a_phone_the_ways_are_large_and_speak_chinese(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page, language="zh-CN", width=360, height=640, touch=True)
    me.ask("行吗?")
    me.answered()
    me.page.get_by_label(ZH.regenerate).tap()
    group = me.page.get_by_role("group", name=ZH.library.version.format(shown=2, all=2))
    expect(group).to_be_visible()
    me.answered()
    for button in group.get_by_role("button").all():
        box = button.bounding_box()
        assert box and box["width"] >= 40 and box["height"] >= 40
    assert me.sideways() == 0
    group.get_by_label(ZH.library.earlier).tap()
    expect(me.page.get_by_role("group", name=re.compile("第 1 版"))).to_be_visible()


def test_a_conversation_that_was_kept_as_a_list_is_read(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    turns = [
        {"question": text, "thought": "", "answer": text.upper(), "stage": "done", "number": 0, "seconds": 1, "speed": 2.5}
        for text in ("one", "two")
    ]
    me.page.evaluate("turns => sessionStorage.setItem('cloister-conversation', JSON.stringify(turns))", turns)
    me.reload()
    expect(me.page.locator("#chat .typed")).to_have_text(["one", "two"])
    expect(log(me)).to_contain_text("TWO")
    me.ask("three")
    me.answered()
    assert [m["content"] for m in fake.asked[-1]["messages"]] == ["one", "ONE", "two", "TWO", "three"]


@pytest.mark.parametrize("way", ["cut", "stopped"])
def test_an_answer_that_was_cut_or_stopped_goes_on(fake: FakeApi, scripted_page: str, visit: Visitors, way: str) -> None:
    fake.default = [*say.thought("Hm."), *say.answer("Once upon"), *(say.end("length") if way == "cut" else [say.wait("never")])]
    me = visit(scripted_page)
    me.ask("A story!")
    expect(log(me)).to_contain_text("Once upon")
    if way == "stopped":
        me.page.click("#stop")
    me.answered()
    fake.default = [*say.answer(" a time."), *say.end()]
    me.page.get_by_role("button", name=EN.library.proceed, exact=True).click()
    expect(log(me)).to_contain_text("Once upon a time.")
    me.answered()
    assert fake.asked[-1]["messages"] == [
        {"role": "user", "content": "A story!"},
        {"role": "assistant", "reasoning_content": "Hm.", "content": "Once upon"},
    ]
    assert fake.asked[-1]["continue_final_message"] is True and fake.asked[-1]["add_generation_prompt"] is False
    expect(me.page.get_by_role("button", name=EN.library.proceed, exact=True)).to_have_count(0)
    expect(me.page.locator("#chat .note")).to_have_count(0)
    me.ask("And then?")
    me.answered()
    assert [m["content"] for m in fake.asked[-1]["messages"]] == ["A story!", "Once upon a time.", "And then?"]


def test_a_thought_that_was_stopped_goes_on(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = [*say.thought("First I"), say.wait("never")]
    me = visit(scripted_page, language="zh-CN")
    me.ask("行吗?")
    expect(me.page.locator("#chat .thought-group .content")).to_contain_text("First I")
    me.page.click("#stop")
    me.answered()
    fake.default = [*say.thought(" think."), *say.answer("Yes."), *say.end()]
    me.page.get_by_role("button", name=ZH.library.proceed, exact=True).click()
    expect(log(me)).to_contain_text("Yes.")
    me.answered()
    assert fake.asked[-1]["messages"][-1] == {"role": "assistant", "reasoning_content": "First I"}
    me.page.locator("#chat .thought-group .title").click()
    expect(me.page.locator("#chat .thought-group .content")).to_contain_text("First I think.")
