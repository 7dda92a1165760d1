"""Which column is what, and the rows of all tables in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from llmclf.config import DataError, did_you_mean
from llmclf.data.aside import texts_left_aside
from llmclf.data.config import DataConfig
from llmclf.data.files import DELIMITED, suffix
from llmclf.data.guesses import naming_guesses
from llmclf.data.table import Source, SourceTable, listed, shown
from llmclf.invisible import quoted

TEXT_NAMES = (
    *("text", "sentence", "content", "review", "tweet", "comment", "message", "body", "document"),
    *("abstract", "utterance", "query", "question", "description", "title"),
)
LABEL_NAMES = (
    *("label", "labels", "category", "class", "target", "sentiment", "intent", "topic", "stance"),
    *("emotion", "answer", "output"),
)

UNLABELLED = (
    "Test rows need labels to be scored; rows without them are to be predicted by a finished run, "
    "which needs no labels. Name the training file alone, as --data.source: test rows are then "
    "drawn from it."
)


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are used."""

    text: str
    label: tuple[str, ...]
    """Column of the labels, or several columns of 0 and 1."""
    pair: str | None = None
    id: str | None = None
    group: str | None = None
    time: str | None = None
    decisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class GatheredRows:
    """The rows of all tables in one frame, before labels are read and splits are made."""

    frame: pl.DataFrame
    """Columns id, text, label:<name>..., split (null: to be split), table, row and place (number
    among all rows of the split as given, from 0); pair, group and time, where there are such."""
    names: tuple[str, ...]
    """Names of the tables, which the column ``table`` counts."""

    def listed(self, mask: pl.Expr | pl.Series, limit: int = 5) -> str:
        """``12 rows (a.csv row 3, row 17 and 10 more)``: rows for a message."""
        chosen = self.frame.filter(mask).select("table", "row")
        names = [f"{self.names[t]} row {r + 1:,}" for t, r in chosen.head(limit).iter_rows()]
        more = f" and {chosen.height - limit:,} more" if chosen.height > limit else ""
        return f"{chosen.height:,} row{'s'[: chosen.height != 1]} ({', '.join(names)}{more})"


def choose(config: DataConfig, source: Source) -> Columns:
    """Take the named columns and guess text, label and id where they are not named.

    Group and pair are never guessed: what they mean cannot be seen. Raises DataError.
    """
    first = next((t for split, t in source.tables if split in (None, "train")), source.tables[0][1])
    known, decisions = source.known, list[str]()
    there = first.frame.columns
    assert not isinstance(config.text, tuple), "columns are joined before"
    label = config.label or known.get("label")
    labels = (label,) if not label or label in there else tuple(label.split(","))
    named = (config.text, config.pair, *labels, config.id, config.group, config.time)
    for name in named:
        if name is not None and name not in there:
            raise_missing(name, first)
    text = config.text or known.get("text")
    if text is None:
        text = _guess_text(first, {n for n in named if n})
        decisions.append(f"text column: {quoted(text)} (guessed; set --data.text)")
    if not label:
        with naming_guesses(decisions):
            label = _guess_label(first, {n for n in named if n} | {text})
        decisions.append(f"label column: {quoted(label)} (guessed; set --data.label)")
    id_ = config.id or known.get("id")
    if id_ is None and "id" in there and "id" not in (text, label, *named):
        id_, decision = _guess_id(source)
        decisions.append(decision)
    if config.text is None and "text" not in known:
        used = {n for n in (label, id_, *named) if n}
        decisions += texts_left_aside(first, text, used, TEXT_NAMES)
    chosen = Columns(
        text=text,
        label=tuple(name or label for name in labels),
        pair=config.pair,
        id=id_,
        group=config.group or known.get("group"),
        time=config.time,
        decisions=tuple(decisions),
    )
    _check_there(chosen, source, first)
    return chosen


