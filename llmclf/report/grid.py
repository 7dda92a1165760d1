"""A table as values, and its three renderings: Markdown, CSV, terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from llmclf.config import plain
from llmclf.report.words import MISSING

_MARKDOWN = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)")  # inside a word, "_" means itself
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Column:
    """A column and how its values are shown; None is "n/a"."""

    title: str
    show: Callable[[Any], str] | None = None
    """Of a number, or of a pair of them; None: a column of texts."""
    best: Callable[[Iterable[float]], float] | None = None
    """max or min; None where neither end is better."""
    parts: tuple[str, ...] = ()
    """Names of the two columns that a pair becomes in CSV."""

    def text(self, value: Any) -> str:
        """The value as people read it, on one line."""
        if value is None:
            return MISSING
        return plain(str(value)) if self.show is None else self.show(value)


@dataclass(frozen=True)
class Grid:
    """A table of values."""

    name: str
    """Of its CSV file."""
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""

    def cells(self) -> list[list[tuple[str, bool]]]:
        """Text of each cell, and whether it is the best of its column as far as digits show."""
        texts = [[c.text(v) for c, v in zip(self.columns, row, strict=True)] for row in self.rows]
        best = [self._best(index) for index in range(len(self.columns))]
        return [[(t, t == b) for t, b in zip(row, best, strict=True)] for row in texts]

    def _best(self, index: int) -> str | None:
        column = self.columns[index]
        known = [row[index] for row in self.rows if row[index] is not None]
        if column.best is None or len(known) < 2:
            return None
        return column.text(column.best(known))

    def only(self, titles: Sequence[str]) -> Grid:
        """With these columns alone."""
        kept = [i for i, column in enumerate(self.columns) if column.title in titles]
        return Grid(
            self.name,
            self.title,
            tuple(self.columns[i] for i in kept),
            tuple(tuple(row[i] for i in kept) for row in self.rows),
            self.note,
        )


def escaped(text: str) -> str:
    """One line of Markdown that shows the text as it is."""
    return _MARKDOWN.sub(r"\\\g<0>", plain(text))


def markdown(grid: Grid) -> str:
    """A pipe table, and the note under it."""
    lines = [[escaped(column.title) for column in grid.columns]]
    lines.append([":--" if column.show is None else "--:" for column in grid.columns])
    for row in grid.cells():
        texts = [
            escaped(text) if column.show is None else text
            for column, (text, _) in zip(grid.columns, row, strict=True)
        ]
        lines.append([f"**{t}**" if best else t for t, (_, best) in zip(texts, row, strict=True)])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return table + (f"\n{escaped(grid.note)}\n" if grid.note else "")


def csv_text(grid: Grid) -> str:
    """Numbers in full, nothing where none was measured, and no formula for a spreadsheet."""
    file = io.StringIO(newline="")
    # Its line ends are RFC 4180's; with others, Python leaves a carriage return in a text unquoted.
    writer = csv.writer(file)
    titles = [[f"{c.title} {part}" for part in c.parts] or [c.title] for c in grid.columns]
    writer.writerow([neutral(title) for group in titles for title in group])
    for row in grid.rows:
        groups = [
            (value or (None,) * len(column.parts)) if column.parts else (value,)
            for column, value in zip(grid.columns, row, strict=True)
        ]
        writer.writerow([neutral(value) for group in groups for value in group])
    return file.getvalue()


def neutral(value: Any) -> Any:
    """The value of a CSV cell: a text that a spreadsheet would take for a formula gets a leading
    apostrophe (OWASP, "CSV Injection"); numbers stay as they are."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def terminal(grid: Grid, *, note: bool = True) -> Table:
    """A table for rich; texts are wrapped, numbers are not."""
    table = Table(box=SIMPLE, caption=Text(grid.note) if note and grid.note else None)
    for column in grid.columns:
        if column.show is None:
            table.add_column(Text(column.title), overflow="fold")
        else:
            title = column.title.replace(" ", "\n")
            table.add_column(Text(title), justify="right", no_wrap=True)
    for row in grid.cells():
        table.add_row(*(Text(text, "bold" if best else "") for text, best in row))
    return table
