"""The table of docs/page.md is held to the tests: what it says of our page is shown by a test that exists.

What it says of the others can't be run here; the commit or release and the place where it was seen stand in the notes.
"""

from __future__ import annotations

import ast
import re

from tests.conftest import ROOT

TEXT = (ROOT / "docs/page.md").read_text(encoding="utf-8")
TESTS = ROOT / "tests"
CELL = re.compile(r"(yes|no|partly|\?)((?: \[\d+\])*)")
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")

Row = dict[str, str]


def rows(text: str) -> list[Row]:
    """All rows of the tables whose head begins with `Feature`."""
    found: list[Row] = []
    head: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            head = []
        elif cells[0] == "Feature":
            head = cells
        elif head and set(line) - set("|- "):
            assert len(cells) == len(head), line
            found.append(dict(zip(head, cells, strict=True)))
    return found


def functions(file: str) -> set[str]:
    """The tests that a file below tests/ holds."""
    path = TESTS / file
    nodes = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def faults(table: list[Row]) -> list[str]:
    """What is wrong with our column."""
    found = []
    for row in table:
        name, ours, tests = row["Feature"], row["Cloister"], TEST.findall(row["shown by"])
        if ours.startswith("no") and row["shown by"]:
            found.append(f"{name}: no, and yet a test is named")
        if not ours.startswith("no") and not tests:
            found.append(f"{name}: {ours}, and no test is named")
        found += [f"{name}: there is no {file}::{test}" for file, test in tests if test not in functions(file)]
    return found


def test_what_the_page_can_do_is_shown_by_a_test_that_exists() -> None:
    table = rows(TEXT)
    assert len(table) >= 50
    assert faults(table) == []


def test_a_row_that_is_shown_by_nothing_would_be_found() -> None:
    row = {"Feature": "f", "Cloister": "yes", "shown by": "`ui/test_features.py::test_a_row_that_is_shown_by_nothing_would_be_found`"}
    assert faults([row]) == []
    for bad in (
        {**row, "shown by": ""},
        {**row, "Cloister": "partly [1]", "shown by": "by hand"},
        {**row, "shown by": "`ui/test_features.py::test_that_nobody_wrote`"},
        {**row, "shown by": "`ui/test_nowhere.py::test_a`"},
        {**row, "Cloister": "no"},
    ):
        assert len(faults([bad])) == 1, bad


def test_every_cell_is_an_answer_and_every_half_one_is_explained() -> None:
    """A note is a list item that begins with its number; `partly` has one, and no note is left over."""
    notes = set(re.findall(r"^(\d+)\. ", TEXT, re.MULTILINE))
    used: set[str] = set()
    for row in rows(TEXT):
        for column in set(row) - {"Feature", "shown by"}:
            cell = CELL.fullmatch(row[column])
            assert cell, (row["Feature"], column, row[column])
            numbers = set(re.findall(r"\d+", cell[2]))
            assert numbers or cell[1] != "partly", (row["Feature"], column)
            used |= numbers
    assert used == notes


def test_no_feature_stands_twice() -> None:
    names = [row["Feature"] for row in rows(TEXT)]
    assert len(names) == len(set(names))
