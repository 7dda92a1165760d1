"""The whole report in Markdown, as GitHub shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby

from llmclf.report import detail_tables, tables
from llmclf.report.analysis import Analysis, MethodReport
from llmclf.report.grid import Grid, escaped
from llmclf.report.grid import markdown as in_markdown
from llmclf.report.verdict import on_what

MOST = 10
"""Rows of each method in the tables of errors; the CSV files hold all."""
GRIDS: dict[str, Callable[[Analysis], Grid]] = {
    "scores": tables.scores,
    "differences": tables.differences,
    "intervals": tables.intervals,
    "costs": tables.costs,
    "published": detail_tables.published,
    "crossings": detail_tables.crossings,
    "budgets": detail_tables.budgets,
    "per_label": tables.per_label,
    "confusion": tables.confusion,
    "calibration": detail_tables.calibration,
    "coverage": detail_tables.coverage,
    "lengths": detail_tables.lengths,
    "seen": detail_tables.seen,
    "errors": detail_tables.errors,
    "suspects": detail_tables.suspects,
}
"""By the name of the CSV file, in the order in which they are shown."""
_SHORTENED = ("errors", "suspects")


def grids(analysis: Analysis) -> list[Grid]:
    """The tables that hold a row."""
    return [grid for grid in (make(analysis) for make in GRIDS.values()) if grid.rows]


def markdown(analysis: Analysis) -> str:
    """Verdict, reasons, every table, what was left out, and how to repeat the runs."""
    parts = [f"# {escaped(analysis.title)}", f"**{escaped(analysis.verdict.sentence)}**"]
    parts += _list(analysis.verdict.reasons)
    if analysis.left_out:
        parts += ["## Left out", *_list(analysis.left_out)]
    for grid in grids(analysis):
        if grid.name == "confusion":
            parts += ["## Confusion", *_confusions(analysis)]
        else:
            parts += [f"## {escaped(grid.title)}", in_markdown(_shortened(grid)).rstrip("\n")]
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


def _confusions(analysis: Analysis) -> list[str]:
    """A square for each method: true labels down, predicted ones across."""
    parts = []
    for method in analysis.methods:
        if method.confusion is None:
            continue
        titles = (f"{method.name}: true, predicted", *analysis.labels)
        lines = [[escaped(title) for title in titles], [":--", *["--:"] * len(analysis.labels)]]
        for label, row in zip(analysis.labels, method.confusion, strict=True):
            lines.append([escaped(label), *(f"{value:,}" for value in row)])
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return parts


def _data(analysis: Analysis) -> list[str]:
    """Rows and labels of the first run."""
    rows = analysis.audit.get("rows", {})
    sizes = ", ".join(f"{name} {count:,}" for name, count in rows.items())
    labels = ", ".join(analysis.labels)
    return [*_list((f"rows: {sizes}",) if rows else ()), *_list((f"labels: {labels}",))]


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
