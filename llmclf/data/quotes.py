"""Quotes that pair across rows: a file without quoting that is read as if it had."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

SHARE = 0.8
"""Share of the lines of a field that must read like rows before the field is suspected."""


@dataclass(frozen=True)
class Swallowed:
    """A field that reads like several rows of the file."""

    row: int
    """Its row, from 0."""
    characters: int
    lines: int
    example: str
    """The first line that reads like a row of its own."""


def swallowed_rows(frame: pl.DataFrame, delimiter: str) -> Swallowed | None:
    """The first row that is several, if there is one.

    A field with line breaks and delimiters is suspected if, with quotes taken literally, most of
    its lines have as many fields as the file, and have in one column (the label, mostly) values
    that other rows have there. Lines of a text that happen to hold the delimiter do not.
    """
    if frame.width < 2:
        return None
    breaks = pl.all().str.contains(r"[\r\n]")
    both = frame.select(breaks & pl.all().str.contains(delimiter, literal=True))
    suspects = both.select(pl.any_horizontal(pl.all()))
    rows = suspects.to_series().fill_null(False).arg_true().to_list() if both.width else []
    values: list[set[str]] | None = None
    for row in rows:
        text = delimiter.join(frame.row(row))
        lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
        cells = [
            line.split(delimiter) for line in lines if line.count(delimiter) + 1 == frame.width
        ]
        needed = max(2.0, SHARE * len(lines))
        if len(cells) < needed:
            continue
        values = _repeated_values(frame) if values is None else values
        if any(sum(c[i] in known for c in cells) >= needed for i, known in enumerate(values)):
            longest = max(frame.row(row), key=len)
            return Swallowed(row, len(longest), len(lines), lines[1])
    return None


def _repeated_values(frame: pl.DataFrame) -> list[set[str]]:
    """By column, the values of rows of one line; empty where each row has its own."""
    plain = frame.filter(~pl.any_horizontal(pl.all().str.contains(r"[\r\n]")))
    return [
        set(series.unique()) if series.n_unique() < max(2, len(series)) else set()
        for series in plain
    ]
