"""A model's Markdown on its way to the renderer: what is inserted, what waits while it grows, and that a copy has none of it."""

from __future__ import annotations

import random
import time

import pytest

from services.ui.markdown import CLOSE, MARK, OPEN, original, prepared

VISIBLE = {MARK: "¦", OPEN: "«", CLOSE: "»"}


def marked(text: str, *, growing: bool = False) -> str:
    """Prepared, with what is invisible made visible."""
    return "".join(VISIBLE.get(letter, letter) for letter in prepared(text, growing=growing))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"so \boxed{23}.", r"so «\boxed{23}»."),
        (r"**\boxed{\frac{6}{11}}**", r"**«\boxed{\frac{6}{11}}»**"),
        (r"\boxed{\boxed{\frac{\sqrt{a^{2}}}{b}}}", r"«\boxed{\boxed{\frac{\sqrt{a^{2}}}{b}}}»"),
        (r"\boxed{\{1, 2\}}", r"«\boxed{\{1, 2\}}»"),
        (r"\[ \boxed{23} \]", r"\[ \boxed{23} \]"),
        (r"$$\boxed{1}$$ and \(\boxed{2}\)", r"$$\boxed{1}$$ and \(\boxed{2}\)"),
        (r"$\boxed{5}$", r"«$\boxed{5}$»"),
        ("`\\boxed{1}` and\n```tex\n\\boxed{2}\n```", "`\\boxed{1}` and\n```tex\n\\boxed{2}\n```"),
        (r"open \boxed{2", r"open \boxed{2"),
        (r"open \( x", r"open \( x"),
    ],
)
def test_a_formula_without_delimiters_gets_them(text: str, shown: str) -> None:
    assert marked(text) == shown


@pytest.mark.parametrize(
    "text", ["costs $5 and $10", "$HOME/$PATH and $USER", "US$5 or HK$ 3", "from $5-$10", "a lone $", "$ x $", "5$ and 6$"]
)
def test_money_and_names_of_variables_are_no_formulas(text: str) -> None:
    assert prepared(text) == text


@pytest.mark.parametrize("formula", ["$x$", "$x^2$", "$a_1 = 3$", r"$\frac{1}{2}$", "$23$", "$f(x)$"])
def test_single_dollars_around_mathematics_are_a_formula(formula: str) -> None:
    assert marked(f"so {formula}, is it?") == f"so «{formula}», is it?"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("**鸡：**答", "**鸡：¦**答"),
        ("是**“引用”**的", "是**¦“引用”¦**的"),
        ("是**`x`**的", "是**¦`x`¦**的"),
        ("答案**\\(x\\)**是", "答案**¦\\(x\\)¦**是"),
        ("答案是**23**只", "答案是**23**只"),
        ("**Note:** text", "**Note:** text"),
        ("2 ** 3 ** 4", "2 ** 3 ** 4"),
        ("**open\n\n（**x**）", "**open\n\n（**x**）"),
        ("`**“x”**y`", "`**“x”**y`"),
    ],
)
def test_bold_beside_punctuation_is_bold(text: str, shown: str) -> None:
    assert marked(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a <div> </b> <!-- c -->", "a <¦div> <¦/b> <¦!-- c -->"),
        ("1 < 2, a<3", "1 < 2, a<3"),
        ("![x](y)", "!¦[x](y)"),
        ("```html\n<b>\n```\n<b>", "```html\n<¦b>\n```\n<¦b>"),
        ("`<b>` <b>", "`<¦b>` <¦b>"),
        (r"\( a<b \)", r"\( a<¦b \)"),
        ("```mermaid\ngraph TD\n```", "```¦mermaid\ngraph TD\n```"),
        ("```go\n\tx\n  \ty\n```", "```go\n¦\tx\n  ¦\ty\n```"),
        ("$$ and\n\n```sh\nls\n```\n\n$$", "$¦$ and\n\n```sh\nls\n```\n\n$$"),
        ("```sh\necho $$ \\( x\n```", "```sh\necho $¦$ \\¦( x\n```"),
    ],
)
def test_tags_pictures_and_diagrams_stay_text(text: str, shown: str) -> None:
    assert marked(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("text\n-", "text\n"),  # else the text would be a heading for a moment
        ("a **bo", "a **bo**"),
        ("a **", "a "),
        ("a `co", "a `co`"),
        ("**a `b", "**a `b`**"),
        (r"so \[ x +", "so …"),
        ("so \\(", "so …"),
        (r"so \bo", "so "),
        (r"so \boxed{2", "so …"),
        (r"so \[ x" + "\n\nmore", r"so \[ x" + "\n\nmore"),  # no formula after all
        ("| a | b |", ""),
        ("| a | b |\n|--", ""),
        ("| a | b |\n|---|---|\n| 1", "| a | b |\n|---|---|\n| 1"),
        ("```py\nx = 1\n``", "```py\nx = 1"),
        ("```py\nx = $1", "```py\nx = $1"),
        ("x\n``", "x\n"),
        ("- one\n- **", "- one\n"),
        ("42", "42"),
        ("1.", ""),
        ("Wow!", "Wow"),
    ],
)
def test_the_end_of_a_growing_text_shows_once_it_is_clear_what_it_is(text: str, shown: str) -> None:
    assert marked(text, growing=True).rstrip("\n") == shown.rstrip("\n")


PIECES = [
    "**",
    "`",
    "``",
    "```",
    "\n",
    "\n\n",
    "~~~",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "$",
    "$$",
    "\\boxed{",
    "}",
    "{",
    "<b>",
    "![x](y)",
    "- ",
    "> ",
]
PIECES += ["：", "“", "”", "字", "word", " ", "|", "|---|", "1. ", "\\", "x^2", "mermaid", "!", "#"]


def test_a_copy_is_what_the_model_wrote() -> None:
    draw = random.Random(6)
    for _ in range(3000):
        text = "".join(draw.choices(PIECES, k=draw.randint(1, 30)))
        assert original(prepared(text)) == text
        prepared(text, growing=True)


def test_a_long_text_takes_little_time() -> None:
    for text in (
        "**鸡：**答 `x` \\(y\\) " * 2000,
        "`" * 1 + "`` ` " * 5000,
        "\\boxed{" * 1000,
        "$" * 5000,
        "<b" * 10000,
        "\\(" * 3000,
        "| " * 5000,
    ):
        assert _seconds(text) < 2


def _seconds(text: str) -> float:
    began = time.process_time()
    prepared(text)
    prepared(text, growing=True)
    return time.process_time() - began
