"""A table as it was read: every cell is text, and what it was before is remembered per column.

One type for every cell makes 1 in a CSV file, 1 in JSON and "1" in Parquet the same label, and
keeps "01" and "007" as they are written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import polars as pl

from llmclf.config import DataError
from llmclf.invisible import quoted

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class SourceTable:
    """The rows of one file, or of one split of a hub data set, as they were read."""

    name: str
    """How messages call it: the file name."""
    frame: pl.DataFrame
    """All columns are String; lists and objects are JSON text."""
    kinds: dict[str, dict[str, int]]
    """Column -> kind of value that occurs (string, number, boolean, list, object) -> its first
    row."""
    decisions: tuple[str, ...] = ()
    """What was guessed while reading."""
    repeated: tuple[str, ...] = ()
    """Names that several columns have, so that none of them is in the frame."""
    hidden: bool = False
    """Whether a column of classes holds none, as in test splits whose labels are kept secret."""

    def __post_init__(self) -> None:
        if not self.frame.height:
            raise DataError(f"{self.name}: has columns {listed(self.frame.columns)} but no rows.")

    @cached_property
    def filled(self) -> pl.DataFrame:
        """The rows that hold anything: the others count, but say nothing of what a column is."""
        return self.frame.filter(pl.any_horizontal(pl.all().fill_null("") != ""))

    def row(self, index: int) -> str:
        """Name of a row in messages; ``index`` counts from 0, people from 1."""
        return f"{self.name} row {index + 1:,}"


Tables = list[tuple[SplitName | None, SourceTable]]


@dataclass(frozen=True)
class Source:
    """Tables with the split that each one is, or None where the rows are still to be split."""

    tables: Tables
    known: dict[str, str] = field(default_factory=dict)
    """Columns (text, label, id, group) of a corpus whose layout is known."""
    decisions: tuple[str, ...] = ()


def listed(names: Iterable[Any], limit: int = 8) -> str:
    """``'a', 'b' and 12 more``: names for a message, shortened."""
    names = list(names)
    text = ", ".join(shown(name) for name in names[:limit])
    return f"{text} and {len(names) - limit:,} more" if len(names) > limit else text


def shown(value: Any, width: int = 60) -> str:
    """A value for a message: quoted, control characters escaped, shortened."""
    text = quoted(value if not isinstance(value, str) else value[: width + 1])
    return text if len(text) <= width else text[: width - 3] + "..."


def cell(value: Any) -> tuple[str, str | None]:
    """Kind and text of one value. NaN and None are missing; 1.0 is written 1, like an integer."""
    match value:
        case None:
            return "missing", None
        case str():
            return "string", value
        case bool():
            return "boolean", "true" if value else "false"
        case float() if math.isnan(value):
            return "missing", None
        case int() | float():
            whole = isinstance(value, float) and value.is_integer()
            return "number", str(int(value)) if whole else str(value)
        case list():
            return "list", json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return "object", json.dumps(value, ensure_ascii=False, default=str)


def from_frame(name: str, frame: pl.DataFrame, classes: Iterable[str] = ()) -> SourceTable:
    """The table of a typed frame (Parquet, Arrow); ``classes``: its columns of class names."""
    kinds: dict[str, dict[str, int]] = {}
    columns = []
    for series in frame:
        kind, text = _as_text(series)
        first = (~text.is_null()).arg_max()
        kinds[series.name] = {} if text.null_count() == len(text) else {kind: first or 0}
        columns.append(text)
    hidden = any(frame[c].null_count() == frame.height for c in classes if c in frame.columns)
    return SourceTable(name, pl.DataFrame(columns), kinds, hidden=hidden)


def _as_text(series: pl.Series) -> tuple[str, pl.Series]:
    dtype = series.dtype
    if dtype.is_float():
        series = series.fill_nan(None)
        if (series == series.round()).all():  # integers of a column that had gaps
            series = series.cast(pl.Int64, strict=False)
    if dtype.is_numeric():
        return "number", series.cast(pl.String)
    if dtype == pl.Boolean:
        return "boolean", series.cast(pl.String)
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        kind = "list" if isinstance(dtype, (pl.List, pl.Array)) else "object"
        texts = [cell(v.to_list() if isinstance(v, pl.Series) else v)[1] for v in series]
        return kind, pl.Series(series.name, texts, dtype=pl.String)
    return "string", series.cast(pl.String)
