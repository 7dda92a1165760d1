"""Tables as CSV: numbers in full, for programs."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

from llmclf.report.grid import Grid

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d+)*[.,]?|[.,]\d+)([eE][-+]?\d+)?%?", re.ASCII)


def csv_table(grid: Grid) -> str:
    """The table as CSV: nothing where nothing was measured, two columns for a pair, no formula for
    a spreadsheet."""
    file = io.StringIO(newline="")
    # Its line ends are RFC 4180's; with others, Python leaves a carriage return in a text unquoted.
    writer = csv.writer(file)
    titles = [[f"{c.title} {end}" for end in c.kind.pair] or [c.title] for c in grid.columns]
    writer.writerow([neutral(title) for group in titles for title in group])
    for row in grid.rows:
        groups = [
            (value or (None,) * len(column.kind.pair)) if column.kind.pair else (value,)
            for column, value in zip(grid.columns, row, strict=True)
        ]
        writer.writerow([neutral(value) for group in groups for value in group])
    return file.getvalue()


def neutral(value: Any) -> Any:
    """The value of a CSV cell: a text that a spreadsheet would take for a formula gets a leading
    apostrophe (OWASP, "CSV Injection"); numbers stay as they are, also as texts, such as a label
    -1."""
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
