"""The login: a page of plain HTML that needs no JavaScript, and what its form says. Knows no passwords and no sessions."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from string import Template
from urllib.parse import parse_qs

from services.ui.texts import WORDS, Language, preferred

LONGEST = 4096  # bytes of the form

_PAGE = Template("""<!doctype html>
<html lang="$tag">
<head>
<meta charset="utf-8">
<title>$title · Cloister</title>
<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="./look/login.css">
<link rel="icon" type="image/svg+xml" href="./look/icon.svg">
</head>
<body>
<header><a href="./login?language=$other" lang="$other_tag" hreflang="$other_tag">$other_name</a></header>
<main>
<h1>
<svg viewBox="0 0 32 24" aria-hidden="true"><path d="M1 23V11a7 7 0 0 1 14 0v12M17 23V11a7 7 0 0 1 14 0v12M0 23h32"/></svg>
Cloister
</h1>
<p class="lead">$lead</p>
$said
<form method="post" action="./login">
<input type="hidden" name="language" value="$language">
$name
<label for="password">$password</label>
<input id="password" name="password" type="password" required maxlength="200" autocomplete="current-password" $about>
<button type="submit">$enter</button>
</form>
<p class="help">$help</p>
</main>
</body>
</html>
""")
_NAME = Template("""<label for="name">$name</label>
<input id="name" name="name" required maxlength="200" autocomplete="username" autocapitalize="none" spellcheck="false" $about>""")
_SAID = Template('<p id="said" class="$kind" role="$role">$said</p>')


@dataclass(frozen=True)
class Form:
    """What was typed, and in which language the form was."""

    name: str
    password: str
    language: str


def read(body: bytes) -> Form:
    """The fields of a form; what is missing is empty."""
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    name, password, language = (fields.get(field, [""])[0].strip() for field in ("name", "password", "language"))
    return Form(name, password, language)


def language(chosen: str, accept_language: str) -> Language:
    """The one chosen with the switch, else what the browser asks for."""
    return chosen if chosen in WORDS else preferred(accept_language)


def page(language: Language, *, names: bool, said: str = "", good: bool = False) -> str:
    """The whole page.

    Args:
        names: people have passwords of their own, so a name is asked for.
        said: what has happened, in this language; `good`: and that nothing is wrong about it.
    """
    all_words = WORDS[language]
    words, other = all_words.access, WORDS["en" if language == "zh" else "zh"]
    kind, role = ("good", "status") if good else ("wrong", "alert")
    about = 'aria-describedby="said"' if said and not good else ""
    return _PAGE.substitute(
        tag=all_words.tag,
        title=words.title,
        other="en" if language == "zh" else "zh",
        other_tag=other.tag,
        other_name=all_words.other,
        lead=words.lead,
        said=_SAID.substitute(kind=kind, role=role, said=escape(said)) if said else "",
        language=language,
        name=_NAME.substitute(name=words.name, about=about) if names else "",
        password=words.password,
        about=about,
        enter=words.enter,
        help=words.help,
    )
