"""The page in Chromium: the conversations that the browser keeps, and nobody else."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from services.ui.texts import EN, ZH, Words
from tests.conftest import ROOT, environment, free_port
from tests.ui import fake as say
from tests.ui.conftest import Visitor, Visitors
from tests.ui.fake import FakeApi


def log(visitor: Visitor) -> Locator:
    return visitor.page.locator("#chat [role=log]")


def titles(page: Page) -> Locator:
    return page.locator("#library li .open span")


def new(visitor: Visitor) -> None:
    visitor.page.click("#new")
    expect(visitor.page.locator("#examples")).to_be_visible()


def talk_of(visitor: Visitor, *questions: str) -> None:
    for question in questions:
        visitor.ask(question)
        visitor.answered()


def opened(visitor: Visitor) -> Page:
    """With the list open, and what can be done with it."""
    visitor.page.click("#shelf")
    expect(visitor.page.locator("#library")).to_be_visible()
    return visitor.page


def acts(page: Page) -> Locator:
    if page.locator("#library details[open]").count() == 0:
        page.locator("#library summary").click()
    return page.locator("#library .more")


def exported(page: Page, words: Words, what: str) -> tuple[str, str]:
    with page.expect_download() as found:
        acts(page).get_by_text(what, exact=True).click()
    return found.value.suggested_filename, Path(found.value.path()).read_text(encoding="utf-8")


def take_in(page: Page, name: str, text: str) -> None:
    page.set_input_files("#library input[type=file]", {"name": name, "mimeType": "application/json", "buffer": text.encode()})


def test_conversations_are_listed_by_last_use_and_opened_again(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    talk_of(me, "first\nsecond line", "and then")
    new(me)
    talk_of(me, "a second one")
    page = opened(me)
    expect(titles(page)).to_have_text(["a second one", "first"])
    expect(page.locator("#library [aria-current]")).to_have_text("a second one")
    page.get_by_role("button", name="first", exact=True).click()
    expect(page.locator("#chat .typed")).to_have_text(["first\nsecond line", "and then"])
    expect(page.locator("#library [aria-current]")).to_have_text("first")
    me.reload()  # the tab's own conversation comes back, not the one that was used last
    expect(page.locator("#chat .typed")).to_have_text(["first\nsecond line", "and then"])
    expect(titles(page)).to_have_text(["a second one", "first"])  # to look at it is not to use it
    talk_of(me, "more")
    assert [m["content"] for m in fake.asked[-1]["messages"]][::2] == ["first\nsecond line", "and then", "more"]
    expect(titles(page)).to_have_text(["first", "a second one"])
    assert len(fake.asked) == 4  # no hidden calls for titles


def test_titles_and_texts_are_searched(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    for question, answer in (("About rabbits", "They hop."), ("About tigers", "They roar loudly."), ("关于鸡", "鸡会走路。")):
        fake.default = [*say.answer(answer), *say.end()]
        talk_of(me, question)
        new(me)
    page = opened(me)
    for wanted, found in (
        ("RABBITS", ["About rabbits"]),
        ("roar", ["About tigers"]),
        ("走路", ["关于鸡"]),
        ("About", ["About tigers", "About rabbits"]),
    ):
        page.get_by_label(EN.library.search).fill(wanted)
        expect(titles(page)).to_have_text(found)
    page.get_by_label(EN.library.search).fill("roar")
    expect(page.locator("#library small")).to_have_text("They roar loudly.")
    page.get_by_label(EN.library.search).fill("unicorn")
    expect(page.locator("#library ul")).to_have_text(EN.library.nothing_found)


def test_rename_delete_undo_and_delete_all(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    talk_of(me, "one")
    new(me)
    talk_of(me, "two")
    page = opened(me)
    page.hover("#library li >> nth=1")
    page.get_by_label(f"{EN.library.rename}: one").click()
    page.get_by_label(EN.library.name).fill("My title")
    page.keyboard.press("Enter")
    expect(titles(page)).to_have_text(["two", "My title"])
    page.hover("#library li >> nth=0")
    page.get_by_label(f"{EN.library.delete}: two").click()
    expect(titles(page)).to_have_text(["My title"])
    expect(page.locator("#examples")).to_be_visible()  # it was the one that was shown
    page.get_by_role("button", name=EN.library.undo).click()
    expect(titles(page)).to_have_text(["two", "My title"])
    expect(page.locator("#chat .typed")).to_have_text(["two"])
    acts(page).get_by_text(EN.library.delete_all, exact=True).click()
    expect(acts(page)).to_contain_text(EN.library.sure.format(count=2))
    page.get_by_role("button", name=EN.library.keep).click()
    expect(titles(page)).to_have_count(2)
    acts(page).get_by_text(EN.library.delete_all, exact=True).click()
    acts(page).get_by_role("button", name=EN.library.delete_all).click()
    expect(page.locator("#library ul")).to_have_text(EN.library.nothing_kept)
    expect(page.locator("#examples")).to_be_visible()
    me.reload()
    expect(page.locator("#examples")).to_be_visible()
    expect(page.locator("#library ul")).to_have_text(EN.library.nothing_kept)


def test_a_reload_in_the_midst_of_an_answer_shows_all_that_was_shown(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    words = [step for number in range(400) for step in (*say.answer(f"w{number} "), say.pause(0.02))]
    fake.default = [*say.thought("Hm."), *words, say.wait("never")]
    me = visit(scripted_page)
    me.ask("Talk!")
    for least in (20, 60):
        expect(log(me)).to_contain_text(f"w{least} ")
        shown = re.findall(r"w\d+", log(me).inner_text())  # whatever it is at in this moment
        me.reload()
        expect(me.page.locator("#chat")).to_contain_text(EN.lost)
        assert re.findall(r"w\d+", log(me).inner_text())[: len(shown)] == shown
        me.page.get_by_text(EN.again).click()
        expect(log(me)).not_to_contain_text(EN.lost)


def test_leaving_an_answer_on_its_way_keeps_what_is_there(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = say.endless()
    me = visit(scripted_page)
    me.ask("Talk!")
    expect(log(me)).to_contain_text("word word")
    new(me)
    assert fake.cancelled.wait(20)
    page = opened(me)
    page.get_by_role("button", name="Talk!", exact=True).click()
    expect(log(me)).to_contain_text("word word")
    expect(log(me)).to_contain_text(EN.stopped)


def test_two_tabs_have_a_conversation_each_and_overwrite_nothing(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    talk_of(me, "first tab")
    other = Visitor(me.page.context.new_page(), scripted_page)
    other.open()
    expect(other.page.locator("#chat")).to_be_hidden()  # a tab of its own begins anew
    talk_of(other, "second tab")
    page = opened(me)
    expect(titles(page)).to_have_text(["second tab", "first tab"])  # heard of it at once
    me.reload()
    expect(page.locator("#chat .typed")).to_have_text(["first tab"])

    # Both in one conversation: what each of them adds stands side by side.
    opened(other).get_by_role("button", name="first tab", exact=True).click()
    expect(other.page.locator("#chat .typed")).to_have_text(["first tab"])
    talk_of(me, "from the first")
    talk_of(other, "from the second")
    me.reload()
    expect(page.get_by_role("group", name=EN.library.version.format(shown=2, all=2))).to_be_visible()
    expect(page.locator("#chat .typed")).to_have_text(["first tab", "from the second"])
    page.get_by_label(EN.library.earlier).click()
    expect(page.locator("#chat .typed")).to_have_text(["first tab", "from the first"])


def test_two_browsers_never_see_each_others(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    alpha, omega = visit(scripted_page), visit(scripted_page)
    talk_of(alpha, "I am ALPHA")
    talk_of(omega, "I am OMEGA")
    expect(titles(opened(alpha))).to_have_text(["I am ALPHA"])
    expect(titles(opened(omega))).to_have_text(["I am OMEGA"])
    assert "OMEGA" not in alpha.page.content() and "ALPHA" not in omega.page.content()


def test_persons_who_share_a_browser_have_libraries_of_their_own(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    talk_of(me, "mine")
    other = Visitor(me.page.context.new_page(), scripted_page)
    other.page.add_init_script(
        "new MutationObserver((_, all) => { if (!document.head) return; all.disconnect();"
        " document.head.insertAdjacentHTML('afterbegin', '<meta name=\"cloister-person\" content=\"abc\">'); })"
        ".observe(document, { childList: true, subtree: true })"
    )
    other.open()
    expect(opened(other).locator("#library ul")).to_have_text(EN.library.nothing_kept)


def test_without_storage_the_page_works_and_says_so(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page, language="zh-CN")
    me.page.add_init_script(
        "Object.defineProperty(window, 'indexedDB', { value: { open() { throw new DOMException('no', 'SecurityError'); } } })"
    )
    me.reload()
    expect(me.page.locator("#unkept")).to_contain_text(ZH.library.trouble.format(why="SecurityError"))
    talk_of(me, "行吗?", "还行吗?")
    assert len(fake.asked[-1]["messages"]) == 3
    me.page.locator("#unkept").get_by_label(ZH.library.close).click()
    expect(me.page.locator("#unkept")).to_have_count(0)
    expect(opened(me).locator("#library .trouble")).to_be_visible()
    name, text = exported(me.page, ZH, ZH.library.export_markdown)
    assert name == "行吗 .md" and "还行吗?" in text


def test_export_as_markdown_and_json_and_import(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = [*say.thought("Line one.\nLine two."), *say.answer("```py\nx\n```"), *say.end()]
    me = visit(scripted_page)
    talk_of(me, "Show/me?")
    fake.default = say.THINKS
    me.page.get_by_label(EN.regenerate).click()
    expect(me.page.get_by_role("group", name=EN.library.version.format(shown=2, all=2))).to_be_visible()
    me.answered()
    me.page.get_by_label(EN.library.earlier).click()
    expect(log(me)).to_contain_text("x")
    new(me)
    talk_of(me, "another")
    page = opened(me)
    page.get_by_role("button", name="Show/me?", exact=True).click()
    expect(page.locator("#chat .typed")).to_have_text(["Show/me?"])
    name, text = exported(page, EN, EN.library.export_markdown)
    assert name == "Show me .md"
    assert text == "# Show/me?\n\n## Question\n\nShow/me?\n\n### Thought\n\n> Line one.\n> Line two.\n\n### Answer\n\n```py\nx\n```\n"
    name, one = exported(page, EN, EN.library.export_json)
    assert name == "Show me .json" and [len(talk["turns"]) for talk in json.loads(one)["conversations"]] == [2]
    name, all_of_them = exported(page, EN, EN.library.export_all)
    assert name.startswith("Cloister conversations ") and len(json.loads(all_of_them)["conversations"]) == 2

    fresh = opened(visit(scripted_page))
    take_in(fresh, "all.json", all_of_them)
    expect(fresh.locator("#library .said")).to_have_text(EN.library.taken_in.format(count=2))
    expect(titles(fresh)).to_have_text(["another", "Show/me?"])
    take_in(fresh, "one.json", one)  # what is there already is not doubled
    expect(titles(fresh)).to_have_count(2)
    fresh.get_by_role("button", name="Show/me?", exact=True).click()
    expect(fresh.get_by_role("group", name=EN.library.version.format(shown=1, all=2))).to_be_visible()


def damaged(**changes: Any) -> str:
    turn = {"question": "q", "answer": "a", "stage": "done", "id": "x", "parent": "", **changes}
    return json.dumps({"format": "cloister-conversations", "version": 1, "conversations": [{"id": "abc", "head": "x", "turns": [turn]}]})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{not json", EN.library.not_json.partition("{")[0]),
        ('{"a": 1, "b": 2}', EN.library.not_ours.format(found="a, b")),
        ("[1]", EN.library.not_ours.format(found="list")),
        ('{"format": "cloister-conversations", "version": 9}', EN.library.newer.format(found=9, most=1)),
        (damaged(answer=5), EN.library.damaged.format(number=1, found="answer")),
        (damaged(stage="flying"), EN.library.damaged.format(number=1, found="stage")),
        (damaged(parent="y"), EN.library.damaged.format(number=1, found="parent")),
        (damaged(id="<b>"), EN.library.damaged.format(number=1, found="id")),
        (damaged(files=[5]), EN.library.damaged.format(number=1, found="files")),
        (damaged(answer="x" * 2_000_001), EN.library.damaged.format(number=1, found="answer")),
    ],
)
def test_a_bad_file_is_refused_with_a_reason(fake: FakeApi, scripted_page: str, visit: Visitors, text: str, sentence: str) -> None:
    page = opened(visit(scripted_page))
    take_in(page, "bad.json", text)
    said = page.locator("#library .said")
    for part in (EN.library.refused.format(file="bad.json"), sentence, EN.library.choose):
        expect(said).to_contain_text(part)
    expect(page.locator("#library ul")).to_have_text(EN.library.nothing_kept)


def test_on_a_phone_it_is_a_drawer(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page, language="zh-CN", width=360, height=640, touch=True)
    talk_of(me, "一" * 60)
    new(me)
    page = opened(me)
    for control in page.locator("#library").get_by_role("button").all():
        box = control.bounding_box()
        assert box and box["height"] >= 40 and box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert me.sideways() == 0
    page.locator("#library .open").tap()
    expect(page.locator("#library")).to_be_hidden()
    expect(page.locator("#chat .typed")).to_have_text(["一" * 60])
    opened(me)
    page.keyboard.press("Escape")
    expect(page.locator("#library")).to_be_hidden()
    expect(page.locator("#shelf")).to_be_focused()


# Runs the page as it is; on SIGUSR1 it tells which of its objects hold a text.
WITNESS = """
import gc, os, signal, sys
def look(*_):
    gc.collect()
    secret, found = "FISH".join(["ZEBRA", ""]), set()
    for holder in gc.get_objects():
        for text in gc.get_referents(holder):
            if isinstance(text, str) and secret in text or isinstance(text, (bytes, bytearray)) and secret.encode() in text:
                found.add(type(holder).__name__)
    print("holders:", sorted(found), flush=True)
