"""Each table is one grid of values: whatever renders it prints the same numbers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from llmclf.evaluate.calibration import Coverage
from llmclf.report.analysis import Analysis
from llmclf.report.detail_tables import SHARES, accuracy_at, coverage
from llmclf.report.grid import Column, Grid
from llmclf.report.html import html
from llmclf.report.html_parts import parts
from llmclf.report.markdown import markdown
from llmclf.report.render.csv import csv_table
from llmclf.report.render.html import html_table
from llmclf.report.render.markdown import markdown_table
from llmclf.report.render.terminal import terminal_table
from llmclf.report.tables import TABLES, scores, tables
from llmclf.report.words import INTERVAL, SCORE
from tests.report.example import example

NUMBER = re.compile(r"([-+\u2212]?\d[\d,]*(?:\.\d+)?)([BMk%]?)")
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "%": 0.01}
Cells = list[list[str]]


class Tables(HTMLParser):
    """Cells of every table of a page, by its caption."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: dict[str, Cells] = {}
        self.caption, self.inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "caption":
            self.caption = ""
        elif tag == "tr":
            self.cells.setdefault(self.caption, []).append([])
        elif tag in ("td", "th"):
            self.cells[self.caption][-1].append("")
        if tag in ("caption", "td", "th"):
            self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "caption":
            self.caption += data
        elif self.inside:
            self.cells[self.caption][-1][-1] += data


def read_html(grid: Grid) -> Cells:
    (rows,) = Tables(html_table(grid)).cells.values()
    return rows[1:]


