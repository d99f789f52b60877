"""The settings in Chromium, in front of a scripted API: chosen, kept, sent, taken back, and told where they are wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, expect

from services.shared.secret import digest
from services.ui.texts import EN, WORDS, ZH, Language
from tests.ui import fake as say
from tests.ui.conftest import Visitor, Visitors, serve_page
from tests.ui.fake import FakeApi

LANGUAGES = pytest.mark.parametrize(("language", "locale"), [("en", "en-US"), ("zh", "zh-CN")])
KEPT = "JSON.parse(localStorage.getItem(cloisterKey('choices')))"


def opened(me: Visitor) -> Locator:
    """The dialog, open and in the visitor's language."""
    me.page.click("#choices-button button")
    dialog = me.page.locator("dialog#choices")
    expect(dialog.locator("h2")).to_be_visible()
    return dialog


def field(me: Visitor, name: str) -> Locator:
    return me.page.locator(f"#choices [name={name}]")


def choose(me: Visitor, **values: str) -> None:
    """In the open dialog; it is closed then."""
    for name, value in values.items():
        box = field(me, name)
        box.select_option(value) if name in ("thinking", "adapter") else box.fill(value)
    me.page.keyboard.press("Escape")
    expect(me.page.locator("dialog#choices")).to_be_hidden()


def asked(me: Visitor, fake: FakeApi, question: str) -> dict[str, Any]:
    """What the API was sent with this question."""
    me.ask(question)
    me.answered()
    return fake.asked[-1]


def chosen(body: dict[str, Any]) -> dict[str, Any]:
    """The fields that a page without settings does not send."""
    return {name: value for name, value in body.items() if name not in ("messages", "stream", "stream_options", "user")}


