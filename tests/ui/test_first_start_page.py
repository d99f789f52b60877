"""The first start of the whole appliance where no hub answers, as somebody sees it who has the page open from the beginning."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from services.ui.texts import WORDS, ZH
from tests.conftest import ROOT, Cloister, environment, free_port
from tests.ui.conftest import Visitors

# Everything that the large account of the model's state has said, in order.
REMEMBER = """() => {
  window.said = [];
  new MutationObserver(() => {
    const text = document.getElementById('card')?.innerText.trim();
    if (text && text !== window.said.at(-1)) window.said.push(text);
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


def until_it_answers(url: str, starting: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert starting.poll() is None, "scripts/up has ended before the page answered"
        try:
            if httpx.get(url + "/livez", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail("the page does not answer while the model is being prepared")


def test_from_nothing_to_an_answer_without_a_hub(tmp_path: Path, visit: Visitors) -> None:
    page, api, hub = free_port(), free_port(), free_port()
    env = environment(tmp_path, UI__PORT=page, API__PORT=api, UI__API=f"http://127.0.0.1:{api}")
    env |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub}"}  # nobody listens there
    cloister = Cloister(f"http://127.0.0.1:{page}", f"http://127.0.0.1:{api}", tmp_path, env)
    command = [ROOT / "scripts/up", "--native", "--detach"]
    starting = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=(tmp_path / "up.log").open("w"), text=True)
    try:
        until_it_answers(cloister.page_url, starting)
        me = visit(cloister.page_url, language="zh-CN")
        me.page.evaluate(REMEMBER)
        expect(me.page.locator("#banner")).to_contain_text(ZH.demo_stands_in)
        expect(me.page.locator("#card section")).to_have_count(0)  # ready, by itself
        said = " ".join(me.page.evaluate("() => window.said"))
        assert ZH.preparing in said and any(step in said for step in WORDS["zh"].steps.values()), said
        assert starting.wait(300) == 0, (tmp_path / "up.log").read_text()
        me.page.locator("#examples button").first.click()
        me.page.locator("#chat .typed").wait_for()
        me.answered()
        shown = me.page.locator("#chat [role=log]").inner_text()
        assert "23" in shown and "12" in shown, shown
        assert me.complaints == []
        me.may_complain = True  # of the server that goes away now
    finally:
        starting.terminate()
        starting.wait(60)
        cloister.script("down")
