"""The page in Chromium: files that go with a question, and how full the conversation is."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from services.ui.texts import EN, WORDS, ZH, Language
from tests.ui import fake as say
from tests.ui.conftest import Visitor, Visitors, serve_page
from tests.ui.fake import FakeApi
from tests.ui.front import front
from tests.ui.test_accessibility import violations
from tests.ui.test_library_page import acts, exported, opened
from tests.ui.test_reading import lines, pdf

CSV = "animal,count\nchicken,23\nrabbit,12\n"
TOLD = f"zoo.csv:\n```\n{CSV.rstrip()}\n```"
TOKENS = say.tokens([{"content": TOLD}])


def context_of(fake: FakeApi, size: int) -> None:
    fake.status = {**say.READY, "model": {**say.MODEL, "context": size}}


def attach(page: Page, *files: tuple[str, bytes | str]) -> None:
    """Choose files as with the paper-clip."""
    page.set_input_files(
        "#chosen-files",
        [
            {"name": name, "mimeType": "application/octet-stream", "buffer": data if isinstance(data, bytes) else data.encode()}
            for name, data in files
        ],
    )


def bring(page: Page, way: str, files: Sequence[tuple[str, str]], text: str = "") -> None:
    """Files held over the page and dropped, or pasted, with what a browser sends then."""
    page.evaluate(
        """([way, files, text]) => {
            const data = new DataTransfer();
            for (const [name, content] of files) data.items.add(new File([content], name));
            if (text) data.setData("text/plain", text);
            const at = way === "paste" ? document.querySelector("#question textarea") : document.querySelector("#stage");
            const more = way === "paste" ? { clipboardData: data } : { dataTransfer: data };
            const Kind = way === "paste" ? ClipboardEvent : DragEvent;
            at.dispatchEvent(new Kind(way, { bubbles: true, cancelable: true, ...more }));
        }""",
        [way, list(files), text],
    )


def chips(me: Visitor) -> Locator:
    return me.page.locator("#files li .look")


def refused(me: Visitor) -> Locator:
    return me.page.locator("#files li.refused")


def attached(me: Visitor) -> Locator:
    return me.page.locator("#chat .attached .look span")


def asked(fake: FakeApi, number: int = -1) -> list[str]:
    return [message["content"] for message in fake.asked[number]["messages"]]


def test_a_file_goes_with_the_question_and_is_seen_with_it(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    with me.page.expect_file_chooser() as chooser:
        me.page.get_by_role("button", name=EN.files.attach).click()
    chooser.value.set_files([{"name": "zoo.csv", "mimeType": "text/csv", "buffer": CSV.encode()}])
    expect(chips(me)).to_have_text([f"zoo.csv{EN.files.tokens.format(count=TOKENS)}"])
    expect(me.page.get_by_role("list", name=EN.files.waiting)).to_be_visible()
    assert fake.asked == [] and [body["messages"] for body in fake.counted] == [[{"role": "user", "content": TOLD}]]
    me.ask("How many legs?")
    me.answered()
    assert asked(fake) == [f"{TOLD}\n\nHow many legs?"]
    expect(chips(me)).to_have_count(0)
    expect(me.page.locator("#chat .typed")).to_have_text(["How many legs?"])
    expect(me.page.locator("#chat")).not_to_contain_text("chicken,23")
    expect(attached(me)).to_have_text(["zoo.csv"])
    me.page.locator("#chat .attached .look").click()
    dialog = me.page.get_by_role("dialog", name="zoo.csv")
    expect(dialog.locator("pre")).to_have_text(CSV)
    me.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    me.ask("And heads?")  # it stays in the conversation, and is not sent anew
    me.answered()
    assert asked(fake)[::2] == [f"{TOLD}\n\nHow many legs?", "And heads?"]
    expect(me.page.locator("#chat .attached")).to_have_count(1)
    assert len(fake.counted) == 1


def test_files_are_dropped_pasted_and_removed(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    deadline = time.monotonic() + 60
    while not me.page.locator("#drop").is_visible():  # a browser says again and again that they are held there
        assert time.monotonic() < deadline
        bring(me.page, "dragover", [("a.md", "# A")])
    expect(me.page.locator("#drop")).to_have_text(EN.files.drop)
    bring(me.page, "drop", [("a.md", "# A"), ("b.py", "print('b')"), ("c.pdf", pdf(lines("Page of C")).decode("latin-1"))])
    expect(me.page.locator("#drop")).to_be_hidden()
    expect(chips(me).locator("span")).to_have_text(["a.md", "b.py", "c.pdf"])
    bring(me.page, "paste", [("image.png", "")], text="a picture of this text")  # as office programs do
    bring(me.page, "paste", [("d.txt", "pasted")])
    expect(chips(me).locator("span")).to_have_text(["a.md", "b.py", "c.pdf", "d.txt"])
    me.page.get_by_role("button", name=EN.files.remove.format(name="b.py")).click()
    expect(chips(me).locator("span")).to_have_text(["a.md", "c.pdf", "d.txt"])
    expect(me.page.get_by_role("button", name=EN.files.remove.format(name="c.pdf"))).to_be_focused()
    me.page.keyboard.press("Enter")
    expect(chips(me).locator("span")).to_have_text(["a.md", "d.txt"])
    bring(me.page, "drop", [("c.pdf", pdf(lines("Page of C")).decode("latin-1"))])
    expect(chips(me)).to_have_count(3)
    me.ask("Sum up")
    me.answered()
    assert asked(fake) == ["a.md:\n```\n# A\n```\n\nd.txt:\n```\npasted\n```\n\nc.pdf:\n```\nPage of C\n```\n\nSum up"]


def test_a_file_alone_is_a_question(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    attach(me.page, ("zoo.csv", CSV))
    expect(chips(me)).to_have_count(1)
    me.page.press("#question textarea", "Enter")
    expect(attached(me)).to_have_text(["zoo.csv"])
    me.answered()
    assert asked(fake) == [TOLD]
    opened(me)
    expect(me.page.locator("#library li .open span")).to_have_text(["zoo.csv"])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_does_not_fit_is_refused_with_both_numbers(fake: FakeApi, scripted_page: str, visit: Visitors, language: Language) -> None:
    words = WORDS[language].files
    context_of(fake, 4096)
    me = visit(scripted_page, language="zh-CN" if language == "zh" else "en-US")
    fake.default = [*say.answer("Yes."), *say.end(prompt=1000)]  # and 40 of the answer
    me.ask("one")
    me.answered()
    expect(me.page.get_by_role("meter")).to_have_attribute("aria-valuenow", "1040")
    attach(me.page, ("small.txt", "word " * 95), ("big.txt", "word " * 5203))
    expect(refused(me)).to_have_count(1)
    small, needed = (say.tokens([{"content": f"x:\n```\n{'word ' * count}\n```"}]) for count in (95, 5203))
    free = 4096 - 1040 - small - 512
    expect(refused(me)).to_contain_text(words.no_room.format(needed=f"{needed:,}", free=f"{free:,}", room="512"))
    expect(refused(me)).to_contain_text("big.txt")
    expect(chips(me).locator("span")).to_have_text(["small.txt"])
    attach(me.page, ("fits.txt", "word " * (free - 7)))  # to the last token, and the old refusal is gone
    expect(chips(me)).to_have_count(2)
    expect(refused(me)).to_have_count(0)
    me.ask("two")
    me.answered()
    assert "fits.txt" in asked(fake)[-1] and "big.txt" not in asked(fake)[-1]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_can_not_be_read_says_why(fake: FakeApi, scripted_page: str, visit: Visitors, language: Language) -> None:
    words = WORDS[language].files
    me = visit(scripted_page, language="zh-CN" if language == "zh" else "en-US")
    expected = {
        "a.png": (b"\x89PNG\r\n\x1a\n" + bytes(9), words.reasons["binary"].format(found=words.kinds["image"])),
        "b.txt": (b"", words.reasons["empty"]),
        "c.pdf": (pdf(b"q Q", b"q Q"), words.reasons["pdf_no_text"].format(found=2)),
        "d.txt": (b"a" * 10_000_001, words.reasons["too_large"].format(found="10.1", most="10")),
        "e.txt": (b"a" * 1_234_000, words.reasons["too_long"].format(found="1.3", most="1")),
    }
    attach(me.page, *((name, data) for name, (data, _) in expected.items()))
    expect(refused(me)).to_have_count(len(expected))
    for row, (name, (_, sentence)) in zip(refused(me).all(), expected.items(), strict=True):
        expect(row).to_contain_text(words.refused.format(name=name, why=sentence))
    me.page.get_by_role("button", name=words.remove.format(name="a.png")).click()
    expect(refused(me)).to_have_count(4)
    assert fake.counted == []


def test_no_model_or_no_server_is_told_and_the_page_goes_on(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    fake.uncounted = 503
    attach(me.page, ("zoo.csv", CSV))
    expect(refused(me)).to_contain_text(EN.files.reasons["uncounted"])
    fake.uncounted = 0
    me.page.route("**/read", lambda route: route.abort())
    me.may_complain = True
    attach(me.page, ("zoo.csv", CSV))
    expect(refused(me)).to_contain_text(EN.files.reasons["unreached"])
    me.page.unroute("**/read")
    attach(me.page, ("zoo.csv", CSV))
    expect(chips(me)).to_have_count(1)
    expect(refused(me)).to_have_count(0)


def test_a_question_waits_for_its_files(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    me.page.evaluate("() => { const ask = fetch; window.fetch = async (...r) => { await window.gate; return ask(...r); }; }")
    me.page.evaluate("() => { window.gate = new Promise((resolve) => { window.openGate = resolve; }); }")
    attach(me.page, ("zoo.csv", CSV))
    expect(me.page.locator("#files li.reading")).to_contain_text(EN.files.reading)
    me.page.fill("#question textarea", "How many?")
    me.page.press("#question textarea", "Enter")
    me.page.click("#send")
    expect(me.page.locator("#files")).to_contain_text(EN.files.patience)
    assert fake.asked == [] and me.page.input_value("#question textarea") == "How many?"
    me.page.evaluate("() => window.openGate()")
    expect(chips(me)).to_have_count(1)
    expect(me.page.locator("#files")).not_to_contain_text(EN.files.patience)
    me.page.press("#question textarea", "Enter")
    expect(attached(me)).to_have_text(["zoo.csv"])
    me.answered()
    assert asked(fake) == [f"{TOLD}\n\nHow many?"]


def test_reload_edit_answering_again_and_export_keep_the_files(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    attach(me.page, ("zoo.csv", CSV))
    expect(chips(me)).to_have_count(1)
    me.reload()  # before they are sent
    expect(chips(me).locator("span")).to_have_text(["zoo.csv"])
    me.ask("How many?")
    me.answered()
    me.reload()
    expect(attached(me)).to_have_text(["zoo.csv"])
    expect(chips(me)).to_have_count(0)
    me.page.get_by_label(EN.regenerate).click()
    me.page.get_by_role("group", name=EN.library.version.format(shown=2, all=2)).wait_for()
    me.answered()
    assert asked(fake) == [f"{TOLD}\n\nHow many?"]
    me.page.hover("#chat .user-row")
    me.page.get_by_label(EN.edit, exact=True).click()
    me.page.locator("#chat textarea").fill("How many legs?")
    me.page.keyboard.press("Enter")
    expect(me.page.locator("#chat .typed")).to_have_text(["How many legs?"])
    me.answered()
    assert asked(fake) == [f"{TOLD}\n\nHow many legs?"] and len(fake.asked) == 3
    expect(attached(me)).to_have_text(["zoo.csv"])
    page = opened(me)
    name, text = exported(page, EN, EN.library.export_markdown)
    assert name.endswith(".md") and f"**zoo.csv**\n\n```\n{CSV.rstrip()}\n```" in text
    _, kept = exported(page, EN, EN.library.export_json)
    files = [turn["files"] for turn in json.loads(kept)["conversations"][0]["turns"]]
    assert files == [[{"name": "zoo.csv", "text": CSV, "tokens": TOKENS}]] * 3
    acts(page).get_by_text(EN.library.delete_all, exact=True).click()
    acts(page).get_by_role("button", name=EN.library.delete_all).click()
    page.set_input_files("#library input[type=file]", {"name": "x.json", "mimeType": "application/json", "buffer": kept.encode()})
    page.locator("#library li .open").click()
    expect(attached(me)).to_have_text(["zoo.csv"])


def test_the_gauge_tells_how_full_it_is_and_what_to_do(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    context_of(fake, 4096)
    me = visit(scripted_page)
    meter, line = me.page.locator("#gauge .gauge"), me.page.locator("#full")
    expect(meter).to_be_hidden()
    fake.default = [say.reading(1164, 1164), *say.answer("Ye", "s."), say.wait("on"), *say.end(prompt=1164)]
    me.ask("one")
    expect(meter).to_have_text("1,166 of 4,096 tokens")  # while it grows
    fake.open("on")
    me.answered()
    expect(meter).to_have_text("1,204 of 4,096 tokens")
    expect(meter).to_have_accessible_name(EN.files.fullness)
    for name, value in {"role": "meter", "aria-valuemin": "0", "aria-valuemax": "4096", "aria-valuenow": "1204"}.items():
        expect(meter).to_have_attribute(name, value)
    expect(line).to_be_hidden()
    attach(me.page, ("some.txt", "word " * 2073))  # 2,080 with the name and the fences: 80 % and a little
    expect(meter).to_have_text("3,284 of 4,096 tokens")
    expect(line).to_have_text(EN.files.nearly.format(left="812"))
    me.page.get_by_role("button", name=EN.files.remove.format(name="some.txt")).click()
    expect(line).to_be_hidden()
    fake.default = [*say.answer("No."), *say.end(prompt=3960)]
    me.ask("two")
    me.answered()
    expect(line).to_have_text(EN.files.full.format(left="96"))
    expect(meter).to_have_attribute("data-level", "full")
    me.reload()
    expect(line).to_have_text(EN.files.full.format(left="96"))
    me.page.click("#switch")
    expect(line).to_have_text(ZH.files.full.format(left="96"))
    expect(meter).to_have_text(ZH.files.of.format(used="4,000", context="4,096"))
    me.page.click("#new")
    expect(line).to_be_hidden()
    expect(meter).to_be_hidden()


def test_a_stopped_answer_counts_without_its_thought(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = [say.reading(100, 100), *say.thought("Hm.", "Well."), *say.answer("It", " can"), say.wait("never")]
    me = visit(scripted_page)
    me.ask("q")
    expect(me.page.locator("#gauge .gauge")).to_have_text("104 of 8,192 tokens")
    me.page.click("#stop")
    me.answered()
    expect(me.page.locator("#gauge .gauge")).to_have_text("102 of 8,192 tokens")


def test_below_a_path_and_behind_tls(fake: FakeApi, tmp_path: Path, browser: Browser) -> None:
    process, inside = serve_page(fake.url, tmp_path, UI__PATH="/ai")
    try:
        with front(inside, "/ai", tmp_path) as address:
            context = browser.new_context(ignore_https_errors=True, locale="en-US")
            page = context.new_page()
            page.goto(f"{address}/")
            expect(page.locator("#hello h1")).to_be_visible()
            attach(page, ("zoo.csv", CSV))
            expect(page.locator("#files li .look span")).to_have_text(["zoo.csv"])
            context.close()
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize(("language", "dark"), [("en-US", False), ("zh-CN", True)])
def test_on_a_phone_it_fits_and_axe_finds_nothing_serious(
    fake: FakeApi, scripted_page: str, visit: Visitors, language: str, dark: bool
) -> None:
    context_of(fake, 4096)
    me = visit(scripted_page, language=language, width=360, height=640, dark=dark, touch=True)
    long = "a-name-of-a-file-that-is-longer-than-any-phone-is-wide-and-goes-on-and-on.csv"
    attach(me.page, (long, CSV), ("b.txt", "b"), ("c.png", b"\x89PNG\r\n\x1a\n" + bytes(9)))
    expect(refused(me)).to_have_count(1)
    found = {"waiting": violations(me)}
    for control in me.page.locator("#files button, #clip button").all():
        box = control.bounding_box()
        assert box and box["height"] >= 38 and box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert me.sideways() == 0
    fake.default = [*say.answer("Yes."), *say.end(prompt=3400)]
    me.ask("How many?")
    me.answered()
    expect(me.page.locator("#full")).to_be_visible()
    found["answered"] = violations(me)
    for chip in me.page.locator("#chat .attached .look, #chat .typed, #gauge .gauge").all():
        box = chip.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert me.sideways() == 0
    me.page.locator("#chat .attached .look").first.tap()
    expect(me.page.locator("#file")).to_be_visible()
    found["text"] = violations(me)
    assert me.sideways() == 0
    assert [f"{state}: {line}" for state, lines in found.items() for line in lines] == []
