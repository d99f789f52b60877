"""`python3 manual.py README.md >README.html`: a Markdown file as one page that holds its pictures and loads nothing.

Owns the page's frame. Links to other files stay as they are: these lie beside the page in the bundle. Needs markdown-it-py.
"""

from __future__ import annotations

import base64
import html
import itertools
import mimetypes
import re
import sys
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

FRAME = """<!doctype html>
<html lang="{language}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }}
img {{ max-width: 100%; }}
pre, table {{ display: block; overflow-x: auto; }}
pre {{ padding: .75rem; border: 1px solid #8888; border-radius: .4rem; line-height: 1.4; }}
code {{ font: .9em ui-monospace, monospace; }}
table {{ border-collapse: collapse; }}
td, th {{ border: 1px solid #8888; padding: .3rem .6rem; text-align: left; vertical-align: top; }}
</style>
<main>
{body}</main>
</html>
"""


def page(file: Path) -> str:
    """The file as a page of its own."""
    text = file.read_text(encoding="utf-8")
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    title = file.stem
    for token, content in itertools.pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(content.content))
            title = content.content if token.tag == "h1" else title
    for token in _all(tokens):
        if token.type == "image" and "://" not in (source := str(token.attrs["src"])):
            token.attrSet("src", _inside(file.parent / source))
        elif token.type == "link_open" and (target := re.fullmatch(r"(README[\w.-]*)\.md", str(token.attrs["href"]))):
            token.attrSet("href", f"{target[1]}.html")
    body = markdown.renderer.render(tokens, markdown.options, {})
    language = "zh-CN" if ".zh-CN" in file.name else "en"
    return FRAME.format(language=language, title=html.escape(title), body=body)


def _all(tokens: list[Token]) -> list[Token]:
    return [token for outer in tokens for token in (outer, *_all(outer.children or []))]


def _anchor(heading: str) -> str:
    """As the hosts of repositories make it, so that links between the files hold."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _inside(picture: Path) -> str:
    kind = mimetypes.guess_type(picture.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"


if __name__ == "__main__":
    sys.stdout.buffer.write(page(Path(sys.argv[1])).encode())
