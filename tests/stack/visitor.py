"""`python -m tests.stack.visitor PROFILE PASSWORD QUESTION`: somebody whose browser keeps its conversations from visit to visit.

Runs in the namespace that it is started in, against the page on 127.0.0.1:7860. Prints the text of the conversation that the list of
conversations has for the question; on the first visit, when there is none, the question is asked.
"""

from __future__ import annotations

import sys

from playwright.sync_api import expect, sync_playwright

from services.ui.texts import EN
from tests.ui.conftest import CHROMIUM, FLAGS, PATIENCE, Visitor

ADDRESS = "http://127.0.0.1:7860"


def main(profile: str, password: str, question: str) -> None:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(profile, executable_path=CHROMIUM, args=list(FLAGS), locale="en-US")
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(ADDRESS)
        page.locator("#question textarea, input[type=password]").first.wait_for()
        if page.locator("input[type=password]").count():
            page.get_by_label(EN.access.password, exact=True).fill(password)
            page.get_by_role("button", name=EN.access.enter).click()
            page.wait_for_selector("#send")
        visitor = Visitor(page, ADDRESS)
        visitor.open()
        while not page.locator("#library").is_visible():  # a click is lost before the page's own script has come
            page.click("#shelf")
            page.wait_for_timeout(500)
        page.locator("#library li").first.wait_for()  # there is one where nothing is kept, too
        kept = page.locator("#library li .open span")
        if kept.count():
            kept.first.click()
            print("kept")
        else:
            page.keyboard.press("Escape")
            visitor.ask(question)
            visitor.answered()
            print("asked")
        expect(page.locator("#chat .user-row").last).to_contain_text(question)
        print(page.locator("#chat [role=log]").inner_text())
        context.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
