"""Several columns as one text: ``data.text title description``."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from llmclf.config import DataError
from llmclf.data.columns import check_kind, raise_missing
from llmclf.data.config import DataConfig
from llmclf.data.table import Source, SourceTable
from llmclf.invisible import quoted

BETWEEN = "\n"


def with_joined_text(config: DataConfig, source: Source) -> tuple[DataConfig, Source]:
    """Where the settings name several columns of text, add the one that joins them to each table,
    and name that; else both as they are. Raises DataError for a column that is not there, or that
    holds no texts."""
    first = source.tables[0][1]
    if isinstance(config.text, str):
        _hint_at_comma(config.text, first)
    if not isinstance(config.text, tuple):
        return config, source
    columns, name = config.text, " + ".join(config.text)
    if name in first.frame.columns:
        raise DataError(
            f"{first.name}: has a column {quoted(name)}; name that alone as --data.text."
        )
    tables = [(split, _with_joined(table, columns, name)) for split, table in source.tables]
    return replace(config, text=name), replace(source, tables=tables)


def _with_joined(table: SourceTable, columns: tuple[str, ...], name: str) -> SourceTable:
    for column in columns:
        if column not in table.frame.columns:
            raise_missing(column, table)
        check_kind(table, column)
    parts = [pl.when(pl.col(c).str.strip_chars() != "").then(pl.col(c)) for c in columns]
    joined = pl.concat_str(parts, separator=BETWEEN, ignore_nulls=True).alias(name)
    rows = [row for column in columns for row in table.kinds[column].values()]
    kinds = {**table.kinds, name: {"string": min(rows)} if rows else {}}
    return replace(table, frame=table.frame.with_columns(joined), kinds=kinds)


def _hint_at_comma(text: str, table: SourceTable) -> None:
    """Columns of labels are parted by commas, columns of text by spaces."""
    names = text.split(",")
    there = table.frame.columns
    if len(names) > 1 and text not in there and all(name in there for name in names):
        raise DataError(
            f"{table.name}: no column {quoted(text)}. To join the columns of a text, part them by "
            f"spaces: --data.text {' '.join(names)}."
        )