def _check_there(chosen: Columns, source: Source, first: SourceTable) -> None:
    """Raise DataError where a table lacks a column, or times and groups are both to decide."""
    if chosen.time and chosen.group:
        raise DataError(
            f"data.time={quoted(chosen.time)}: {first.name} has groups (column "
            f"{quoted(chosen.group)}), which may have both old and new rows; leave --data.time out."
        )
    for split, table in source.tables:
        if split == "test":
            _refuse_unlabelled(table, first, chosen)
        used = (chosen.text, *chosen.label, chosen.pair, chosen.id, chosen.group, chosen.time)
        for name in used:
            given = name == chosen.time and split in ("validation", "test")
            if name is not None and name not in table.frame.columns and not given:
                with naming_guesses(chosen.decisions):
                    raise_missing(name, table)


def _refuse_unlabelled(table: SourceTable, train: SourceTable, columns: Columns) -> None:
    """Refuse test rows that have the training rows' text and no column like their label."""
    there = table.frame.columns
    if columns.text not in there or any(name in there for name in columns.label):
        return
    own = [name for name in there if name not in train.frame.columns]
    if not did_you_mean(columns.label[0], own):
        raise DataError(f"{table.name}: has no column {quoted(columns.label[0])}. {UNLABELLED}")


def raise_missing(name: str, table: SourceTable) -> None:
    """Raise DataError for a column that a table has not."""
    _refuse_repeated(table, [name])
    raise DataError(
        f"{table.name}: no column {quoted(name)}.{did_you_mean(name, table.frame.columns)} "
        f"{_columns(table)}."
    )


def _columns(table: SourceTable) -> str:
    """The columns of a table for a message."""
    there = f"Columns: {listed(table.frame.columns, 20)}"
    if table.frame.width > 1 or suffix(Path(table.name)) not in DELIMITED:
        return there
    return f"{there}; if that is several, set --data.delimiter to the character between them"


def _refuse_repeated(table: SourceTable, names: Sequence[str]) -> None:
    """Refuse a name that several columns have; where none of them is used it does no harm."""
    if twice := [name for name in table.repeated if name.casefold() in map(str.casefold, names)]:
        raise DataError(f"{table.name}: the header names {listed(twice)} twice; rename one.")


def _by_name(table: SourceTable, names: Sequence[str], taken: set[str]) -> str | None:
    lower = {c.casefold(): c for c in reversed(table.frame.columns) if c not in taken}
    return next((lower[name] for name in names if name in lower), None)


def _constant(table: SourceTable) -> set[str]:
    """Columns that hold the same in each row, such as one instruction for all."""
    rows = table.filled
    if rows.height < 2:
        return set()
    alike = rows.select(pl.all().eq_missing(pl.all().first()).all()).row(0, named=True)
    return {column for column, same in alike.items() if same}


def _guess_text(table: SourceTable, taken: set[str]) -> str:
    """The text column: one with a usual name, else the one whose cells are clearly the longest."""
    _refuse_repeated(table, TEXT_NAMES)
    constant = _constant(table)
    taken = taken | constant
    if name := _by_name(table, TEXT_NAMES, taken):
        return name
    free = [c for c in table.frame.columns if c not in taken and "string" in table.kinds[c]]
    head = table.frame.select(free).head(10_000)
    means = head.select(pl.all().str.len_chars().mean().fill_null(0)).row(0) if free else ()
    order = sorted(zip(means, free, strict=True), reverse=True)
    if order and (len(order) == 1 or order[0][0] >= 2 * order[1][0]):
        return str(order[0][1])
    raise DataError(
        f"{table.name}: cannot tell which column holds the text; set --data.text. "
        + (f"Not guessed, since all rows are alike: {listed(sorted(constant))}. " * bool(constant))
        + f"{_columns(table)} (the first line must name them)."
    )


def _guess_label(table: SourceTable, taken: set[str]) -> str:
    _refuse_repeated(table, LABEL_NAMES)
    varied = _by_name(table, LABEL_NAMES, taken | _constant(table))
    if name := varied or _by_name(table, LABEL_NAMES, taken):
        return name
    raise DataError(
        f"{table.name}: cannot tell which column holds the label; set --data.label. "
        f"{_columns(table)} (the first line must name them)."
    )