signal.signal(signal.SIGUSR1, look)
from services.ui.__main__ import main
sys.exit(main(os.environ, sys.argv[1:]))
"""


def test_the_server_keeps_and_logs_no_text(fake: FakeApi, tmp_path: Path, visit: Visitors) -> None:
    secret = "ZEBRA" + "FISH"
    port, record = free_port(), tmp_path / "ui.log"
    env = environment(tmp_path, UI__PORT=port, UI__API=fake.url, LOG__LEVEL="debug")
    with record.open("w") as out:
        process = subprocess.Popen([sys.executable, "-c", WITNESS], cwd=ROOT, env=env, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"

    def holders(times: int) -> str:
        process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 60
        while record.read_text().count("holders:") < times and time.monotonic() < deadline:
            time.sleep(0.1)
        return record.read_text().rpartition("holders: ")[2].splitlines()[0]

    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(url + "/livez", trust_env=False)
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        fake.default = [*say.thought(f"{secret} thought"), *say.answer(f"{secret} answer"), say.wait("end"), *say.end()]
        me = visit(url)
        me.ask(f"{secret} question")
        expect(log(me)).to_contain_text(f"{secret} answer")
        assert holders(1) != "[]"  # while it is under way: so the witness sees what there is
        fake.open("end")
        me.answered()
        me.page.get_by_label(EN.edit, exact=True).first.wait_for(state="attached")
        me.page.click("#new")
        expect(me.page.locator("#examples")).to_be_visible()
        deadline, times = time.monotonic() + 30, 2
        while (kept := holders(times)) != "[]" and time.monotonic() < deadline:
            times += 1
            time.sleep(0.2)  # the last connection is being closed
        assert kept == "[]"
        assert secret not in record.read_text()
    finally:
        for visitor in visit.known:
            visitor.may_complain = True  # the server goes before the page does
        process.terminate()
        process.wait(20)
    assert all(secret not in file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.is_file())
