"""Plots as they are drawn: scales, gaps that stay gaps, and the same in words and as a table."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from services.ui import plot
from services.ui.plot import Captions, Line, Plot

WORDS = Captions(
    "now", "{time} ago", "When", "As a table", "With gaps.", "Nothing.", "{title}, {time}: {last}, {low} to {high}.", lambda s: f"{s:.0f}s"
)


def drawn(values: list[float | None], *more: list[float | None], span: float = 300, top: float | None = None) -> ET.Element:
    """The figure as XML: which it must be, too. A value each 10 seconds, the last one now."""
    times = [10.0 * age for age in reversed(range(len(values)))]
    lines = [Line(f"line <{number}>", one) for number, one in enumerate((values, *more))]
    html = plot.draw(Plot("p", "A & B", times, lines, span, lambda v: f"{v:g}", "9 u", top), WORDS)
    return ET.fromstring(html)


def line(figure: ET.Element, number: int = 0) -> str:
    return next(path.attrib["d"] for path in figure.iter("path") if path.attrib["class"] == f"line{number}")


@pytest.mark.parametrize(("value", "top"), [(0, 1), (1, 1), (1.2, 2), (4, 5), (21, 50), (100, 100), (12_000, 20_000)])
def test_the_scale_ends_at_a_round_number(value: float, top: float) -> None:
    assert plot.ceiling(value) == top


def test_values_stand_where_they_belong() -> None:
    figure = drawn([0.0, 10.0], span=10)
    assert line(figure) == f"M{plot.LEFT:.1f} {plot.BOTTOM:.1f}L{plot.RIGHT:.1f} {plot.TOP:.1f}"
    assert [text.text for text in figure.iter("text")] == ["0", "5", "10", "10s ago", "now"]


def test_a_given_top_is_kept_and_nothing_leaves_the_drawing() -> None:
    figure = drawn([5.0, 50.0], span=10, top=20)
    assert line(figure).endswith(f"L{plot.RIGHT:.1f} {plot.TOP:.1f}")
    assert "20" in [text.text for text in figure.iter("text")]


def test_a_gap_is_a_gap_and_not_a_line() -> None:
    figure = drawn([1.0, 1.0, None, None, 1.0, None, 1.0])
    assert line(figure).count("M") == 3 and line(figure).count("h0") == 2  # a run, and two dots
    bands = [rect for rect in figure.iter("rect") if rect.attrib["class"] == "gap"]
    assert len(bands) == 2
    assert "With gaps." in "".join(figure.find("svg/desc").itertext())  # type: ignore[union-attr]


def test_what_is_still_missing_reaches_to_now() -> None:
    (band,) = list(drawn([1.0, None, None], span=20).iter("rect"))
    assert float(band.attrib["x"]) + float(band.attrib["width"]) == plot.RIGHT


def test_a_level_line_needs_two_points() -> None:
    assert len(re.findall(r"[ML]", line(drawn([2.0] * 30)))) == 2


def test_it_is_described_and_its_words_are_no_markup() -> None:
    figure = drawn([3.0, 9.0])
    svg = figure.find("svg")
    assert svg is not None and svg.attrib["role"] == "img"
    names = {element.attrib["id"]: "".join(element.itertext()) for element in svg if "id" in element.attrib}
    assert names[svg.attrib["aria-labelledby"]] == "A & B"
    assert names[svg.attrib["aria-describedby"]] == "A & B, 10s: 9 u, 3 to 9."


def test_the_table_says_the_same() -> None:
    figure = drawn([4.0, 8.0, 2.0], [None, None, 1.0], span=50)
    rows = [["".join(cell.itertext()) for cell in row] for row in figure.iter("tr")]
    assert rows == [["When", "line <0>", "line <1>"], ["now – 10s ago", "2", "1"], ["10s – 20s ago", "8", "–"], ["20s – 30s ago", "4", "–"]]


def test_without_any_figure_it_says_so() -> None:
    for values in ([], [None, None]):
        figure = drawn(values)
        assert "".join(figure.find("svg/desc").itertext()) == "Nothing."  # type: ignore[union-attr]
        assert line(figure) == ""
