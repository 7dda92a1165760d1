"""Label cells to label names and targets. A label is its name; numbers come at the very end."""

from __future__ import annotations

import re
import unicodedata
from typing import NoReturn

import numpy as np
import polars as pl

from llmclf.config import ConfigError, DataError
from llmclf.data.columns import UNLABELLED, Columns, GatheredRows
from llmclf.data.label_lists import (
    look_joined,
    refuse_bare_flags,
    to_names,
    written_lists,
)
from llmclf.data.label_names import named_numbers, refuse_names
from llmclf.data.table import Source, SourceTable, listed, shown
from llmclf.invisible import hides_something, quoted, told_apart, visible

MAX_LABELS = 1000
"""More classes than this are almost surely an id or a text column taken for the label."""
_TRUE, _FALSE = ("1", "true", "True", "TRUE", "1.0"), ("0", "false", "False", "FALSE", "0.0")


def read_labels(
    rows: GatheredRows,
    columns: Columns,
    source: Source,
    separator: str | None,
    names: tuple[str, ...] = (),
) -> tuple[GatheredRows, bool, tuple[str, ...]]:
    """Replace the label cells by a column ``label``; also return multilabel and decisions.

    ``label`` is String, or List(String) for a multilabel task. Raises DataError naming rows.

    ``separator``: the character between the labels of one cell, None where a cell holds one;
    ``names``: of labels that are numbers or positions.
    """
    kinds = {k for _, t in source.tables for c in columns.label for k in _kinds(t, c)}
    decisions = []
    if len(kinds) > 1:
        kind_names = " and ".join(f"{kind}s" for kind in sorted(kinds))
        decisions.append(f"labels: {kind_names} in different files, compared as text")
    if len(columns.label) > 1:
        if separator is not None:
            _refuse_separator(separator, f"with several label columns ({listed(columns.label)})")
        if names:
            refuse_names(names, f"with several label columns ({listed(columns.label)})")
        label = _from_flags(rows, columns.label)
    else:
        of_lists = "list" in kinds
        label, said = _from_cells(rows, columns.label[0], separator, names, of_lists=of_lists)
        decisions += said
    multilabel = label.dtype == pl.List
    frame = rows.frame.drop(f"label:{name}" for name in columns.label)
    rows = GatheredRows(frame.with_columns(label.alias("label")), rows.names)
    _check_names(rows, columns, source)
    decisions += _without_rows(rows, columns.label)
    return rows, multilabel, tuple(decisions)


def _kinds(table: SourceTable, column: str) -> set[str]:
    """Kinds of value in a label column; refuse objects and a mixture."""
    first_rows = table.kinds[column]
    if "object" in first_rows:
        raise DataError(f"{table.row(first_rows['object'])}: the label is an object, not a name.")
    if len(first_rows) > 1:
        examples = ", ".join(
            f"{table.row(row)} has the {kind} {shown(table.frame[column][row])}"
            for kind, row in sorted(first_rows.items(), key=lambda item: item[1])
        )
        raise DataError(f"label column {quoted(column)} mixes kinds: {examples}. Write all alike.")
    return set(first_rows)


def _from_flags(rows: GatheredRows, columns: tuple[str, ...]) -> pl.Series:
    """Names of the columns that hold 1, per row."""
    for name in columns:
        odd = ~pl.col(f"label:{name}").is_in([*_TRUE, *_FALSE]).fill_null(False)
        if rows.frame.select(odd.any()).item():
            value = rows.frame.filter(odd)[f"label:{name}"][0]
            raise DataError(
                f"label column {quoted(name)}: must hold 0 and 1, but {rows.listed(odd)} do not "
                f"({shown(value)})."
            )
    names = [pl.when(pl.col(f"label:{c}").is_in(_TRUE)).then(pl.lit(c)) for c in columns]
    return rows.frame.select(pl.concat_list(names).list.drop_nulls().alias("label")).to_series()


def _without_rows(rows: GatheredRows, columns: tuple[str, ...]) -> list[str]:
    """One line on columns of 0 and 1 that are 0 throughout: labels that nothing is known of."""
    if len(columns) < 2:
        return []
    there = set(rows.frame["label"].explode().drop_nulls())
    absent = [name for name in columns if name not in there]
    return [f"label columns without a 1, left out: {listed(absent)}"] if absent else []


def _from_cells(
    rows: GatheredRows,
    column: str,
    separator: str | None,
    label_names: tuple[str, ...],
    *,
    of_lists: bool,
) -> tuple[pl.Series, list[str]]:
    """Labels of one column: its names, or lists of names where its cells hold several."""
    cells = rows.frame[f"label:{column}"]
    said = []
    if separator is None or of_lists:
        _refuse_missing(rows, column)
    values = written_lists(rows, column)
    if values and not of_lists:
        said.append(f"labels: cells such as {shown(next(iter(values)))} are read as lists")
    if values and separator is not None:
        _refuse_separator(separator, f"since the cells of {quoted(column)} are lists already")
    if separator is not None:
        cells = cells.fill_null("")
        split = {text: text.split(separator) for text in cells.unique(maintain_order=True)}
        values = {text: [p.strip() for p in of if p.strip()] for text, of in split.items()}
    if values is None:
        names, more = _from_names(rows, column)
        if label_names:
            return pl.Series(named_numbers(column, names.to_list(), label_names)), more
        return names, more
    names_of, more = to_names(rows, column, values, label_names)
    return pl.Series([names_of[text] for text in cells], dtype=pl.List(pl.String)), said + more