def test_every_choice_arrives_at_the_api(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status = say.rich()
    me = visit(scripted_page)
    assert chosen(asked(me, fake, "as it is")) == {}
    opened(me)
    values = {"system": "Answer as a poet.", "temperature": "0.3", "top_p": ".5", "max_tokens": "100", "thinking_budget": "64"}
    choose(me, **values, thinking="true", adapter="poet")
    body = asked(me, fake, "chosen")
    assert body["messages"][0] == {"role": "system", "content": "Answer as a poet."}
    assert body["messages"][1]["content"] == "as it is"
    expected = {"temperature": 0.3, "top_p": 0.5, "max_completion_tokens": 100, "thinking_budget": 64, "enable_thinking": True}
    assert chosen(body) == {**expected, "model": "poet"}
    expect(me.page.locator("#choices-button button")).to_have_attribute("aria-label", EN.choices.changed.format(count=7))
    opened(me)
    choose(me, thinking="false")
    me.page.get_by_label(EN.regenerate).last.click()
    me.page.locator("#chat .versions").wait_for()
    me.answered()
    assert chosen(fake.asked[-1]) == {
        "temperature": 0.3,
        "top_p": 0.5,
        "max_completion_tokens": 100,
        "enable_thinking": False,
        "model": "poet",
    }


def test_choices_survive_a_reload_and_reset_takes_them_back(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    opened(me)
    choose(me, system="Be brief.", temperature="1,5", thinking="false")
    me.open()
    button = me.page.locator("#choices-button button")
    expect(button).to_have_attribute("data-count", "3")
    dialog = opened(me)
    expect(field(me, "system")).to_have_value("Be brief.")
    expect(field(me, "temperature")).to_have_value("1.5")
    expect(field(me, "thinking")).to_have_value("false")
    expect(field(me, "thinking_budget")).to_be_disabled()
    reset = dialog.get_by_role("button", name=EN.choices.reset)
    reset.click()
    expect(dialog.get_by_role("status")).to_contain_text(EN.choices.was_reset)
    expect(field(me, "system")).to_have_value("")
    expect(field(me, "temperature")).to_have_attribute("placeholder", "0.6")
    assert me.page.evaluate(KEPT) is None
    dialog.get_by_role("button", name=EN.choices.undo).click()
    expect(reset).to_be_focused()
    expect(field(me, "temperature")).to_have_value("1.5")
    assert me.page.evaluate(KEPT) == {"system": "Be brief.", "temperature": 1.5, "thinking": False}
    reset.click()
    dialog.get_by_role("button", name=EN.choices.close).click()
    expect(button).to_have_attribute("aria-label", EN.choices.open)
    expect(button).not_to_have_attribute("data-count", re.compile(".*"))
    body = asked(me, fake, "q")
    assert chosen(body) == {} and [message["role"] for message in body["messages"]] == ["user"]


@LANGUAGES
def test_what_is_wrong_is_told_at_the_field_and_not_kept(
    fake: FakeApi, scripted_page: str, visit: Visitors, language: Language, locale: str
) -> None:
    me, w = visit(scripted_page, language=locale), WORDS[language].choices
    dialog = opened(me)
    field(me, "temperature").fill("0.5")
    field(me, "temperature").blur()
    wrong = {"temperature": "hot", "top_p": "0", "max_tokens": "12.5", "thinking_budget": "9000", "system": "x" * 20_001}
    for name, value in wrong.items():
        box, told = field(me, name), me.page.locator(f"#choices-{name}-wrong")
        box.fill(value)
        box.blur()
        expect(told).to_contain_text(w.wrong)
        expect(told).to_have_attribute("role", "alert")
        expect(box).to_have_attribute("aria-invalid", "true")
        assert f"choices-{name}-wrong" in (box.get_attribute("aria-describedby") or "").split()
    expect(me.page.locator("#choices-temperature-wrong")).to_contain_text(w.any_number.format(least=0, most=2))
    expect(me.page.locator("#choices-thinking_budget-wrong")).to_contain_text(w.whole_number.format(least=0, most="8,192"))
    expect(me.page.locator("#choices-system-wrong")).to_contain_text(w.some_text.format(most="20,000"))
    field(me, "top_p").fill("0.1")
    expect(me.page.locator("#choices-top_p-wrong")).to_be_empty()
    me.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert chosen(asked(me, fake, "q")) == {"temperature": 0.5, "top_p": 0.1}
    opened(me)
    expect(field(me, "temperature")).to_have_value("0.5")
    expect(field(me, "max_tokens")).to_have_value("")
    expect(dialog.locator("[aria-invalid]")).to_have_count(0)


def test_what_a_stranger_put_into_the_storage_harms_nobody(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    hostile = '{"temperature": "9", "max_tokens": -1, "messages": [], "stream": false, "adapter": "gone", "top_p": 0.5, "system": {"a": 1}}'
    for kept in (hostile, "[1]", "{", "null", '"text"'):
        me.page.evaluate("kept => localStorage.setItem(cloisterKey('choices'), kept)", kept)
        me.open()
        body = asked(me, fake, "q")
        assert chosen(body) == ({"top_p": 0.5} if kept == hostile else {}) and body["stream"] is True
        opened(me)
        me.page.keyboard.press("Escape")
        me.page.click("#new")
        expect(me.page.locator("#examples")).to_be_visible()


def test_keys_open_and_close_it_and_the_answer_goes_on(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.default = [*say.answer("It goes on."), say.wait("end"), *say.answer(" And ends."), *say.end()]
    me = visit(scripted_page)
    me.ask("Go on!")
    expect(me.page.locator("#chat [role=log]")).to_contain_text("It goes on.")
    button = me.page.get_by_role("button", name=EN.choices.open, exact=True)
    button.focus()
    me.page.keyboard.press("Enter")
    dialog = me.page.get_by_role("dialog", name=EN.choices.open)
    expect(dialog).to_be_visible()
    me.page.keyboard.press("Tab")
    expect(dialog.get_by_role("button", name=EN.choices.close)).to_be_focused()
    for name in ("system", "temperature", "top_p", "thinking", "thinking_budget", "max_tokens"):
        me.page.keyboard.press("Tab")
        expect(field(me, name)).to_be_focused()
    me.page.keyboard.type("77")
    me.page.keyboard.press("Escape")  # and what was typed holds
    expect(dialog).to_be_hidden()
    changed = me.page.get_by_role("button", name=EN.choices.changed.format(count=1))
    expect(changed).to_be_focused()
    expect(me.page.locator("#stop")).to_be_visible()  # the answer was not stopped
    fake.open("end")
    me.answered()
    expect(me.page.locator("#chat [role=log]")).to_contain_text("And ends.")
    assert chosen(asked(me, fake, "and now")) == {"max_completion_tokens": 77}


def test_the_dialog_follows_the_model_and_the_language(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    fake.status = say.LOADING
    me = visit(scripted_page)
    me.page.evaluate("localStorage.setItem(cloisterKey('choices'), '{\"adapter\": \"poet\"}')")
    me.open()
    dialog = opened(me)
    expect(field(me, "temperature")).to_have_attribute("placeholder", EN.choices.own_unknown)
    expect(field(me, "adapter")).to_have_count(0)
    me.page.keyboard.press("Escape")
    assert me.page.evaluate(KEPT) == {"adapter": "poet"}, "the model may still come with it"
    fake.status = say.rich()
    expect(me.page.locator("#facts .model")).to_contain_text("DeepSeek")
    opened(me)
    expect(field(me, "temperature")).to_have_attribute("placeholder", "0.6")
    expect(field(me, "adapter")).to_have_value("poet")
    me.page.keyboard.press("Escape")
    fake.status = say.READY  # another model, without it
    expect(me.page.locator("#facts .model")).to_contain_text("Demo")
    opened(me)
    expect(field(me, "adapter")).to_have_count(0)
    assert me.page.evaluate(KEPT) is None
    field(me, "system").fill("Kept in both languages.")
    me.page.keyboard.press("Escape")
    me.page.click("#switch")
    button = me.page.locator("#choices-button button")
    expect(button).to_have_attribute("aria-label", ZH.choices.changed.format(count=1))
    expect(button).to_have_attribute("data-count", "1")
    opened(me)
    expect(dialog.locator("h2")).to_have_text(ZH.choices.open)
    expect(field(me, "system")).to_have_value("Kept in both languages.")


def test_the_dialog_does_not_come_with_every_look_at_the_model(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    me.page.evaluate(
        """() => {
            came = [];
            const ask = window.fetch;
            window.fetch = async (...request) => {
                const answer = await ask(...request);
                answer.clone().text().then(text => came.push(text));
                return answer;
            };
        }"""
    )
    me.page.wait_for_function("came.filter(text => text.includes('Cloister Demo')).length >= 3")  # ticks
    assert not any("choices-title" in text for text in me.page.evaluate("came"))
    opened(me)
    me.page.wait_for_function("came.some(text => text.includes('choices-title'))")


def test_another_tab_follows(fake: FakeApi, scripted_page: str, visit: Visitors) -> None:
    me = visit(scripted_page)
    other = Visitor(me.page.context.new_page(), me.url)
    other.open()
    opened(me)
    choose(me, temperature="0.1")
    expect(other.page.locator("#choices-button button")).to_have_attribute("data-count", "1")
    assert chosen(asked(other, fake, "q")) == {"temperature": 0.1}


@pytest.fixture(scope="module")
def closed_page(_fake: FakeApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page that anna and ben may see."""
    home = tmp_path_factory.mktemp("closed")
    (home / "passwords").write_text("".join(f"{name} {digest(name + '-secret').hex()}\n" for name in ("anna", "ben")))
    process, url = serve_page(_fake.url, home, UI__PASSWORD=home / "passwords")
    yield url
    process.terminate()
    process.wait(20)


def test_two_persons_in_one_browser_do_not_share_them(fake: FakeApi, closed_page: str, browser: Any) -> None:
    context = browser.new_context(locale="en-US", viewport={"width": 360, "height": 640})
    me = Visitor(context.new_page(), closed_page)

    def enter(name: str) -> None:
        me.page.goto(closed_page)
        me.page.get_by_label(EN.access.name, exact=True).fill(name)
        me.page.get_by_label(EN.access.password, exact=True).fill(f"{name}-secret")
        me.page.get_by_role("button", name=EN.access.enter).click()
        me.page.locator("#hello h1").wait_for()

    def leave() -> None:
        me.page.click("#leave button")
        me.page.get_by_label(EN.access.name, exact=True).wait_for()

    enter("anna")
    opened(me)
    choose(me, system="Anna's own.", temperature="0.2")
    me.ask("q")  # and all buttons of the header are there
    me.answered()
    assert overlapping(me) == []
    leave()
    enter("ben")
    expect(me.page.locator("#choices-button button")).to_have_attribute("aria-label", EN.choices.open)
    opened(me)
    expect(field(me, "system")).to_have_value("")
    choose(me, top_p="0.7")
    assert chosen(asked(me, fake, "ben's")) == {"top_p": 0.7}
    assert "Anna" not in str(fake.asked[-1])
    leave()
    enter("anna")
    opened(me)
    expect(field(me, "system")).to_have_value("Anna's own.")
    expect(field(me, "top_p")).to_have_value("")
    context.close()


def overlapping(me: Visitor) -> list[str]:
    """What of header and composer lies over another one, or beyond the window."""
    found: list[str] = me.page.evaluate(
        """() => {
            const chosen = '#header button, #title .name > svg, #title .name > span, #composer button, #composer textarea';
            const parts = [...document.querySelectorAll(chosen)].filter(part => part.checkVisibility() && !part.closest('dialog'));
            const boxes = parts.map(part => part.getBoundingClientRect());
            const name = place => parts[place].id || parts[place].getAttribute('aria-label') || parts[place].textContent || 'the sign';
            const common = (a, b) => Math.min(
                Math.min(a.right, b.right) - Math.max(a.left, b.left),
                Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
            const wrong = [];
            boxes.forEach((a, place) => {
                if (a.left < 0 || a.right > innerWidth || a.bottom > innerHeight) wrong.push(`${name(place)} is outside`);
                boxes.slice(place + 1).forEach((b, next) => {
                    if (common(a, b) > 0.5) wrong.push(`${name(place)} over ${name(place + 1 + next)}`);
                });
            });
            return wrong;
        }"""
    )
    return found


@pytest.mark.parametrize("dark", [False, True])
@LANGUAGES
def test_on_a_phone_nothing_overlaps_and_targets_are_large(
    fake: FakeApi, scripted_page: str, visit: Visitors, language: Language, locale: str, dark: bool
) -> None:
    fake.status = say.rich()
    me = visit(scripted_page, language=locale, width=360, height=640, dark=dark, touch=True)
    assert overlapping(me) == []
    opened(me)
    field(me, "top_p").fill("7")
    field(me, "top_p").blur()
    assert me.sideways() == 0
    assert me.page.evaluate("(d => d.scrollWidth - d.clientWidth)(document.getElementById('choices'))") == 0
    for target in me.page.locator("#choices :is(button, input, select, textarea)").all():
        box = target.bounding_box()
        assert box and box["height"] >= 40
    choose(me, temperature="0.1")
    me.ask("a question")
    me.answered()
    assert overlapping(me) == [] and me.sideways() == 0


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("dark", [False, True])
@LANGUAGES
def test_axe_finds_nothing_serious(
    fake: FakeApi, scripted_page: str, visit: Visitors, language: Language, locale: str, dark: bool, width: int
) -> None:
    fake.status = say.rich()
    me = visit(scripted_page, language=locale, dark=dark, width=width, touch=width < 600)
    dialog = opened(me)
    field(me, "temperature").fill("hot")
    field(me, "temperature").blur()
    field(me, "thinking").select_option("false")
    expect(me.page.locator("#choices-temperature-wrong")).not_to_be_empty()
    dialog.locator(".reset").click()
    expect(dialog.get_by_role("status")).not_to_be_empty()
    field(me, "top_p").fill("7")
    field(me, "top_p").blur()
    me.page.wait_for_timeout(300)  # what fades is there
    found = Axe().run(me.page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
