"""A plot of one or two figures over time as inline SVG, with its last values, a description, and a table of the same for who can't see it.

Owns scales, gaps and markup; all words are handed in. Knows nothing of what the figures mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 360, 124  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 46, 352, 8, 100
ROWS = 5  # of the table


@dataclass(frozen=True)
class Line:
    """One figure: its name, and its value at each time, None where there is none."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Plot:
    """`times` are seconds before now, the oldest first; `span` seconds are shown. `top`: the end of the scale, None for whatever holds
    all values. `label` makes a text of a value, `last` one of the lines' last values, with their units."""

    name: str
    title: str
    times: Sequence[float]
    lines: Sequence[Line]
    span: float
    label: Callable[[float], str]
    last: str
    top: float | None = None


@dataclass(frozen=True)
class Captions:
    """The words around every plot. `ago` takes {time}; `described` takes {title}, {time}, {last}, {low} and {high}; `age` makes a text
    of seconds."""

    now: str
    ago: str
    when: str
    table: str
    gaps: str
    nothing: str
    described: str
    age: Callable[[float], str]


def draw(plot: Plot, words: Captions) -> str:
    """The whole figure as HTML."""
    title, text = f"{plot.name}-title", f"{plot.name}-text"
    many = len(plot.lines) > 1
    key = "".join(f'<span class="key line{number}">{escape(line.name)}</span>' for number, line in enumerate(plot.lines)) if many else ""
    return (
        f'<figure class="plot" id="{plot.name}"><figcaption><b>{escape(plot.title)}</b><span class="last">{escape(plot.last)}</span>{key}'
        f'</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{title}" aria-describedby="{text}">'
        f'<title id="{title}">{escape(plot.title)}</title><desc id="{text}">{escape(_description(plot, words))}</desc>'
        f"{_drawing(plot, words)}</svg>{_table(plot, words)}</figure>"
    )


def ceiling(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 ... that is not less; at least 1."""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if step * factor >= value:
                return step * factor
        step *= 10


def _drawing(plot: Plot, words: Captions) -> str:
    top = plot.top or ceiling(max((value for line in plot.lines for value in line.values if value is not None), default=0.0))

    def x(age: float) -> float:
        return RIGHT - (RIGHT - LEFT) * min(max(age / plot.span, 0.0), 1.0)

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * min(max(value / top, 0.0), 1.0)

    parts = [f'<rect class="gap" x="{x(a):.1f}" y="{TOP}" width="{x(b) - x(a):.1f}" height="{BOTTOM - TOP}"/>' for a, b in _gaps(plot)]
    for value in (0.0, top / 2, top):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{RIGHT}"/>')
        parts.append(f'<text class="y" x="{LEFT - 6}" y="{y(value) + 4:.1f}">{escape(plot.label(value))}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">{escape(words.ago.format(time=words.age(plot.span)))}</text>')
    parts.append(f'<text class="end" x="{RIGHT}" y="{HEIGHT - 6}">{escape(words.now)}</text>')
    for number, line in enumerate(plot.lines):
        pieces = [[(x(age), y(value)) for age, value in piece] for piece in _pieces(plot.times, line.values)]
        if number == 0:
            parts += [f'<path class="under" d="{_path(piece)}V{BOTTOM}H{piece[0][0]:.1f}Z"/>' for piece in pieces]
        parts.append(f'<path class="line{number}" d="{"".join(map(_path, pieces))}"/>')
    return "".join(parts)


def _path(points: Sequence[tuple[float, float]]) -> str:
    """A line through the points; a single one is a dot. What lies between two equal ones is left out."""
    kept = [
        point
        for place, point in enumerate(points)
        if not 0 < place < len(points) - 1 or not points[place - 1][1] == point[1] == points[place + 1][1]
    ]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in kept) + ("h0" if len(kept) == 1 else "")


def _pieces(times: Sequence[float], values: Sequence[float | None]) -> list[list[tuple[float, float]]]:
    """The runs of values without a gap between them."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for age, value in zip(times, values, strict=True):
        if value is not None:
            pieces[-1].append((age, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _gaps(plot: Plot) -> list[tuple[float, float]]:
    """Where no line has a value: from the last age before to the first age after."""
    gaps: list[tuple[float, float]] = []
    known = began = None
    for place, age in enumerate(plot.times):
        if any(line.values[place] is not None for line in plot.lines):
            if began is not None:
                gaps.append((began, age))
            known, began = age, None
        elif began is None:
            began = age if known is None else known
    return gaps if began is None else [*gaps, (began, plot.times[-1])]


def _description(plot: Plot, words: Captions) -> str:
    values = [value for line in plot.lines for value in line.values if value is not None]
    if not values:
        return words.nothing
    said = words.described.format(
        title=plot.title,
        time=words.age(min(plot.span, plot.times[0])),
        last=plot.last,
        low=plot.label(min(values)),
        high=plot.label(max(values)),
    )
    return f"{said} {words.gaps}" if _gaps(plot) else said


def _table(plot: Plot, words: Captions) -> str:
    """The least and the most of each line in a few stretches of time, the latest first."""
    head = "".join(f'<th scope="col">{escape(line.name)}</th>' for line in plot.lines)
    rows = []
    for number in range(ROWS):
        low, high = plot.span * number / ROWS, plot.span * (number + 1) / ROWS
        places = [place for place, age in enumerate(plot.times) if low <= age < high]
        if not places:
            continue
        ages = f"{words.now if not number else words.age(low)} – {words.ago.format(time=words.age(high))}"
        cells = "".join(f"<td>{escape(_range([line.values[place] for place in places], plot.label))}</td>" for line in plot.lines)
        rows.append(f'<tr><th scope="row">{escape(ages)}</th>{cells}</tr>')
    return (
        f'<details><summary>{escape(words.table)}</summary><table><thead><tr><th scope="col">{escape(words.when)}</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></details>"
    )


def _range(values: Sequence[float | None], label: Callable[[float], str]) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "–"
    low, high = label(min(found)), label(max(found))
    return low if low == high else f"{low} – {high}"
