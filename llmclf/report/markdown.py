"""The whole report in Markdown, as GitHub shows it."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from llmclf.report import data_tables as data
from llmclf.report.analysis import Analysis, MethodReport
from llmclf.report.grid import Grid
from llmclf.report.render.markdown import escaped, markdown_table
from llmclf.report.tables import tables
from llmclf.report.verdict import on_what

MOST = 10
"""Rows of each method in the tables of errors; the CSV files hold all."""
_SHORTENED = ("errors", "suspects")


def markdown(analysis: Analysis) -> str:
    """Verdict, reasons, every table, what was left out, and how to repeat the runs."""
    parts = [f"# {escaped(analysis.title)}", f"**{escaped(analysis.verdict.sentence)}**"]
    parts += _list(analysis.verdict.reasons)
    if analysis.left_out:
        parts += ["## Left out", *_list(analysis.left_out)]
    for grid in tables(analysis):
        shown = _confusions(grid) if grid.name == "confusion" else [_shortened(grid).measured()]
        parts.append(f"## {escaped(grid.title)}")
        parts += [markdown_table(one).rstrip("\n") for one in shown]
    parts += ["## Data", *_data(analysis), "## Runs"]
    parts += [part for method in analysis.methods for part in _run(method)]
    parts.append(escaped(f"{analysis.created}; {on_what(analysis.statistics)}."))
    return "\n\n".join(parts) + "\n"


def _list(lines: tuple[str, ...]) -> list[str]:
    return ["\n".join(f"- {escaped(line)}" for line in lines)] if lines else []


def _shortened(grid: Grid) -> Grid:
    if grid.name not in _SHORTENED:
        return grid
    rows = [
        row for _, group in groupby(grid.rows, lambda row: row[0]) for row in list(group)[:MOST]
    ]
    return replace(grid, rows=tuple(rows))


def _confusions(grid: Grid) -> list[Grid]:
    """A square for each method: true labels down, predicted ones across."""
    squares = []
    for name in dict.fromkeys(grid.values("run")):
        square = grid.where("run", name).pivot("true", "predicted", "rows")
        corner = replace(square.columns[0], title=f"{name}: true, predicted")
        squares.append(replace(square, columns=(corner, *square.columns[1:]), note=""))
    return squares


def _data(analysis: Analysis) -> list[str]:
    """Source, rows and labels of the first run, and what was found in them."""
    labels = f"labels: {', '.join(analysis.labels)}"
    return _list((analysis.data, labels, *data.remarks(analysis)))


def _run(method: MethodReport) -> list[str]:
    folders = ", ".join(str(folder) for folder in method.folders)
    fence = "`" * max(3, 1 + max((len(run) for run in _ticks(method.command)), default=0))
    return [
        f"### {escaped(method.name)}",
        escaped(f"{method.method}, {method.model}: {folders}"),
        f"{fence}sh\n{method.command}\n{fence}",
    ]


def _ticks(text: str) -> list[str]:
    return ["`" * len(list(group)) for tick, group in groupby(text) if tick == "`"]
