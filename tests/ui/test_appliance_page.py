"""The page on the whole appliance with the demo model: the article's examples, and the deaths of the parts behind it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import threading
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from services.ui.texts import EN, WORDS, ZH, Language
from tests.conftest import Cloister
from tests.ui.conftest import Visitor, Visitors

CAGE, DICE, PALINDROME, SYLLOGISM = range(4)
EXPECTED: dict[tuple[Language, int], list[str]] = {
    ("zh", CAGE): ["23", "12"],
    ("zh", DICE): ["6/11"],
    ("zh", PALINDROME): ["def is_palindrome", "[::-1]"],
    ("zh", SYLLOGISM): ["咪咪会飞"],
    ("en", CAGE): ["23 chickens", "12 rabbits"],
    ("en", DICE): ["6/11"],
    ("en", PALINDROME): ["def is_palindrome", "[::-1]"],
    ("en", SYLLOGISM): ["Mimi can fly"],
}
THOUGHTS = {CAGE: "x + y = 35", DICE: "1/6"}


def settled(me: Visitor) -> str:
    """What the conversation says once nothing is under way."""
    me.answered()
    return str(me.page.locator("#chat [role=log]").inner_text())


def settled_with(me: Visitor, *expected: str) -> str:
    """The same, and that this is in it. The demo model samples; these answers it has never missed in 24 or 32 tries."""
    shown = settled(me)
    assert all(text in shown for text in expected), shown
    return shown


@pytest.mark.parametrize("number", [CAGE, DICE, PALINDROME, SYLLOGISM])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_examples_of_the_article(cloister: Cloister, visit: Visitors, language: Language, number: int) -> None:
    me, words = visit(cloister.page_url, language="zh-CN" if language == "zh" else "en-GB"), WORDS[language]
    example = me.page.locator("#examples button").nth(number)
    expect(example).to_contain_text(words.examples[number].title)
    example.click()
    me.page.locator("#chat .typed").wait_for()
    assert words.examples[number].question in settled_with(me, *EXPECTED[language, number])
    title = me.page.locator("#chat .thought-group .title")
    expect(title).to_contain_text(words.thought.partition("{")[0])
    expect(me.page.locator("#chat .thought-group .content")).to_have_count(0)  # folded
    title.click()
    thought = me.page.locator("#chat .thought-group .content")
    expect(thought).to_contain_text(THOUGHTS[number]) if number in THOUGHTS else expect(thought).not_to_be_empty()
    expect(me.page.locator("#speed")).to_contain_text("tokens/s" if language == "en" else "词元/秒")
    if number == PALINDROME:
        expect(me.page.locator("#chat pre .token.keyword").first).to_have_text("def")


def test_follow_up_edit_answer_again_and_new(cloister: Cloister, visit: Visitors) -> None:
    me = visit(cloister.page_url, language="zh-CN")
    me.page.locator("#examples button").nth(CAGE).click()
    me.page.locator("#chat .typed").wait_for()
    settled_with(me, "23", "12")
    me.ask("那如果是 40 个头,100 条腿呢?")
    settled_with(me, "30", "10")
    me.page.get_by_label(ZH.regenerate).last.click()
    me.page.get_by_role("group", name=ZH.library.version.format(shown=2, all=2)).wait_for()
    settled_with(me, "23", "12", "30", "10")
    me.page.hover("#chat .user-row >> nth=0")
    me.page.get_by_label(ZH.edit, exact=True).first.click()
    me.page.locator("#chat textarea").fill("鸡兔同笼,共有 10 个头,28 条腿,鸡和兔各有几只?")
    me.page.keyboard.press("Enter")
    expect(me.page.locator("#chat .user-row")).to_have_count(1)
    shown = settled_with(me, "鸡有 6 只", "兔子有 4 只")
    assert "23" not in shown and "30" not in shown
    me.page.click("#new")
    expect(me.page.locator("#examples")).to_be_visible()
    expect(me.page.locator("#chat")).to_be_hidden()


def test_stop_while_the_engine_is_slow(cloister: Cloister, visit: Visitors) -> None:
    me, engine = visit(cloister.page_url), cloister.pid("engine")
    os.kill(engine, signal.SIGSTOP)  # as slow as an engine can be
    try:
        me.ask(EN.examples[CAGE].question)
        me.page.keyboard.press("Escape")
        assert EN.stopped_before in settled(me)
    finally:
        os.kill(engine, signal.SIGCONT)
    me.page.get_by_label(EN.regenerate).click()
    expect(me.page.locator("#chat [role=log]")).not_to_contain_text(EN.stopped_before)
    settled_with(me, "12 rabbits")


@contextlib.contextmanager
def slowed(pid: int) -> Iterator[None]:
    """The process runs for a tenth of the time."""
    over = threading.Event()

    def hinder() -> None:
        while not over.wait(0.02):
            os.kill(pid, signal.SIGSTOP)
            over.wait(0.2)
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=hinder)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_answer_that_was_stopped_goes_on(cloister: Cloister, visit: Visitors) -> None:
    """What is there is read as text, so a stop between two letters that this very small model knows only as one token can end its
    answer at once: then another one is stopped, three at most."""
    me = visit(cloister.page_url)
    for _ in range(3):
        with slowed(cloister.pid("engine")):
            me.page.locator("#examples button").nth(CAGE).click()
            expect(me.page.locator("#chat .thought-group .content")).to_contain_text("x")
            me.page.keyboard.press("Escape")
            stopped = settled(me)
        assert EN.stopped in stopped and "12 rabbits" not in stopped
        me.page.get_by_role("button", name=EN.library.proceed, exact=True).click()
        expect(me.page.locator("#chat .note")).to_have_count(0)
        shown = settled(me)
        assert EN.stopped not in shown
        if "12 rabbits" in shown:
            break
        me.page.click("#new")
    assert "23 chickens" in shown and "12 rabbits" in shown, shown


def test_an_engine_that_dies_in_the_middle(cloister: Cloister, visit: Visitors) -> None:
    me, engine = visit(cloister.page_url, language="zh-CN"), cloister.pid("engine")
    os.kill(engine, signal.SIGSTOP)
    me.ask(ZH.examples[CAGE].question)
    me.page.locator("#chat .thought-group").wait_for()
    os.kill(engine, signal.SIGKILL)
    expect(me.page.locator(".note.trouble")).to_contain_text(ZH.troubles["engine_failed"].what)
    me.page.get_by_text(ZH.again).click()  # waits by itself until the engine is back
    expect(me.page.locator(".note.trouble")).to_have_count(0)
    settled_with(me, "鸡有 23 只", "兔子有 12 只")


def test_a_question_that_is_too_long(cloister: Cloister, visit: Visitors) -> None:
    me = visit(cloister.page_url)
    me.ask("rabbit " * 20_000)
    expect(me.page.locator(".note.trouble")).to_contain_text(EN.troubles["context_length_exceeded"].what)
    context = httpx.get(cloister.api_url + "/v1/status").json()["model"]["context"]
    expect(me.page.locator(".note.trouble")).to_contain_text(str(context))
    expect(me.page.locator(".note.trouble")).to_contain_text(re.compile(r"the prompt has [2-9]\d{4} tokens"))
    expect(me.page.locator(".note.trouble")).to_contain_text(EN.troubles["context_length_exceeded"].todo)


def test_a_file_goes_to_the_model_and_one_that_is_too_large_is_refused_with_the_real_numbers(cloister: Cloister, visit: Visitors) -> None:
    me = visit(cloister.page_url)
    question = EN.examples[CAGE].question

    def count(name: str, text: str) -> int:
        content = f"{name}:\n```\n{text.rstrip()}\n```"
        body = {"model": "default", "messages": [{"role": "user", "content": content}]}
        return int(httpx.post(cloister.api_url + "/v1/messages/count_tokens", json=body, timeout=60).json()["input_tokens"])

    def attach(name: str, text: str) -> None:
        me.page.set_input_files("#chosen-files", {"name": name, "mimeType": "text/csv", "buffer": text.encode()})

    attach("cage.csv", question)  # the fact is in the file alone
    taken = count("cage.csv", question)
    expect(me.page.locator("#files .look")).to_contain_text(EN.files.tokens.format(count=taken))
    me.page.press("#question textarea", "Enter")
    expect(me.page.locator("#chat .attached")).to_contain_text("cage.csv")
    settled_with(me, "12 rabbits")
    meter = me.page.get_by_role("meter")
    expect(meter).to_be_visible()
    used, context = (int(str(meter.get_attribute(f"aria-value{name}"))) for name in ("now", "max"))
    assert context == httpx.get(cloister.api_url + "/v1/status").json()["model"]["context"] and taken < used < context
    large = "rabbit,12\n" * 4000
    needed, kept = count("large.csv", large), context // 8
    assert needed > context
    attach("large.csv", large)
    words = EN.files.no_room.format(needed=f"{needed:,}", free=f"{context - used - kept:,}", room=f"{kept:,}")
    expect(me.page.locator("#files .refused")).to_contain_text(words)


def test_the_status_panel_tells_what_is_true(cloister: Cloister, visit: Visitors) -> None:
    """The hash is that of the file, read here; threads and cells are those of the API; no check of the walls ever ran."""
    told = httpx.get(cloister.api_url + "/v1/status").json()
    file = cloister.home / "volume/current/model.gguf"
    me = visit(cloister.page_url)
    me.page.click("#panel-button button")
    expect(me.page.locator("#panel-sha256")).to_have_text(hashlib.sha256(file.read_bytes()).hexdigest())
    engine = me.page.locator("#panel-engine")
    expect(engine.locator("div", has_text=EN.panel.threads).locator("dd")).to_contain_text(re.compile(rf"^{told['engine']['threads']}:"))
    expect(engine).to_contain_text(EN.panel.cpus.format(count=told["machine"]["cpus"]))
    expect(me.page.locator("#panel .tiles")).to_contain_text(f"of {told['engine']['cells']:,} tokens")
    expect(me.page.locator("#panel-provenance")).to_contain_text(EN.panel.sources["demo"])
    expect(me.page.locator("#panel-isolation")).to_contain_text(EN.panel.check_never)
    expect(me.page.locator("#plot-memory svg")).to_have_attribute("role", "img")


def test_settings_change_how_the_model_answers(cloister: Cloister, visit: Visitors) -> None:
    """Without a thought; with one that is cut by the length; and with both again once all is as the model has it."""
    me = visit(cloister.page_url)

    def choose(name: str, value: str) -> None:
        me.page.click("#choices-button button")
        box = me.page.locator(f"#choices [name={name}]")
        box.select_option(value) if name == "thinking" else box.fill(value)
        me.page.keyboard.press("Escape")

    choose("thinking", "false")
    me.ask(EN.examples[CAGE].question)
    assert EN.thought.partition("{")[0] not in settled(me)
    expect(me.page.locator("#chat .bot-row")).not_to_have_count(0)
    expect(me.page.locator("#chat .thought-group")).to_have_count(0)
    choose("thinking", "")
    choose("max_tokens", "12")
    me.page.click("#new")
    expect(me.page.locator("#examples")).to_be_visible()
    me.ask(EN.examples[CAGE].question)
    assert EN.cut in settled(me)
    me.page.click("#choices-button button")
    me.page.locator("#choices .reset").click()
    me.page.keyboard.press("Escape")
    me.page.click("#new")
    expect(me.page.locator("#examples")).to_be_visible()
    me.ask(EN.examples[CAGE].question)
    settled_with(me, "23 chickens", "12 rabbits", EN.thought.partition("{")[0])


def test_the_terminal_on_the_same_appliance(cloister: Cloister) -> None:
    done = cloister.script("chat", ZH.examples[CAGE].question)
    assert "**23**" in done.stdout and "**12**" in done.stdout and "x + y = 35" in done.stdout
    assert "验算" not in done.stdout  # that is in the thinking


def test_no_text_is_in_any_log(cloister: Cloister) -> None:
    cloister.script("chat", "SECRET rabbits")
    for file in (cloister.home / "log").iterdir():
        text = file.read_text(errors="replace")
        assert "SECRET" not in text and "鸡" not in text and "rabbits" not in text, file
