"""axe-core looks at the page in its states: nothing serious or critical, contrast AA included, in both languages and lights."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.ui import fake as say
from tests.ui.conftest import Visitor, Visitors
from tests.ui.fake import FakeApi

ANSWER = (
    "# So\n\n**Bold** and [there](https://example.org), `code`:\n\n"
    "```python\ndef f(n: int) -> str:  # a comment\n    return 'x' * n + 1.5\n```\n\n"
    "\\[ "
    + "a + " * 60
    + "b \\]\n\n| "
    + " | ".join(f"column {i}" for i in range(12))
    + " |\n"
    + "|---" * 12
    + "|\n\n> quoted\n\nSo \\boxed{23}."
)


def violations(me: Visitor) -> list[str]:
    """What axe finds that is serious or critical, in a line each."""
    me.page.wait_for_timeout(300)  # what fades is there
    found = Axe().run(me.page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]} {node['any'][0]['message'] if node['any'] else ''}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_nothing_serious_in_any_state(fake: FakeApi, scripted_page: str, visit: Visitors, language: str, dark: bool, width: int) -> None:
    fake.status = {**say.READY, "notice": "the hub is away"}
    me = visit(scripted_page, language=language, dark=dark, width=width, touch=width < 600)
    found = {"empty": violations(me)}
    fake.status = say.preparing("fetch", 1_200_000_000, 3_554_000_000, rate=12.3e6, seconds_left=190.0)
    expect(me.page.locator(".card")).to_be_visible()
    found["preparing"] = violations(me)
    fake.status = say.READY
    expect(me.page.locator("#examples")).to_be_visible()
    fake.default = [*say.thought("Hm. **Well.**"), say.wait("on"), *say.answer(ANSWER), *say.end()]
    me.ask("Show!")
    expect(me.page.locator("#chat .thought-group .content")).to_be_visible()
    found["thinking"] = violations(me)
    fake.open("on")
    me.answered()
    me.page.locator("#chat .thought-group .title").click()
    found["answered"] = violations(me)
    fake.default = [*say.answer("Half"), say.error("engine_failed", "the reason")]
    me.ask("And?")
    expect(me.page.locator(".note.trouble")).to_be_visible()
    found["failed"] = violations(me)
    me.page.click("#shelf")
    expect(me.page.locator("#library [aria-current]")).to_be_visible()
    me.page.locator("#library summary").click()
    found["conversations"] = violations(me)
    assert [f"{state}: {line}" for state, lines in found.items() for line in lines] == []
