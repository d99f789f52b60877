"""What a model writes, as it stands on the page: Markdown, formulas, code and tables, also while it is still being written."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from services.ui.texts import EN, ZH, Words
from tests.ui import fake as say
from tests.ui.conftest import Visitor, Visitors
from tests.ui.fake import FakeApi


def shown(me: Visitor) -> Locator:
    """The last answer."""
    return me.page.locator("#chat .bot-row .prose").last


def answered(me: Visitor, fake: FakeApi, *pieces: str) -> Locator:
    """The answer that consists of these pieces, once it is complete."""
    fake.default = [*say.answer(*pieces), *say.end()]
    me.ask("Show!")
    me.answered()
    return shown(me)


def clipboard(me: Visitor) -> str:
    return str(me.page.evaluate("navigator.clipboard.readText()"))


def pieces(text: str, length: int = 3) -> list[str]:
    """As a model sends it."""
    return [text[at : at + length] for at in range(0, len(text), length)]


def test_formulas_as_models_write_them(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    answer = answered(
        me,
        fake,
        *pieces(
            "Inline \\( x_1^2 \\) and $y$, not $5 or $HOME.\n\n\\[ \\begin{aligned} a &= b \\\\ c &< d \\end{aligned} \\]\n\n$$ z $$\n\n"
            "So **\\boxed{\\frac{\\sqrt{a^{2}}}{b}}**, \\boxed{\\boxed{7}} and \\[ \\boxed{8} \\]"
            "\n\n| f |\n|---|\n| \\( g \\) |\n\n- \\(h\\)\n"
        ),
    )
    expect(answer.locator(".katex")).to_have_count(9)
    expect(answer.locator(".katex-display")).to_have_count(3)
    expect(answer.locator(".boxpad")).to_have_count(4)
    expect(answer.locator(".katex-error")).to_have_count(0)
    expect(answer.locator("td .katex, li .katex")).to_have_count(2)
    expect(answer).to_contain_text("not $5 or $HOME.")
    assert me.page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px KaTeX_Main', 'x'))")
    fonts = [url for url in me.requested if "KaTeX" in url]
    assert fonts and all(url.startswith(scripted_page + "/") for url in fonts)


def test_a_formula_that_katex_does_not_know_stays_readable(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    answer = answered(me, fake, "Before \\( \\frac{1}{ \\) after, \\(\\nonsense{x}\\) end")
    expect(answer).to_contain_text("Before")
    expect(answer).to_contain_text("after")
    expect(answer).to_contain_text("\\nonsense")
    expect(answer).to_contain_text("end")


def test_bold_beside_chinese_punctuation(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page, language="zh-CN")
    answer = answered(me, fake, *pieces("**答案：**鸡有**“23”**只，兔有**\\(12\\)**只，共**`35`**只。**注意**。", 2))
    expect(answer.locator("strong")).to_have_count(5)
    assert "*" not in answer.inner_text()


def test_headings_lists_tables_and_quotes(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    text = "# One\n\ntext\n\n- a\n  - b\n\n1. c\n2. d\n\n| l | r |\n|---|--:|\n| 1 | 2 |\n\n> quoted\n\n~~gone~~ *slanted* [there](https://example.org)"
    answer = answered(me, fake, *pieces(text))
    for place, content in (("h1", "One"), ("ul ul li", "b"), ("ol li >> nth=1", "d"), ("td >> nth=1", "2"), ("blockquote", "quoted")):
        expect(answer.locator(place)).to_have_text(content)
    for place, content in (("del", "gone"), ("em", "slanted"), ("a", "there")):
        expect(answer.locator(place)).to_have_text(content)
    assert answer.locator("td").nth(1).evaluate("cell => getComputedStyle(cell).textAlign") == "right"
    expect(answer.locator("a")).to_have_attribute("rel", "noopener noreferrer")


CODE = "    return a[0]  # $$\n\n\tif (a < b && c > d) { x = '\\(' }"


@pytest.mark.parametrize(("language", "words"), [("en-US", EN), ("zh-CN", ZH)])
def test_code_is_coloured_and_copied_to_the_letter(fake: FakeApi, scripted_page: str, visit: Visitors, language: str, words: Words) -> None:
    me = visit(scripted_page, language=language)
    answer = answered(me, fake, f"First:\n\n```python\ndef f(): pass\n```\n\nthen $$\n\n```c\n{CODE}\n```\n\nDone $$.")
    expect(answer.locator("pre")).to_have_count(2)
    expect(answer.locator(".token.keyword").first).to_have_text("def")
    button = answer.get_by_role("button", name=words.feel.copy_code, exact=True).nth(1)
    button.click()
    expect(answer.get_by_role("button", name=words.feel.copied, exact=True)).to_have_count(1)
    assert clipboard(me) == CODE
    expect(me.page.locator("body > [role=status]")).to_have_text(words.feel.copied)
    expect(answer.get_by_role("button", name=words.feel.copied, exact=True)).to_have_count(0)  # and then as before
    expect(answer.get_by_role("button", name=words.feel.copy_code, exact=True)).to_have_count(2)


WRITTEN = "So **\\boxed{23}**, **鸡：**12, <b>no tag</b>, $x^2$, ![p](q) and\n\n```sh\necho $$\n```\n"


def test_copying_an_answer_gives_what_the_model_wrote(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    answered(me, fake, *pieces(WRITTEN))
    me.page.get_by_role("button", name=EN.copy, exact=True).last.click()
    expect(me.page.get_by_role("button", name=EN.feel.copied, exact=True)).to_have_count(1)
    assert clipboard(me) == WRITTEN
    expect(me.page.get_by_role("button", name=EN.feel.copied, exact=True)).to_have_count(0)


def test_without_a_clipboard_too(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    """A page from another machine without TLS has none, and Gradio copies out of a box that it makes."""
    me = visit(scripted_page)
    me.page.evaluate("delete Navigator.prototype.clipboard")
    answered(me, fake, WRITTEN, f"\n```c\n{CODE}\n```\n")
    copied: list[Any] = []
    me.page.expose_function("tell", lambda text: copied.append(text))
    me.page.evaluate("document.addEventListener('copy', event => tell(event.clipboardData.getData('text/plain')))")
    for number, name in enumerate((EN.copy, EN.feel.copy_code), 1):
        me.page.get_by_role("button", name=name, exact=True).last.click()
        deadline = time.monotonic() + 60
        while len(copied) < number and time.monotonic() < deadline:
            me.page.wait_for_timeout(50)
    assert copied == [WRITTEN + f"\n```c\n{CODE}\n```\n", CODE]


def test_a_selection_is_copied_without_what_is_hidden(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    answer = answered(me, fake, "**鸡：**12 <b>x</b>")
    answer.evaluate("box => getSelection().selectAllChildren(box)")
    me.page.keyboard.press("Control+C")
    assert clipboard(me).strip() == "鸡：12 <b>x</b>"


PIECES = [
    "**",
    "`",
    "```\n",
    "\n",
    "\n\n",
    "~~~\n",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "$$",
    "\\boxed{",
    "}",
    "- ",
    "> ",
    "word ",
    " ",
    "|",
    "<!--",
    "-->",
]
TRAPS = [
    "<img src=x onerror=\"window.ran='img'\">",
    "<svg onload=\"window.ran='svg'\">",
    "<script>window.ran = 'script'</script>",
    "<a href=\"javascript:window.ran='a'\">a</a>",
    "[link](javascript:window.ran='link')",
    "![p](logout)",
    "![spy](http://127.0.0.1:9/spy.png) <img src='http://127.0.0.1:9/two.png'>",
    "![p][ref]",
    "<iframe src=\"javascript:parent.ran='iframe'\"></iframe>",
    "<style>body { display: none }</style>",
    "<form action=x><input autofocus onfocus=\"window.ran='focus'\"></form>",
    "<math><mtext><table><mglyph><style><img src=x onerror=\"window.ran='math'\">",
    "```mermaid\ngraph TD; A[\"<img src=x onerror=window.ran='mermaid'>\"]\n```",
    "\\(\\href{javascript:window.ran='katex'}{x}\\)",
    "\\(\\includegraphics{x}\\)",
    "[ref]: logout",
]


FOREIGN = "img, iframe, script, style, form, input, object, embed, video, audio, link, base"


def test_nothing_that_a_model_writes_runs_or_is_fetched(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    draw = random.Random(8)
    answers = ["\n\n".join(TRAPS), *("".join(draw.choices(PIECES + TRAPS, k=40)) for _ in range(12))]
    me = visit(scripted_page)
    me.page.evaluate("window.ran = ''")
    me.page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    before = len(me.requested)
    for text in answers:
        fake.default = [*say.thought(text), *say.answer(*pieces(text, 40)), *say.end()]
        me.ask("Try!")
        me.answered()
        me.page.locator("#chat .thought-group .title").last.click()
        chat = me.page.locator("#chat .prose")
        assert chat.locator(FOREIGN).count() == 0, (text, chat.locator(FOREIGN).first.evaluate("e => e.outerHTML"))
    me.page.wait_for_timeout(500)
    assert chat.locator("[onerror], [onload], [onfocus], [href^='javascript:']").count() == 0
    for link in chat.locator("a").all():
        assert (link.get_attribute("href") or "").partition(":")[0] in ("", "logout", "http"), link.get_attribute("href")
    assert me.page.evaluate("window.ran") == ""
    known = ("/gradio_api/", "/assets/", "/look/", "/static/")
    assert [url for url in me.requested[before:] if not url.removeprefix(scripted_page).startswith(known)] == []


GROWING = (
    "Let \\( x \\) be it.\n\n\\[ x + y = \\frac{1}{2} \\]\n\n**Then:** `code`\n\n- one\n- two\n\n"
    "```python\ndef f(n):\n    return n\n```\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n\nSo \\boxed{23}."
)


def test_nothing_flashes_up_while_an_answer_grows(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    """One letter at a time: no raw formula, no star, fence or bar that is none in the end, no heading out of a list."""
    me = visit(scripted_page)
    me.page.evaluate(
        """() => {
            seen = new Set();
            new MutationObserver(() => {
                const prose = [...document.querySelectorAll('#chat .bot-row .prose')].pop();
                if (!prose) return;
                const copy = prose.cloneNode(true);
                for (const formula of copy.querySelectorAll('.katex')) formula.replaceWith('F');
                seen.add(`${copy.querySelectorAll('h1, h2').length} ${copy.innerText}`);
            }).observe(document.getElementById('chat') ?? document.body, {childList: true, subtree: true, characterData: true});
        }"""
    )
    fake.default = [*[step for letter in GROWING for step in (*say.answer(letter), say.pause(0.04))], *say.end()]
    me.ask("Grow!")
    me.answered()
    expect(shown(me).locator(".katex")).to_have_count(3)
    states = me.page.evaluate("[...seen]")
    assert len(states) > 30
    for state in states:
        assert not any(raw in state for raw in ("\\", "**", "`", "|", "$", "---")), state
        assert state.startswith("0 "), state


def test_the_page_does_not_jump_while_an_answer_grows(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    """What stands there stays where it is: an answer only grows downwards."""
    me = visit(scripted_page)
    me.page.evaluate(
        """() => {
            heights = [];
            const look = () => {
                const prose = [...document.querySelectorAll('#chat .bot-row .prose')].pop();
                if (prose) heights.push(Math.round(prose.getBoundingClientRect().height));
                requestAnimationFrame(look);
            };
            look();
        }"""
    )
    fake.default = [*[step for piece in pieces(GROWING) for step in (*say.answer(piece), say.pause(0.05))], *say.end()]
    me.ask("Grow!")
    me.answered()
    heights = me.page.evaluate("heights")
    shrunk = [(a, b) for a, b in itertools.pairwise(heights) if b < a - 2]
    assert shrunk == []


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_on_a_phone_what_is_wide_scrolls_in_itself(fake: FakeApi, scripted_page: str, visit: Visitors, language: str) -> None:
    wide = "| " + " | ".join(f"column {i}" for i in range(12)) + " |\n" + "|---" * 12 + "|\n\n"
    wide += (
        "```python\ny = "
        + "1 + " * 80
        + "1\n```\n\n\\[ "
        + "a + " * 60
        + "b \\]\n\n"
        + "很长" * 100
        + "x" * 300
        + "\n\n`"
        + "y" * 300
        + "`\n\n"
    )
    wide += "inline \\( " + "c + " * 60 + "d \\) end\n\n- " + "z" * 200 + "\n\n<" + "t" * 200 + ">"
    me = visit(scripted_page, language=language, width=360, height=640, touch=True)
    answer = answered(me, fake, wide)
    assert me.sideways() == 0
    for place in ("table", "pre", ".katex-display"):
        box = answer.locator(place).first
        assert box.evaluate("box => box.scrollWidth > box.clientWidth && ['auto', 'scroll'].includes(getComputedStyle(box).overflowX)"), (
            place
        )
        assert (box.bounding_box() or {"width": 999})["width"] <= 360 - 2 * 16
    for place in ("p", "li", "code"):
        for box in answer.locator(f":not(pre) > {place}").all():
            assert (box.bounding_box() or {"width": 999})["width"] < 360 - 2 * 16 + 1, box.inner_text()[:40]
    button = answer.locator(".copy_code_button").first.bounding_box()
    assert button and button["width"] >= 40 and button["height"] >= 40
