"""A model's Markdown made ready for Gradio's renderer, so that the page shows what the model meant, also in mid-word.

Only inserts characters that no font shows; assets/copy.js takes them out again, so that a copy is what the model wrote.
While a text grows, its end is left out or closed where it may yet become something else. Knows nothing of conversations.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# A mark parts two characters that would mean something together. The others stand around a formula whose own delimiters
# are none, or single dollars. They are Unicode's invisible operators, which models do not write.
MARK, OPEN, CLOSE = "\u2063", "\u2062", "\u2064"

DELIMITERS: list[dict[str, str | bool]] = [
    {"left": f"{OPEN}$", "right": f"${CLOSE}", "display": False},
    {"left": OPEN, "right": CLOSE, "display": False},
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
_RIGHT = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}

_FENCE = re.compile(r"(?:(?<=\n)|\A)[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(`{3,}(?=[^`\n]*(?:\n|\Z))|~{3,})")
_TOKEN = re.compile(
    rf"""(?P<fence>{_FENCE.pattern})
    | (?P<block>\n[ \t]*(?=\n|[-*+>|][ \t]|\d{{1,9}}[.)][ \t]|\#{{1,6}}[ \t]))  # a bold passage does not reach beyond
    | (?P<formula>\$\$|\\\[|\\\()
    | (?P<box>\\boxed\{{)
    | (?P<escape>\\[!-/:-@\[-`{{-~])
    | (?P<ticks>`+)
    | (?P<dollar>\$)
    | (?P<strong>\*\*+)""",
    re.VERBOSE,
)
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|!(?=\[)")
_GAP = re.compile(r"\n[ \t]*\n")
# $x$, but not $5, $HOME or 5$: no space inside, no digit behind, and something that neither prices nor variables have.
_DOLLARS = re.compile(r"\$(?![\s$])([^$\n]*[^$\s\\])\$(?![\d$])")
_MATHEMATICAL = re.compile(r"[\\^_={}<>+]|^[A-Za-z]$|^-?\d+(?:\.\d+)?$|^[a-z]\(")

# The end of a growing text that may yet become something else: an underline, a list, a fence; a table whose second line is
# not whole; a delimiter. It is shown once that is clear, so that nothing flashes up as what it is not.
_UNSURE = re.compile(
    r"""(?:\A|(?<=\n))[ \t]*(?:[-=_\#>~`|+]+|\*|\d{1,3}[.)])[ \t]*\Z
    | (?:\A|(?<=\n\n))[ \t]*\|[^\n]*(?:\n[ \t|:-]*)?\Z
    | (?<!\\)\\(?:b(?:o(?:x(?:ed?)?)?)?)?\Z | (?<!\$)\$\Z | \*+\Z | `+\Z | <\Z | !\Z""",
    re.VERBOSE,
)
_HALF_FENCE = re.compile(r"\n[ \t]*(?:`+|~+)\Z")


def prepared(text: str, *, growing: bool = False) -> str:
    """The text for the renderer. Growing: more of it is to come."""
    # A tag and a picture are none, wherever they stand: what is code and what a formula is not always told as Gradio does.
    text = _MARKUP.sub(rf"\g<0>{MARK}", _settled(text) if growing else text)
    return "".join(_pieces(text, growing))


def original(shown: str) -> str:
    """The model's own text, from a prepared one that grows no more."""
    return re.sub(f"[{MARK}{OPEN}{CLOSE}]", "", shown)


def _pieces(text: str, growing: bool) -> Iterator[str]:
    """The text piece by piece, with what is inserted."""
    at, strong = 0, ""  # how far it is done; the stars of a bold passage that is open
    while token := _TOKEN.search(text, at):
        start, found = token.start(), token[0]
        yield text[at:start]
        at = token.end()
        match token.lastgroup:
            case "fence":
                at = _end_of_fence(text, token)
                yield _code(text[start:at])
                strong = ""
            case "block":
                yield found
                strong = ""
            case "formula" | "box":
                end = _end_of_box(text, at) if found == "\\boxed{" else text.find(_RIGHT[found], at) + 2
                if end > at and "\n```" in text[at:end]:
                    yield _apart(found)  # two that have nothing to do with each other, and code between them
                elif end > at:
                    at = end
                    yield f"{OPEN}{text[start:at]}{CLOSE}" if found == "\\boxed{" else text[start:at]
                elif growing and not _GAP.search(text, at):
                    at = len(text)
                    yield "…"
                else:
                    yield found
            case "dollar":
                formula = _DOLLARS.match(text, start)
                if formula and _MATHEMATICAL.search(formula[1]):
                    at = formula.end()
                    yield f"{OPEN}{formula[0]}{CLOSE}"
                else:
                    yield found
            case "ticks":
                end = _end_of_ticks(text, at, found)
                if end:
                    at = end
                    yield _apart(text[start:at])
                elif growing and not _GAP.search(text, at):
                    at = len(text)
                    yield _apart(text[start:]) + found
                else:
                    yield found
            case "strong":
                before, after = text[start - 1 : start] or " ", text[at : at + 1] or " "
                if strong and not before.isspace():
                    yield MARK + found if _punctuation(before) and not _edge(after) else found
                    strong = ""
                elif not strong and not after.isspace():
                    yield found + MARK if _punctuation(after) and not _edge(before) else found
                    strong = found
                else:
                    yield found
            case _:
                yield found
    yield text[at:].rstrip(" ") + strong if growing and strong else text[at:]


def _settled(text: str) -> str:
    """A growing text without the end that may yet become something else."""
    if _in_fence(text):
        return _HALF_FENCE.sub("", text)
    while (shorter := _UNSURE.sub("", text)) != text:
        text = shorter
    return text


def _in_fence(text: str) -> bool:
    at = 0
    while fence := _FENCE.search(text, at):
        at = _end_of_fence(text, fence)
        if at == len(text) and not re.search(r"\n[ \t]*(?:`{3,}|~{3,})[ \t]*\Z", text[fence.end() :]):
            return True
    return False


def _end_of_fence(text: str, fence: re.Match[str]) -> int:
    bars = fence[0].strip().split()[-1]
    end = re.compile(rf"\n[ \t]*{bars[0]}{{{len(bars)},}}[ \t]*(?=\n|\Z)").search(text, fence.end())
    return end.end() if end else len(text)


def _end_of_box(text: str, at: int) -> int:
    """Where the braces that are open at `at` are closed; 0 when they are not."""
    depth = 1
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, at):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return brace.end()
    return 0


def _end_of_ticks(text: str, at: int, ticks: str) -> int:
    """Where code that these ticks begin ends, in the same paragraph; 0 when it does not."""
    gap = _GAP.search(text, at)
    end = re.compile(rf"(?<!`){ticks}(?!`)").search(text, at, gap.start() if gap else len(text))
    return end.end() if end else 0


def _code(fence: str) -> str:
    """A block of code; its tabs stay tabs. A diagram stays code too: drawing it means running what the model wrote."""
    fence = re.sub(r"(?m)^( *)(?=\t)", rf"\1{MARK}", fence)
    return re.sub(r"\A(\s*\S*?[`~]{3,}\s*)(?=mermaid)", rf"\1{MARK}", _apart(fence))


def _apart(code: str) -> str:
    """Gradio looks for formulas before it looks for code."""
    return re.sub(r"\$(?=\$)|\\(?=[\[(])", lambda found: found[0] + MARK, code)


def _punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def _edge(character: str) -> bool:
    return character.isspace() or _punctuation(character)
