"""Columns that a guess passed over, though they could matter."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence

import polars as pl

from llmclf.data.scripts import ENOUGH, share_without_spaces
from llmclf.data.table import SourceTable, listed

_HEAD = 1000
"""Rows that are looked at."""


def texts_left_aside(
    table: SourceTable, text: str, used: Collection[str], usual: Sequence[str]
) -> list[str]:
    """One line on other columns that hold texts, where the column of the text was guessed; none
    where there are none. ``used``: columns of another purpose; ``usual``: names of text columns."""
    others = [c for c in table.frame.columns if c not in used and c != text]
    others = [c for c in others if _holds_texts(table, c, c.casefold() in usual)]
    if not others:
        return []
    both = [shlex.quote(c) for c in table.frame.columns if c in (text, *others)]
    joined = " ".join(both)
    return [f"left aside, though text: {listed(others)} (to join: --data.text {joined})"]


def _holds_texts(table: SourceTable, column: str, usual: bool) -> bool:
    """Whether most cells are sentences, or at least some words where the name is a usual one."""
    if "string" not in table.kinds[column]:
        return False
    cells = table.frame[column].head(_HEAD).drop_nulls()
    cells = cells.filter(cells.str.strip_chars() != "")
    if not len(cells) or cells.n_unique() < 2:
        return False
    parts = cells.str.count_matches(r"\p{L}+").cast(pl.Float64)
    letters = cells.str.count_matches(r"[\p{L}\p{M}]").cast(pl.Int64)
    prose = letters * 2 > cells.str.count_matches(r"\S").cast(pl.Int64)
    long = parts >= 4
    if share_without_spaces(cells.to_list()) >= ENOUGH:
        long = letters >= 10
    varied = cells.n_unique() * 2 > len(cells)
    enough = int((long & prose).sum()) * 2 > len(cells)
    return varied and (enough or (usual and bool(prose.any())))
