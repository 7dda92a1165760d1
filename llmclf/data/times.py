"""A split by time: the newest rows are the test rows. N: rows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection

import numpy as np
import polars as pl

from llmclf.config import DataError
from llmclf.data.columns import Columns, GatheredRows
from llmclf.data.config import DataConfig
from llmclf.data.moments import NUMBER, day, moment, moments
from llmclf.data.table import Source, SourceTable, listed
from llmclf.invisible import quoted

LATE = (
    " With --data.time a label that comes up late cannot be learnt: remove or merge it, or leave "
    "--data.time out."
)

_HEAD = 200
_NAMES = re.compile(r"date|time|created|opened|posted|published|updated|_at$|stamp", re.IGNORECASE)


def with_moments(rows: GatheredRows, column: str) -> GatheredRows:
    """The rows with their times as seconds, of those that are still to be split. Raises DataError
    as :func:`moments` does."""
    free = rows.frame["split"].fill_null("train") == "train"
    some = rows.frame.filter(free)
    where = [f"{rows.names[t]} row {r + 1:,}" for t, r in some.select("table", "row").iter_rows()]
    seconds = np.full(rows.frame.height, np.nan)
    seconds[free.to_numpy()] = moments(some["time"], column, where)
    return GatheredRows(rows.frame.with_columns(pl.Series("time", seconds)), rows.names)


def of_times(
    rows: GatheredRows, split: pl.Series, columns: Columns, config: DataConfig, source: Source
) -> list[str]:
    """What is to be said of times: from when on the drawn rows are, or, in one line, that a random
    split mixes the times of a column."""
    given = {name for name, _ in source.tables}
    if columns.time is not None:
        drawn = [n for n in ("test", "validation") if n not in given and (split == n).any()]
        first = {n: float(rows.frame["time"].filter(split == n).to_numpy().min()) for n in drawn}
        since = "; ".join(
            f"{n} rows: the newest {int((split == n).sum()):,}, from {day(first[n])} on"
            + (f" (before the {drawn[0]} rows)" if n != drawn[0] else "")
            for n in drawn
        )
        return [f"split by time, column {quoted(columns.time)}: {since}"]
    table = next((t for name, t in source.tables if name in (None, "train")), None)
    if "test" in given or table is None:
        return []
    used = {columns.text, *columns.label, columns.pair, columns.id, columns.group}
    found = time_columns(table, used)
    if not found:
        return []
    return [
        f"{listed(found)} {'holds' if len(found) == 1 else 'hold'} times, which a random split "
        f"mixes; --data.time {shlex.quote(found[0])} tests on the newest rows"
    ]


def draw_newest(moment_N: np.ndarray, fraction: float, name: str) -> np.ndarray:
    """Boolean (N,): the rows of the split ``name``, as :func:`newest` draws them. Raises DataError
    where all rows are of one time."""
    chosen = newest(moment_N, fraction)
    if not chosen.any():
        when = f", {day(float(moment_N[0]))}" if len(moment_N) else ""
        raise DataError(
            f"data.time: the {len(moment_N):,} rows that are left for train and {name} are of one "
            f"time{when}; rows of one time stay together. Give rows of more times, "
            + ("set --data.validation-fraction 0, " if name == "validation" else "")
            + "or leave --data.time out."
        )
    return chosen


def newest(moment_N: np.ndarray, fraction: float) -> np.ndarray:
    """Boolean (N,): the newest rows, as near to ``fraction`` of all as whole moments allow, and at
    least one moment; none where all rows are of one moment."""
    values, counts = np.unique(moment_N, return_counts=True)
    if len(values) < 2:
        return np.zeros(len(moment_N), bool)
    after = counts[::-1].cumsum()[::-1][1:]  # rows from each moment on, but the first
    start = 1 + int(np.argmin(np.abs(after - fraction * len(moment_N))))
    return moment_N >= values[start]


def time_columns(table: SourceTable, used: Collection[str | None]) -> list[str]:
    """Columns of a table that hold times: dates, or numbers below a name that says so."""
    return [c for c in table.frame.columns if c not in used and _holds_times(table, c)]


def _holds_times(table: SourceTable, column: str) -> bool:
    cells = [c.strip() for c in table.frame[column].drop_nulls().head(_HEAD) if c.strip()]
    if len(set(cells)) < 2:
        return False
    numbers = any(NUMBER.fullmatch(cell) for cell in cells)
    if numbers and not (_NAMES.search(column) and all(len(c) >= 8 for c in cells)):
        return False
    read = sum(moment(cell, True) is not None or moment(cell, False) is not None for cell in cells)
    return read >= 0.95 * len(cells)
