"""Tables on the terminal, by rich."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from llmclf.report.grid import Grid


def terminal_table(grid: Grid, *, note: bool = True) -> Table:
    """The table for rich: texts are wrapped, numbers are not; the best of a column is bold."""
    table = Table(box=SIMPLE, caption=Text(grid.note) if note and grid.note else None)
    for column in grid.columns:
        if column.kind.text:
            table.add_column(Text(column.title), overflow="fold")
        else:
            title = column.title.replace(" ", "\n")
            table.add_column(Text(title), justify="right", no_wrap=True)
    for row in grid.cells():
        table.add_row(*(Text(text, "bold" if best else "") for text, best in row))
    return table
