"""What the page costs: the time until it is painted and can be typed into, what it adds to a token, and how long a key takes while
an answer grows. Over the scripted API and a real Chromium, each time with a new profile.

`python -m tests.ui.delay` prints the table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.ui import fake as say
from tests.ui.conftest import CHROMIUM, FLAGS, PATIENCE, serve_page
from tests.ui.fake import FakeApi, Step

TOKENS = 250
RATE = 30  # tokens a second, about what the default model makes here
KEYS = 60
KEY = 100  # milliseconds between two keys

ANSWER = """The sum of the first {number} odd numbers is a square:

1. Write \\( 1 + 3 + \\dots + (2n - 1) \\).
2. Each step adds a **frame** to the square.

```python
def odd(n: int) -> int:
    return sum(2 * i + 1 for i in range(n))
```

So the answer is \\boxed{{{square}}}."""

# In the page, from its first moment on: when the question can be typed, and when all that was kept stands there.
OPENED = """(turns) => {
    if (turns.length && !sessionStorage.getItem('cloister-open')) sessionStorage.setItem('cloister-conversation', JSON.stringify(turns));
    window.opened = {};
    const look = new MutationObserver(() => {
        const box = document.querySelector('#question textarea');
        if (box?.offsetHeight && !box.disabled) opened.usable ??= performance.now();
        if (document.querySelectorAll('#chat .bot-row .prose').length >= 2 * turns.length) opened.shown ??= performance.now();
        if (opened.usable && opened.shown) look.disconnect();
    });
    look.observe(document, {childList: true, subtree: true, attributes: true});
}"""

# When each token stood in the page, in seconds since 1970.
SEEN = """() => {
    window.seen = [];
    new MutationObserver(() => {
        const text = [...document.querySelectorAll('#chat .bot-row .prose')].at(-1)?.textContent.slice(-2000) ?? '';
        for (const [, number] of text.matchAll(/\\bt(\\d+)\\b/g)) seen[number] ??= (performance.timeOrigin + performance.now()) / 1000;
    }).observe(document.querySelector('#stage'), {childList: true, subtree: true, characterData: true});
}"""

# From a key to the first frame after its letter stands in the box, in milliseconds.
KEYS_TOOK = """() => {
    window.took = [];
    const box = document.querySelector('#question textarea');
    let pressed = 0;
    box.addEventListener('keydown', (event) => { pressed = event.timeStamp; });
    box.addEventListener('input', () => {
        const began = pressed, { port1, port2 } = new MessageChannel();
        port1.onmessage = () => took.push(performance.now() - began);
        requestAnimationFrame(() => port2.postMessage(0));
    });
}"""


@dataclass
class Figures:
    """Of several visits. `painted`, `usable`, `shown`: milliseconds of each after it was asked for; `added`: milliseconds between the
    API's sending a token and its standing in the page; `keys`: milliseconds from a key to its letter on the screen."""

    painted: list[float] = field(default_factory=list)
    usable: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    added: list[float] = field(default_factory=list)
    keys: list[float] = field(default_factory=list)


def late(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def kept(count: int) -> list[dict[str, Any]]:
    """So many finished turns, each with a thought and an answer of some 400 letters."""
    return [
        {
            "question": f"What is the sum of the first {number} odd numbers?",
            "thought": "Let me add the first few of them and look for a pattern. " * 6,
            "answer": ANSWER.format(number=number, square=number * number),
            "stage": "done",
            "seconds": 12.0,
            "speed": 21.5,
        }
        for number in range(1, count + 1)
    ]


def opened(turns: int) -> str:
    """The script that opens a page with so many turns, and notes when they are there."""
    return f"({OPENED})({json.dumps(kept(turns))})"


def visit(browser: Browser, api: FakeApi, page_url: str, turns: int, figures: Figures) -> None:
    """Open the page with a conversation of so many turns, ask, and type while the answer grows."""
    sent: list[float] = []
    api.default = _counted(sent)
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 800})
    with contextlib.closing(context):
        context.set_default_timeout(PATIENCE)
        context.add_init_script(opened(turns))
        page = context.new_page()
        page.goto(page_url)
        page.wait_for_function("opened.usable && opened.shown")
        figures.painted.append(_painted(page))
        figures.usable.append(page.evaluate("opened.usable"))
        figures.shown.append(page.evaluate("opened.shown"))
        page.wait_for_selector("#send", state="visible")
        page.evaluate(SEEN)
        page.evaluate(KEYS_TOOK)
        page.fill("#question textarea", "Count!")
        page.press("#question textarea", "Enter")
        page.wait_for_function("seen.length > 5")
        page.keyboard.type("a" * KEYS, delay=KEY)
        page.wait_for_function("wanted => seen.length === wanted", arg=TOKENS)
        page.wait_for_function("wanted => took.length >= wanted", arg=KEYS)
        assert page.input_value("#question textarea") == "a" * KEYS
        figures.keys += page.evaluate("took")[-KEYS:]
        figures.added += [1000 * (there - gone) for gone, there in zip(sent, page.evaluate("seen"), strict=True)]


def _counted(sent: list[float]) -> list[Step]:
    """An answer of numbered tokens; when each of them goes is written down."""
    steps: list[Step] = []
    for number in range(TOKENS):
        steps += [say.pause(1 / RATE), lambda _: sent.append(time.time()), *say.answer(f"t{number} ")]
    return [*steps, *say.end()]


def _painted(page: Page) -> float:
    found: float = page.evaluate(
        """() => new Promise((found) => new PerformanceObserver((list) => {
            const entry = list.getEntriesByName('first-contentful-paint')[0];
            if (entry) found(entry.startTime);
        }).observe({type: 'paint', buffered: true}))"""
    )
    return found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


def table(found: dict[int, Figures]) -> str:
    """As Markdown; milliseconds."""
    rows = [
        f"| | {' | '.join('empty conversation' if not turns else f'{turns} turns' for turns in found)} |",
        "|---" * (len(found) + 1) + "|",
    ]
    for name, values in (
        ("first contentful paint, median of visits", [statistics.median(each.painted) for each in found.values()]),
        ("the question can be typed", [statistics.median(each.usable) for each in found.values()]),
        ("the conversation stands there", [statistics.median(each.shown) for each in found.values()]),
        ("added to a token, median", [statistics.median(each.added) for each in found.values()]),
        ("added to a token, 95 of 100", [late(each.added) for each in found.values()]),
        ("a key while an answer grows, median", [statistics.median(each.keys) for each in found.values()]),
        ("a key while an answer grows, 95 of 100", [late(each.keys) for each in found.values()]),
    ):
        rows.append(f"| {name} | {' | '.join(f'{value:.0f} ms' for value in values)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="what the page costs, in milliseconds")
    parser.add_argument("--turns", type=int, nargs="+", default=[0, 40])
    parser.add_argument("--visits", type=int, default=5)
    given = parser.parse_args()
    api, found = FakeApi(), {turns: Figures() for turns in given.turns}
    with tempfile.TemporaryDirectory() as home, chromium() as browser:
        process, url = serve_page(api.url, Path(home))
        try:
            for _ in range(given.visits):
                for turns, figures in found.items():
                    visit(browser, api, url, turns, figures)
        finally:
            process.terminate()
            process.wait(20)
            api.close()
    print(table(found))


if __name__ == "__main__":
    main()