def read_markdown(grid: Grid) -> Cells:
    lines = [line for line in markdown_table(grid).splitlines() if line.startswith("| ")]
    return [[cell.strip("* ") for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def read_terminal(grid: Grid) -> Cells:
    file = io.StringIO()
    Console(file=file, width=2000).print(terminal_table(grid))
    lines = file.getvalue().splitlines()
    rule = next(i for i, line in enumerate(lines) if "\u2500\u2500" in line)
    shown = lines[rule + 1 : rule + 1 + len(grid.rows)]
    return [re.split(r" {2,}", line.strip()) for line in shown]


READERS: dict[str, Callable[[Grid], Cells]] = {
    "html": read_html,
    "markdown": read_markdown,
    "terminal": read_terminal,
}


def numbers_of(value: Any) -> list[float]:
    """The numbers in a value: none, one, or both of a pair."""
    values = value if isinstance(value, tuple) else (value,)
    return [float(v) for v in values if v is not None]


def check(text: str, value: Any) -> int:
    """The text says the value's numbers, as precisely as its digits claim; returns how many."""
    values = numbers_of(value)
    if text == "<0.001":
        assert values[0] < 0.001
        return 1
    if not values:
        assert text == "n/a"
        return 0
    said = NUMBER.findall(text)
    assert len(said) == len(values), (text, value)
    for (digits, unit), expected in zip(said, values, strict=True):
        plain = digits.replace(",", "").replace("\u2212", "-")
        decimals = len(plain.partition(".")[2])
        # Three digits are what a number with a unit, or a large amount, claims at least.
        step = 10.0**-decimals * UNITS[unit]
        if unit in ("k", "M", "B"):
            step = max(step, 10 ** (np.floor(np.log10(expected)) - 2))
        assert abs(float(plain) * UNITS[unit] - expected) <= 0.5000001 * step, (text, value)
    return len(values)


def check_rows(grid: Grid, rows: Cells) -> int:
    assert len(rows) == len(grid.rows)
    count = 0
    for shown, row in zip(rows, grid.rows, strict=True):
        assert len(shown) == len(grid.columns), (grid.name, shown)
        for column, text, value in zip(grid.columns, shown, row, strict=True):
            if not column.kind.text:
                count += check(text, value)
    return count


def check_csv(grid: Grid) -> int:
    """Numbers in full: equal, not nearly so."""
    head, *lines = csv.reader(io.StringIO(csv_table(grid), newline=""))
    assert len(lines) == len(grid.rows)
    count = 0
    for line, row in zip(lines, grid.rows, strict=True):
        assert len(line) == len(head)
        cells = iter(line)
        for column, value in zip(grid.columns, row, strict=True):
            width = len(column.kind.pair) or 1
            values = value if isinstance(value, tuple) else (value,) * width
            for cell, expected in zip([next(cells) for _ in range(width)], values, strict=True):
                if not column.kind.text:
                    assert cell == "" if expected is None else float(cell) == expected
                    count += expected is not None
    return count


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return example(folds=5)


def test_the_example_has_a_row_in_every_table(analysis: Analysis) -> None:
    assert [grid.name for grid in tables(analysis)] == list(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_all_renderings_print_the_same_numbers(analysis: Analysis, name: str) -> None:
    grid = TABLES[name](analysis)
    counts = {reader: check_rows(grid, read(grid)) for reader, read in READERS.items()}
    counts["csv"] = check_csv(grid)
    assert len(set(counts.values())) == 1 and counts["csv"] > 0, counts


def test_a_wrong_digit_is_noticed(analysis: Analysis) -> None:
    grid = scores(analysis)
    rows = read_markdown(grid)
    place = grid.place("NLL")
    rows[0][place] = f"{grid.rows[0][place] + 0.001:.3f}"
    with pytest.raises(AssertionError):
        check_rows(grid, rows)


def test_page_and_markdown_hold_the_numbers_of_the_grids(analysis: Analysis) -> None:
    page = Tables(html(analysis)).cells
    shown = [
        *(grid for part in parts(analysis) for block in part.blocks for grid in block.tables),
        *(
            figure.numbers
            for part in parts(analysis)
            for block in part.blocks
            for figure in block.figures
            if figure.numbers is not None
        ),
    ]
    assert sum(check_rows(grid, page[grid.title][1:]) for grid in shown) > 1000
    text = markdown(analysis)
    for grid in tables(analysis):
        if grid.name not in ("confusion", "errors", "suspects"):
            assert markdown_table(grid.measured()).rstrip() in text


def test_lift_mcc_nll_and_brier_are_in_the_page(analysis: Analysis) -> None:
    head, *rows = Tables(html(analysis)).cells["Scores"]
    of = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    estimates = analysis.statistics.estimates["head only"]
    expected = {"MCC": "mcc", "NLL": "nll", "Brier score": "brier", "ECE": "ece"}
    for title, key in expected.items():
        assert of["head only"][title] == f"{estimates[key].value:.3f}"
    lift = estimates["macro_f1"].value - analysis.prior["macro_f1"]
    assert of["head only"]["lift"] == f"{lift:+.3f}"


def test_nothing_measured_is_said_alike() -> None:
    columns = (Column("run"), Column("score", SCORE), Column("95% interval", INTERVAL))
    grid = Grid("g", "G", columns, (("a", None, None), ("b", 0.5, (-0.25, 0.75))))
    for read in READERS.values():
        minus = "\u2212" if read is read_html else "-"
        assert read(grid) == [["a", "n/a", "n/a"], ["b", "0.500", f"[{minus}0.250, 0.750]"]]
    assert csv_table(grid).splitlines()[1:] == ["a,,,", "b,0.5,-0.25,0.75"]


def test_accuracy_where_rows_of_equal_confidence_go_together() -> None:
    curve = Coverage(
        share=np.array([0.22, 0.82, 1.0]),
        accuracy=np.array([1.0, 0.854, 0.8]),
        confidence=np.array([0.9, 0.8, 0.4]),
        area=0.1,
    )
    values = [accuracy_at(curve, share) for share in (0.22, 0.23, 0.5, 0.8, 0.82, 0.83, 1.0)]
    assert values == [1.0, 0.854, 0.854, 0.854, 0.854, 0.8, 0.8]
    whole = example(methods=1)
    one = replace(whole, methods=(replace(whole.methods[0], coverage=curve),))
    (row,) = coverage(one).rows
    at = dict(zip(SHARES, row[1:], strict=False))
    assert at == {0.5: 0.854, 0.7: 0.854, 0.8: 0.854, 0.9: 0.8, 0.95: 0.8, 1.0: 0.8}
    page = html(one)
    assert Tables(page).cells["Accuracy by share answered"][1][1:4] == ["0.854"] * 3
    assert "accuracy 85% on the surest half of the rows, 80% on all" in page
    assert "| full fine-tune | 0.854 | 0.854 | 0.854 | 0.800 |" in markdown(one)


def test_a_pivot_has_a_column_for_each_value_and_gaps_are_none() -> None:
    columns = (Column("run"), Column("label"), Column("rows"), Column("F1", SCORE))
    rows = (("a", "x", "9", 0.1), ("a", "y", "7", 0.2), ("b", "y", "7", 0.4))
    grid = Grid("g", "G", columns, rows).pivot("label", "run", "F1", beside=["rows"])
    assert [column.title for column in grid.columns] == ["label", "rows", "a", "b"]
    assert grid.rows == (("x", "9", 0.1, None), ("y", "7", 0.2, 0.4))


def test_source_and_rows_stand_in_the_heading(analysis: Analysis) -> None:
    head = html(analysis).split("</header>")[0]
    assert "<dt>training rows</dt><dd>8,000</dd>" in head
    assert "<title>Sentiment of short texts \u2013 opinions</title>" in head
    assert "- opinions: 8,000 train, 1,000 validation, 1,000 test rows" in markdown(analysis)