def _refuse_separator(separator: str, why: str) -> NoReturn:
    raise ConfigError(f"data.label_separator={separator!r}: has no effect {why}; leave it out.")


def _from_names(rows: GatheredRows, column: str) -> tuple[pl.Series, list[str]]:
    refuse_bare_flags(rows, column)
    cells = rows.frame[f"label:{column}"]
    stripped = cells.str.strip_chars()
    names = cells.unique().sort()
    said = look_joined(stripped.unique())
    if gaps := sorted(set(names) & {"nan", "NaN", "<NA>", "NaT"}):
        said.append(f"labels: {listed(gaps)} is a label like others; is it a missing value?")
    spaced = names.filter(names != names.str.strip_chars())
    if names.n_unique() == names.str.strip_chars().n_unique() and len(spaced):
        return stripped, [f"labels: spaces around {listed(spaced)} removed", *said]
    return cells, said


def _refuse_missing(rows: GatheredRows, column: str) -> None:
    missing = pl.col(f"label:{column}").is_null() | (
        pl.col(f"label:{column}").str.strip_chars() == ""
    )
    if rows.frame.select(missing.any()).item():
        test = rows.frame.filter(pl.col("split") == "test")
        if test.height and test.select(missing.all()).item():
            name = rows.names[test["table"][0]]
            raise DataError(f"{name}: column {quoted(column)} is empty. {UNLABELLED}")
        raise DataError(
            f"label column {quoted(column)}: {rows.listed(missing)} have no label. Fill them or "
            "remove the rows."
        )


def _check_names(rows: GatheredRows, columns: Columns, source: Source) -> None:
    label = rows.frame["label"]
    names = (label.explode() if label.dtype == pl.List else label).drop_nulls()
    unique = names.unique().sort().to_list()
    column = ",".join(columns.label)
    if len(unique) > MAX_LABELS:
        raise DataError(
            f"label column {quoted(column)}: has {len(unique):,} different labels in "
            f"{len(label):,} rows ({listed(unique, 3)}); at most {MAX_LABELS:,} are allowed. Is it "
            f"an id or a text? Set --data.label. Columns: "
            f"{listed(source.tables[0][1].frame.columns, 20)}."
        )
    odd = [name for name in unique if hides_something(name)]
    if odd:
        raise DataError(
            f"label column {quoted(column)}: {listed(odd)} holds a line break, control or "
            "invisible character; clean it."
        )
    fractions = [name for name in unique if re.fullmatch(r"[-+]?\d*\.\d*[1-9]\d*", name)]
    if len(fractions) > 20:  # half stars, 0.5 to 5, are classes still
        raise DataError(
            f"label column {quoted(column)}: holds measurements ({listed(fractions, 3)}), not "
            "classes. Cut them into named ranges first."
        )
    _refuse_twins(column, names)


def _refuse_twins(column: str, names: pl.Series) -> None:
    """Refuse labels that a reader takes for one: ``advice`` and ``Advice``, ``1`` and ``1.0``,
    composed and decomposed é."""
    counts = dict(names.value_counts().iter_rows())
    twins: dict[str, list[str]] = {}
    for name in sorted(counts):
        key = " ".join(visible(unicodedata.normalize("NFKC", name)).casefold().split())
        key = re.sub(r"^([-+]?\d+)\.0+$", r"\1", key)  # floats, as pandas writes gaps
        twins.setdefault(key, []).append(name)
    for same in twins.values():
        if len(same) > 1:
            names_shown = zip(told_apart(same), same, strict=True)
            alike = ", ".join(f"{text} ({counts[name]:,} rows)" for text, name in names_shown)
            raise DataError(
                f"label column {quoted(column)}: {alike} differ only in case, spaces, Unicode "
                "form, decimals, or in invisible characters. Write them alike."
            )


def sort_names(names: set[str]) -> tuple[str, ...]:
    """Sort label names; by value if all are whole numbers, so that 10 comes after 2."""
    if all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def to_targets(label: pl.Series, names: tuple[str, ...]) -> np.ndarray:
    """Targets from label names: indices into ``names``, int64 (N,), or float32 0/1 (N, C) for lists
    of names."""
    if label.dtype != pl.List:
        return label.cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()
    targets = np.zeros((len(label), len(names)), np.float32)
    cells = label.to_frame("label").with_row_index().explode("label").drop_nulls()
    targets[cells["index"], cells["label"].cast(pl.Enum(names)).to_physical()] = 1
    return targets
