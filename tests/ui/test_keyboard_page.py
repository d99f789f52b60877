"""The page by keyboard and by ear: keys, input methods, where the focus goes, and what a screen reader is told."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from services.ui.texts import EN, ZH, Words
from tests.ui import fake as say
from tests.ui.conftest import Visitor, Visitors
from tests.ui.fake import FakeApi

LANGUAGES = pytest.mark.parametrize(("language", "words"), [("en-US", EN), ("zh-CN", ZH)])


def box(me: Visitor) -> Locator:
    return me.page.locator("#question textarea")


def edit(me: Visitor) -> Locator:
    return me.page.locator("#chat .edit-textarea")


def log(me: Visitor) -> Locator:
    return me.page.locator("#chat [role=log]")


def heard(me: Visitor) -> None:
    """From now on, what a screen reader is told is written down."""
    me.page.evaluate(
        """() => {
            told = [];
            const herald = document.querySelector('body > [role=status]');
            new MutationObserver(() => told.push(herald.textContent.trim())).observe(herald, {childList: true, characterData: true});
        }"""
    )


def test_the_enter_of_an_input_method_sends_nothing(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page, language="zh-CN")
    box(me).focus()
    keys = me.page.context.new_cdp_session(me.page)
    keys.send("Input.imeSetComposition", {"text": "ji tu", "selectionStart": 5, "selectionEnd": 5})
    for kind in ("rawKeyDown", "keyUp"):  # as Chromium reports a key that an input method has taken
        keys.send("Input.dispatchKeyEvent", {"type": kind, "key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229})
    keys.send("Input.insertText", {"text": "鸡兔"})
    # Other browsers: the composition is over, then comes an Enter that still belongs to it.
    box(me).evaluate(
        """box => {
            box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, bubbles: true, cancelable: true}));
            box.dispatchEvent(new KeyboardEvent('keypress', {key: 'Enter', bubbles: true, cancelable: true}));
        }"""
    )
    me.page.wait_for_timeout(500)
    assert fake.asked == [] and box(me).input_value() == "鸡兔"
    box(me).press("Enter")
    me.page.locator("#chat .typed").wait_for()
    me.answered()
    assert fake.asked[0]["messages"][0]["content"] == "鸡兔"


def test_the_enter_of_an_input_method_sends_no_edit_either(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page, language="zh-CN")
    me.ask("一")
    me.answered()
    box(me).press("ArrowUp")
    expect(edit(me)).to_be_focused()
    edit(me).evaluate("box => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, bubbles: true}))")
    me.page.wait_for_timeout(300)
    expect(edit(me)).to_be_visible()
    assert len(fake.asked) == 1


def test_arrow_up_in_an_empty_box_edits_the_last_question(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    box(me).press("ArrowUp")  # there is none yet
    for question in ("one", "two"):
        me.ask(question)
        me.answered()
    box(me).fill("something")
    box(me).press("ArrowUp")
    expect(edit(me)).to_have_count(0)
    box(me).fill("")
    box(me).press("ArrowUp")
    expect(edit(me)).to_be_focused()
    assert edit(me).input_value() == "two"
    edit(me).press("Escape")
    expect(edit(me)).to_have_count(0)
    expect(box(me)).to_be_focused()
    box(me).press("ArrowUp")
    expect(edit(me)).to_be_focused()
    me.page.keyboard.type(" more")  # at its end
    me.page.keyboard.press("Enter")
    expect(me.page.locator("#chat .typed").last).to_have_text("two more")
    me.answered()
    expect(box(me)).to_be_focused()
    assert [message["content"] for message in fake.asked[-1]["messages"]] == ["one", "It **can** fly.", "two more"]


def test_the_focus_comes_back_to_the_question(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    me.page.locator("#examples button").first.click()
    me.page.locator("#chat .typed").wait_for()
    expect(box(me)).to_be_focused()
    me.answered()
    fake.default = say.endless()
    box(me).fill("Talk!")
    me.page.click("#send")
    expect(log(me)).to_contain_text("word")
    expect(box(me)).to_be_focused()
    me.page.click("#stop")
    me.answered()
    expect(box(me)).to_be_focused()
    me.page.click("#new")
    expect(me.page.locator("#examples")).to_be_visible()
    expect(box(me)).to_be_focused()


def test_on_a_phone_no_keyboard_comes_up_by_itself(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page, width=360, height=640, touch=True)
    box(me).evaluate("box => box.blur()")
    me.page.locator("#examples button").first.tap()
    me.page.locator("#chat .typed").wait_for()
    me.answered()
    me.page.wait_for_timeout(300)
    expect(box(me)).not_to_be_focused()


def test_typing_goes_on_while_an_answer_grows(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = say.endless()
    me = visit(scripted_page)
    me.ask("Talk!")
    expect(log(me)).to_contain_text("word")
    me.page.keyboard.type("the next question", delay=60)
    assert box(me).input_value() == "the next question"
    expect(box(me)).to_be_focused()
    me.page.keyboard.press("Escape")
    me.answered()
    assert box(me).input_value() == "the next question"


@LANGUAGES
def test_a_way_past_everything_to_the_question(fake: FakeApi, scripted_page: str, visit: Visitors, language: str, words: Words) -> None:
    me = visit(scripted_page, language=language)
    skip = me.page.get_by_role("link", name=words.feel.skip)
    me.page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges()")
    me.page.locator("body").evaluate("body => { body.tabIndex = -1; body.focus(); body.removeAttribute('tabindex') }")
    me.page.keyboard.press("Tab")
    expect(skip).to_be_focused()
    place = skip.bounding_box()
    assert place and place["y"] >= 0
    me.page.keyboard.press("Enter")
    expect(box(me)).to_be_focused()
    assert (skip.bounding_box() or {"y": 0})["y"] < 0


@LANGUAGES
def test_every_control_is_reached_and_has_a_name(fake: FakeApi, scripted_page: str, visit: Visitors, language: str, words: Words) -> None:
    fake.default = [*say.thought("Hm."), *say.answer("So:\n\n```python\nx = 1\n```\n"), *say.end()]
    me = visit(scripted_page, language=language)
    me.ask("Well?")
    me.answered()
    names = []
    me.page.locator(".skip").focus()
    for _ in range(40):
        me.page.keyboard.press("Tab")
        name = me.page.evaluate("(e => e === document.body ? '' : e.ariaLabel || e.innerText.trim() || e.title)(document.activeElement)")
        if not name or name in names[-1:]:
            break
        names.append(name)
        if name == words.send:
            break
    for wanted in (words.theme, words.new, words.edit, words.feel.copy_code, words.copy, words.regenerate, words.placeholder, words.send):
        assert wanted in names, (wanted, names)
    assert any(words.thought.partition("{")[0].strip() in name for name in names), names


@LANGUAGES
def test_a_screen_reader_is_told_how_it_goes_and_not_every_word(
    fake: FakeApi, scripted_page: str, visit: Visitors, language: str, words: Words
) -> None:
    fake.default = [
        *[say.queued(3), say.wait("read"), say.reading(128, 512), say.pause(0.4), say.reading(384, 512), say.wait("think")],
        *[*say.thought("Hm. "), say.pause(2.5), *say.thought("Well. "), say.wait("answer"), *say.answer("It "), say.pause(0.5)],
        *[*say.answer("can fly."), *say.end()],
    ]
    me = visit(scripted_page, language=language)
    heard(me)
    me.ask("Well?")
    fold = me.page.locator("#chat .thought-group .title").last
    expect(fold).to_contain_text(words.queued.format(before=2))
    fake.open("read")
    expect(fold).to_contain_text("75")
    fake.open("think")
    expect(fold).to_contain_text(words.thinking)
    expect(fold).to_contain_text("3 ")  # the clock runs, and nothing is said of it
    fake.open("answer")
    me.answered()
    me.page.wait_for_function("words => told.includes(words)", arg=words.feel.ready)
    told = [text for text in me.page.evaluate("told") if text]
    waiting = words.queued.replace("：", ":").partition(":")[0]
    assert told in ([waiting, words.reading, words.thinking, words.feel.ready], [words.reading, waiting, *told[2:]])
    assert told[-2:] == [words.thinking, words.feel.ready]
    assert log(me).get_attribute("aria-live") == "off"
    live = me.page.locator("[aria-live=polite]:not(body > *), [aria-live=assertive], [role=alert]")
    assert [text for text in live.all_inner_texts() if text.strip()] == []


@LANGUAGES
def test_a_screen_reader_is_told_of_the_end_that_it_came_to(
    fake: FakeApi, scripted_page: str, visit: Visitors, language: str, words: Words
) -> None:
    me = visit(scripted_page, language=language)
    heard(me)
    fake.default = say.endless()
    me.ask("Talk!")
    expect(log(me)).to_contain_text("word")
    me.page.keyboard.press("Escape")
    me.page.wait_for_function("words => told.includes(words)", arg=words.stopped)
    fake.default = [*say.answer("Half"), say.error("engine_failed", "the reason")]
    me.ask("And?")
    me.page.wait_for_function("words => told.some(text => text.includes(words))", arg=words.troubles["engine_failed"].what)
    assert words.feel.ready not in me.page.evaluate("told")


def test_reduced_motion_is_respected(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = [*say.thought("Hm."), say.wait("end"), *say.answer("A"), *say.end()]
    me = visit(scripted_page)
    moving = "document.getAnimations().filter(a => a.playState === 'running' && a.effect.getComputedTiming().duration > 0).length"
    me.ask("Well?")
    expect(me.page.locator("#chat .loading-spinner")).to_be_visible()
    me.page.wait_for_function(f"{moving} > 0")
    me.page.emulate_media(reduced_motion="reduce")
    me.page.wait_for_function(f"{moving} === 0")
    fake.open("end")
    me.answered()
    me.page.wait_for_function(f"{moving} === 0")
