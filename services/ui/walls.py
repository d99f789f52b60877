"""What the status panel says of isolation: the last attempt to break out and its time, and what two programs see for themselves.

Claims no more than was tried: what never ran never ran, and each result says what it does not show. How a way out is tried is
docker/attack.py's; where its result lies is services/shared/isolation.py's.
"""

from __future__ import annotations

import datetime
from html import escape

from services.shared import isolation
from services.ui.sheet import moment, note, section
from services.ui.texts import Words, spoken
from services.ui.told import Told

COMMAND = "scripts/verify-isolation"


def show(told: Told, words: Words) -> str:
    """The section."""
    w, seen = words.panel, told.at("isolation")
    check = seen.at("checked")
    verdict, alarm = _verdict(check, words)
    bare = bool(seen.at("contained")) and not seen.yes("contained")
    how = f"<p>{escape(w.check_how)} <code>{COMMAND}</code> {escape(w.check_bare if bare and not check else '')}</p>"
    tried = f"{verdict}{how}{note(w.check_limits) if check else ''}"
    return section("isolation", w.isolation, [], _item(w.check, tried, alarm=alarm), _live(seen, words))


def _verdict(check: Told, words: Words) -> tuple[str, bool]:
    """What the last check found, and whether that is alarming."""
    w = words.panel
    if not check:
        return f"<p>{escape(w.check_never)}</p>", False
    ended = check.time("at")
    ago = w.ago.format(time=spoken(words, (datetime.datetime.now(datetime.UTC) - ended).total_seconds())) if ended else "–"
    said: list[str] = []
    closed: list[tuple[str, int, int]] = []
    opened, missed = list(closed), list(closed)
    for one in check.items("containers"):
        tried, shut = int(one.number("tried") or 0), int(one.number("closed") or 0)
        (missed if not tried else closed if shut == tried else opened).append((one.text("name"), tried, tried - shut))
    said += [w.check_open.format(ago=ago, names=name, open=ways, tried=tried) for name, tried, ways in opened]
    if closed:
        names = w.comma.join(name for name, _, _ in closed)
        said.append(w.check_closed.format(ago=ago, names=names, tried=sum(tried for _, tried, _ in closed)))
    if missed:
        said.append(w.check_missed.format(names=w.comma.join(name for name, _, _ in missed)))
    when = f" <small>{escape(moment(ended, w))}</small>" if ended else ""
    return "".join(f"<p>{escape(text)}</p>" for text in said) + when, bool(opened)


def _live(seen: Told, words: Words) -> str:
    """Whether the kernel knows a route to everywhere, as the API's process and this one see it."""
    w, here = words.panel, isolation.routes()
    there = tuple(item.text() for item in seen.items("routes")) if seen.at("routes") else None
    walled = [routes for routes, inside in ((here, isolation.contained()), (there, seen.yes("contained"))) if inside and routes]
    open_ = [routes for routes in (here, there) if routes]
    rows = "".join(
        f"<li>{escape(name)}{w.colon}{escape(_route(routes, words))}</li>" for name, routes in ((w.live_api, there), (w.live_page, here))
    )
    meaning = w.live_alarm if walled else w.live_bare if open_ else ""
    return _item(w.live, f"<ul>{rows}</ul>{f'<p>{escape(meaning)}</p>' if meaning else ''}{note(w.live_note)}", alarm=bool(walled))


def _route(routes: tuple[str, ...] | None, words: Words) -> str:
    w = words.panel
    if routes is None:
        return w.live_unknown
    return (
        w.live_some.format(kinds=", ".join({"ipv4": "IPv4", "ipv6": "IPv6"}.get(name, name) for name in routes)) if routes else w.live_none
    )


def _item(term: str, inside: str, *, alarm: bool) -> str:
    return f"<div><dt>{escape(term)}</dt><dd{' class=alarm' if alarm else ''}>{inside}</dd></div>"