def _guess_id(source: Source) -> tuple[str | None, str]:
    tables = [table.filled for _, table in source.tables]
    if all("id" in frame.columns for frame in tables):
        ids = pl.concat([frame["id"] for frame in tables])
        if not ids.null_count() and not (ids == "").any() and not ids.is_duplicated().any():
            return "id", "id column: 'id' (guessed; set --data.id)"
    return None, "id column: row numbers (the column 'id' has gaps or repeats)"


def gather(columns: Columns, source: Source) -> GatheredRows:
    """Put the rows of all tables into one frame. Raises DataError for texts that are not text."""
    frames = []
    for number, (split, table) in enumerate(source.tables):
        _check_text(table, columns.text)
        if columns.pair:
            _check_text(table, columns.pair)
        cells = {"text": columns.text, "pair": columns.pair}
        cells |= {"id": columns.id, "group": columns.group}
        cells |= {f"label:{name}": name for name in columns.label}
        frames.append(
            table.frame.select(
                *(pl.col(name).alias(role) for role, name in cells.items() if name),
                *_time(columns.time, table),
                pl.lit(split, pl.String).alias("split"),
                pl.lit(number, pl.UInt32).alias("table"),
                pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"),
            )
        )
    names = tuple(table.name for _, table in source.tables)
    return GatheredRows(_with_ids(pl.concat(frames)), names)


def _time(column: str | None, table: SourceTable) -> list[pl.Expr]:
    """The column of times; rows that are given for a split may have none."""
    if column is None:
        return []
    there = column in table.frame.columns
    return [(pl.col(column) if there else pl.lit(None, pl.String)).alias("time")]


def _check_text(table: SourceTable, column: str) -> None:
    check_kind(table, column)
    texts = table.filled[column].drop_nulls()
    if len(texts) and texts.str.contains(r"^\s*[-+]?[\d.,]+\s*$").all():
        raise DataError(
            f"{table.name}: column {quoted(column)} holds only numbers ({listed(texts.head(3))}), "
            f"texts are needed; set --data.text. Columns: {listed(table.frame.columns, 20)}."
        )


def check_kind(table: SourceTable, column: str) -> None:
    """Raise DataError where a column of texts holds something else, such as lists."""
    others = {k: row for k, row in table.kinds[column].items() if k != "string"}
    if others:
        kind, row = min(others.items(), key=lambda item: item[1])
        value = f"{'an' if kind == 'object' else 'a'} {kind} ({shown(table.frame[column][row])})"
        raise DataError(
            f"{table.row(row)}: column {quoted(column)} holds {value}, a text is needed. Choose "
            "another column with --data.text or --data.pair, or write the value between quotes."
        )


def _with_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """Without an id column a row is called by its number, and by its split if there are several."""
    frame = frame.with_columns(pl.int_range(pl.len()).over("split").alias("place"))
    if "id" not in frame.columns:
        number = (pl.col("place") + 1).cast(pl.String)
        several = frame["split"].n_unique() > 1
        name = pl.format("{}:{}", pl.col("split").fill_null("train"), number)
        frame = frame.with_columns((name if several else number).alias("id"))
    if "group" in frame.columns:  # a row without a group is a group of its own
        own = pl.format("(row {})", "id")
        empty = pl.col("group").is_null() | (pl.col("group") == "")
        frame = frame.with_columns(pl.when(empty).then(own).otherwise("group").alias("group"))
    return frame


def check_ids(rows: GatheredRows, column: str | None) -> None:
    """Raise DataError for ids of a column that are missing or repeat."""
    if column is None:
        return
    missing = pl.col("id").is_null() | (pl.col("id") == "")
    if rows.frame.select(missing.any()).item():
        raise DataError(f"id column {quoted(column)}: {rows.listed(missing)} have no id.")
    repeated = pl.col("id").is_duplicated()
    if rows.frame.select(repeated.any()).item():
        ids = rows.frame.filter(repeated)["id"].unique(maintain_order=True)
        raise DataError(
            f"id column {quoted(column)}: {len(ids):,} ids repeat ({listed(ids.head(9), 5)}) in "
            f"{rows.listed(repeated)}. Ids must be unique; leave --data.id out to number the rows."
        )
