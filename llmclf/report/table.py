"""A table of the page, as plain text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from llmclf.report.show import visible


@dataclass(frozen=True)
class Row:
    """Cells of a row, one for each column."""

    cells: tuple[str, ...]
    kind: str = ""
    """Class of the row in the style sheet: published, best or nothing."""
    strong: frozenset[int] = frozenset()
    """Cells that are the best of their column."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Texts on the left, numbers on the right."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str
    """What the table holds: its accessible name."""
    texts: int = 1
    """How many of the first columns are text and not numbers."""
    long: frozenset[int] = frozenset()
    """Columns whose texts may run over several lines."""


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    texts: int = 1,
    long: Collection[int] = (),
) -> Table:
    """A table of plain rows."""
    return Table(
        head=tuple(head),
        rows=tuple(
            Row(tuple(visible(cell, 400 if k in long else 120) for k, cell in enumerate(row)))
            for row in rows
        ),
        caption=caption,
        texts=texts,
        long=frozenset(long),
    )
