"""The page in Chromium, in front of a scripted API: every state, also those that a real model shows rarely or too fast."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from services.ui.texts import EN, ZH
from tests.ui import fake as say
from tests.ui.conftest import Visitor, Visitors, serve_page
from tests.ui.fake import FakeApi

SCREENS = [(1280, 800), (390, 844), (360, 640)]


def fold(visitor: Visitor) -> Locator:
    """The last fold's title."""
    return visitor.page.locator("#chat .thought-group .title").last


def thoughts(visitor: Visitor) -> Locator:
    return visitor.page.locator("#chat .thought-group .content")


def log(visitor: Visitor) -> Locator:
    return visitor.page.locator("#chat [role=log]")


def test_the_model_being_prepared_is_shown_until_it_is_ready_by_itself(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status = say.preparing("fetch", 1_200_000_000, 3_554_000_000, rate=12.3e6, seconds_left=190.0)
    me = visit(scripted_page)
    card = me.page.locator(".card")
    for text in ("Preparing the model", "Download", "33 %", "1.2 GB of 3.6 GB", "12.3 MB a second", "about 3 min 10 s left"):
        expect(card).to_contain_text(text)
    expect(me.page.locator("#examples")).to_be_hidden()
    fake.status = say.preparing("quantize", 100, 339, unit="tensors")
    expect(card.locator("[aria-current=step]")).to_contain_text("29 %")
    fake.status = say.LOADING
    expect(card).to_contain_text("Waking the model")
    fake.status = say.READY
    expect(me.page.locator("#examples")).to_be_visible()
    expect(card).to_have_count(0)
    expect(me.page.locator("#model")).to_contain_text("q4_k_m")


def test_a_model_that_failed_and_an_api_that_is_not_there_are_told(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status = say.failed("the hub can't be reached; set HF_ENDPOINT to a mirror")
    me = visit(scripted_page, language="zh-CN")
    expect(me.page.locator(".card.failed")).to_contain_text("set HF_ENDPOINT to a mirror")
    expect(me.page.locator(".card.failed")).to_contain_text(ZH.failed_todo)
    fake.status = {"state": "nonsense"}
    expect(me.page.locator(".card")).to_contain_text(ZH.starting)


def test_waiting_reading_thinking_answering_each_show(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = [
        *[say.queued(3), say.wait("read"), say.reading(128, 512), say.wait("think"), *say.thought("First **this**.\n"), say.wait("answer")],
        *[*say.answer("The answer"), say.wait("end"), *say.answer(" is 42."), *say.end(speed=12.5)],
    ]
    me = visit(scripted_page)
    me.ask("What is it?")
    expect(fold(me)).to_contain_text("Waiting: 2 before you")
    fake.open("read")
    expect(fold(me)).to_contain_text("Reading your question: 25 %")
    fake.open("think")
    expect(fold(me)).to_contain_text(re.compile("Thinking · [2-9] s"))  # the clock runs
    expect(thoughts(me)).to_contain_text("First this.")
    fake.open("answer")
    expect(log(me)).to_contain_text("The answer")
    expect(fold(me)).to_contain_text(re.compile(r"Thought for \d+ s"))
    expect(thoughts(me)).to_have_count(0)
    fake.open("end")
    me.answered()
    expect(log(me)).to_contain_text("The answer is 42.")
    expect(me.page.locator("#speed")).to_contain_text("12.5 tokens/s")
    fold(me).click()
    expect(thoughts(me)).to_contain_text("First this.")
    assert me.page.input_value("#question textarea") == ""


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stopping_keeps_what_is_there(fake: FakeApi, scripted_page: str, visit: Visitors, way: str) -> None:
    fake.default = [*say.thought("Hm."), *say.endless()]
    me = visit(scripted_page)
    me.ask("Talk!")
    expect(log(me)).to_contain_text("word word")
    if way == "button":
        me.page.click("#stop")
    else:
        me.page.keyboard.press("Escape")
    me.answered()
    assert fake.cancelled.wait(20)
    expect(log(me)).to_contain_text(EN.stopped)
    expect(log(me)).to_contain_text("word word")
    fake.default = say.THINKS
    me.ask("And now?")
    me.answered()
    assert fake.asked[-1]["messages"][1]["content"].startswith("word word")


def test_answer_again_edit_and_new(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    me.ask("one")
    me.answered()
    fake.default = [*say.answer("Another one."), *say.end()]
    me.page.get_by_label(EN.regenerate).click()
    expect(log(me)).to_contain_text("Another one.")
    me.answered()
    expect(log(me)).not_to_contain_text("It can fly")
    me.ask("two")
    me.answered()
    assert [m["content"] for m in fake.asked[-1]["messages"]] == ["one", "Another one.", "two"]

    me.page.hover("#chat .user-row >> nth=0")
    me.page.get_by_label(EN.edit, exact=True).first.click()
    box = me.page.locator("#chat textarea")
    assert box.input_value() == "one"
    box.press("Escape")
    expect(box).to_have_count(0)
    assert len(fake.asked) == 3
    me.page.get_by_label(EN.edit, exact=True).first.click()
    box.fill("three")
    box.press("Enter")
    expect(me.page.locator("#chat .user-row")).to_have_count(1)
    me.answered()
    assert [m["content"] for m in fake.asked[-1]["messages"]] == ["three"]

    me.page.click("#new")
    expect(me.page.locator("#examples")).to_be_visible()
    me.ask("four")
    me.answered()
    assert [m["content"] for m in fake.asked[-1]["messages"]] == ["four"]
    assert "Hm" not in str(fake.asked) and "One cat" not in str(fake.asked)  # thoughts are not sent


def test_new_in_the_middle_of_an_answer(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = say.endless()
    me = visit(scripted_page)
    for _ in range(5):
        me.ask("Talk!")
        expect(log(me)).to_contain_text("word")
        me.page.click("#new")
        expect(me.page.locator("#examples")).to_be_visible()
        assert fake.cancelled.wait(20)
        me.answered()
        expect(me.page.locator("#chat")).to_be_hidden()


def test_enter_sends_and_shift_enter_does_not(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    box = me.page.locator("#question textarea")
    expect(box).to_be_focused()
    box.press("Enter")  # nothing to send
    me.page.keyboard.type("line one")
    box.press("Shift+Enter")
    me.page.keyboard.type("line two")
    assert fake.asked == []
    box.press("Enter")
    me.page.locator("#chat .typed").wait_for()
    me.answered()
    assert fake.asked[0]["messages"][0]["content"] == "line one\nline two"
    expect(box).to_be_focused()
    fake.default = say.endless()
    me.ask("Talk!")
    expect(log(me)).to_contain_text("word")
    box.fill("typed meanwhile")
    box.press("Enter")
    me.page.click("#stop")
    me.answered()
    assert box.input_value() == "typed meanwhile" and len(fake.asked) == 2


def test_a_question_is_shown_as_it_was_typed(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    question = "#include <vector>\n    if (a<b && c>d) x = *p * 2;\n<div class=x> </b>"
    me = visit(scripted_page)
    me.ask(question)
    me.answered()
    assert me.page.locator("#chat .typed").text_content() == question
    assert fake.asked[0]["messages"][0]["content"] == question


def test_mathematics_code_and_tables_are_rendered(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    text = (
        "So \\( x^2 \\) and\n\n\\[ \\frac{1}{2} \\]\n\n$$ y $$ and **\\boxed{23}**\n\n"
        "```python\ndef f(n: int) -> int:\n    return n\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    fake.default = [*say.answer(*[text[i : i + 7] for i in range(0, len(text), 7)]), *say.end()]
    me = visit(scripted_page)
    me.ask("Show!")
    me.answered()
    expect(log(me).locator(".katex")).to_have_count(4)
    expect(log(me).locator(".katex-display")).to_have_count(2)
    expect(log(me).locator(".katex .boxpad")).to_have_count(1)
    expect(log(me).locator("pre .token.keyword").first).to_have_text("def")
    expect(log(me).locator("table td").first).to_have_text("1")
    log(me).locator("pre").hover()
    log(me).locator(".code_wrap button, [class*=code_wrap] button").first.click()
    assert me.page.evaluate("navigator.clipboard.readText()").strip() == "def f(n: int) -> int:\n    return n"


def test_copying_gives_the_answer_without_the_thought(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    me.ask("Can it?")
    me.answered()
    me.page.locator("#chat .message-buttons-left").get_by_label(EN.copy, exact=True).last.click()
    assert me.page.evaluate("navigator.clipboard.readText()") == "It **can** fly."


@pytest.mark.parametrize("code", ["engine_failed", "context_length_exceeded", "overloaded"])
def test_an_error_is_shown_in_place_and_the_question_can_be_sent_again(
    fake: FakeApi, scripted_page: str, visit: Visitors, code: str
) -> None:
    in_the_middle: list[say.Step] = [*say.thought("Hm."), *say.answer("Half of it"), say.error(code, "the reason")]
    fake.default = in_the_middle if code == "engine_failed" else [say.refuse(429 if code == "overloaded" else 400, code, "the reason")]
    me = visit(scripted_page, language="zh-CN")
    me.ask("行吗?")
    trouble = me.page.locator(".note.trouble")
    expect(trouble).to_contain_text(ZH.troubles[code].what)
    expect(trouble).to_contain_text(ZH.troubles[code].todo)
    expect(trouble).to_contain_text("the reason")
    if code == "engine_failed":
        expect(log(me)).to_contain_text("Half of it")
    expect(me.page.locator("#chat .typed")).to_have_text("行吗?")
    me.answered()
    fake.default = say.THINKS
    me.page.get_by_text(ZH.again).click()
    expect(log(me)).to_contain_text("It can fly.")
    me.answered()
    expect(trouble).to_have_count(0)
    expect(me.page.locator("#chat .user-row")).to_have_count(1)


def test_an_answer_cut_by_length_says_so(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = [*say.answer("Once upon"), *say.end("length")]
    me = visit(scripted_page)
    me.ask("A story!")
    expect(log(me)).to_contain_text(EN.cut)


def test_a_question_asked_too_early_waits_and_is_answered(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status, fake.default = say.preparing("fetch", 30, 100), [say.refuse(503, "unavailable", "preparing", retry_after=1)]
    me = visit(scripted_page)
    me.ask("Already?")
    expect(fold(me)).to_contain_text("Waiting for the model")
    expect(me.page.locator("#strip")).to_contain_text("Preparing the model · Download · 30 %")
    fake.status, fake.default = say.READY, say.THINKS
    expect(log(me)).to_contain_text("It can fly.")
    expect(me.page.locator("#strip .strip")).to_have_count(0)


def test_the_switch_changes_the_language_and_keeps_the_conversation(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page, language="zh-CN")
    expect(me.page.locator("#hello h1")).to_have_text(ZH.hello)
    expect(me.page.locator("html")).to_have_attribute("lang", "zh-CN")
    me.ask("行吗?")
    me.answered()
    expect(fold(me)).to_contain_text("思考了 1 秒")
    me.page.click("#switch")
    expect(fold(me)).to_contain_text("Thought for 1 s")
    expect(me.page.locator("html")).to_have_attribute("lang", "en")
    expect(me.page.get_by_label(EN.regenerate)).to_have_count(1)
    expect(log(me)).to_contain_text("It can fly.")
    fake.default = [*say.thought("Hm."), say.wait("switch"), *say.answer("Done."), *say.end()]
    me.ask("And now?")
    expect(fold(me)).to_contain_text("Thinking")
    me.page.click("#switch")
    expect(fold(me)).to_contain_text("正在思考")
    fake.open("switch")
    me.answered()
    expect(fold(me)).to_contain_text("思考了")
    me.reload()  # the choice is remembered
    expect(me.page.locator("#switch")).to_have_text("English")


def test_light_and_dark_follow_the_system_and_the_switch(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    def paper(visitor: Visitor) -> int:
        colour = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(re.findall(r"\d+", colour)[0])

    light, dark = visit(scripted_page), visit(scripted_page, dark=True)
    assert paper(light) > 200 > 60 > paper(dark)
    light.page.click("#theme")
    assert paper(light) < 60
    light.reload()
    light.page.wait_for_selector("#hello h1")
    assert paper(light) < 60 and light.page.locator("body.dark").count() == 1


@pytest.mark.parametrize(("width", "height"), SCREENS)
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_nothing_scrolls_sideways(fake: FakeApi, scripted_page: str, visit: Visitors, width: int, height: int, language: str) -> None:
    fake.status = {**say.READY, "notice": "the hub is away: the demo stands in for deepseek-r1-distill-qwen-1.5b"}
    wide = (
        "x" * 300
        + "\n\n```python\n"
        + "y = "
        + "1 + " * 80
        + "1\n```\n\n| "
        + " | ".join(f"column {i}" for i in range(12))
        + " |\n"
        + "|---" * 12
    )
    wide += "|\n\n\\[ " + "a + " * 60 + "b \\]\n"
    fake.default = [*say.thought("z" * 300), *say.answer(wide), say.error("engine_failed", "w" * 300)]
    me = visit(scripted_page, width=width, height=height, language=language, touch=width < 600)
    assert me.sideways() == 0
    me.page.locator("#examples button").first.click()
    expect(me.page.locator(".note.trouble")).to_be_visible()
    fold(me).click()
    assert me.sideways() == 0
    for name in ("#composer", "#chat", "#header", "#facts"):
        box = me.page.locator(name).bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= height, name
    fake.status = say.preparing("fetch", 1_200_000_000, 3_554_000_000, rate=12.3e6, seconds_left=190.0)
    me.page.click("#new")
    expect(me.page.locator(".card")).to_be_visible()
    assert me.sideways() == 0


def test_the_demo_that_stands_in_is_announced(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status = {**say.READY, "notice": "the hub is away"}
    me = visit(scripted_page, language="zh-CN")
    expect(me.page.locator(".banner")).to_contain_text(ZH.demo_stands_in)
    me.page.locator(".banner summary").click()
    expect(me.page.locator(".banner")).to_contain_text("the hub is away")


def test_two_visitors_at_once_never_see_each_other(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    for name in ("ALPHA", "OMEGA"):
        fake.scripts[f"I am {name}"] = [*say.thought(f"{name} thinks"), say.wait("both"), *say.answer(f"Hello {name}"), *say.end()]
    alpha, omega = visit(scripted_page), visit(scripted_page)
    alpha.ask("I am ALPHA")
    omega.ask("I am OMEGA")
    expect(thoughts(alpha)).to_contain_text("ALPHA thinks")
    expect(thoughts(omega)).to_contain_text("OMEGA thinks")
    fake.open("both")
    for me, name, other in ((alpha, "ALPHA", "OMEGA"), (omega, "OMEGA", "ALPHA")):
        me.answered()
        expect(log(me)).to_contain_text(f"Hello {name}")
        assert other not in me.page.content()
    fresh = visit(scripted_page)
    assert "ALPHA" not in fresh.page.content() and "OMEGA" not in fresh.page.content()


def test_a_reload_loses_nothing_that_was_shown(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    me.ask("one")
    me.answered()
    fake.default = [*say.thought("Hm."), *say.answer("Half of it"), say.wait("never")]
    me.ask("two")
    expect(log(me)).to_contain_text("Half of it")
    me.reload()
    for text in ("It can fly.", "Half of it", EN.lost, EN.again):
        expect(me.page.locator("#chat")).to_contain_text(text)
    fake.default = say.THINKS
    me.page.get_by_text(EN.again).click()
    expect(me.page.locator("#chat .note")).to_have_count(0)
    me.answered()
    assert [m["content"] for m in fake.asked[-1]["messages"]] == ["one", "It **can** fly.", "two"]


def test_leaving_the_page_cancels_the_answer(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = say.endless()
    me = visit(scripted_page)
    me.ask("Talk!")
    expect(log(me)).to_contain_text("word")
    me.may_complain = True  # its stream is torn
    me.page.goto("about:blank")
    assert fake.cancelled.wait(30)


def test_a_killed_page_server_comes_back_with_the_conversation(fake: FakeApi, tmp_path: Path, visit: Visitors) -> None:
    process, url = serve_page(fake.url, tmp_path)
    try:
        fake.default = [*say.answer("Half of it"), say.wait("never")]
        me = visit(url, language="zh-CN")
        me.ask("one")
        expect(log(me)).to_contain_text("Half of it")
        me.may_complain = True
        process.kill()
        process.wait()
        expect(me.page.locator(".toast-message-text")).to_have_text(ZH.connection)
        expect(log(me)).to_contain_text("Half of it")
        process, _ = serve_page(fake.url, tmp_path, int(url.rpartition(":")[2]))
        expect(me.page.locator("#chat")).to_contain_text(ZH.lost)
        expect(log(me)).to_contain_text("Half of it")
    finally:
        process.terminate()
        process.wait(20)
