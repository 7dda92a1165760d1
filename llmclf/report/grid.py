"""A table as values, made once and rendered in several ways (:mod:`llmclf.report.render`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmclf.config import plain
from llmclf.report.words import INTERVAL, MEAN, MISSING, TEXT, Kind


@dataclass(frozen=True)
class Column:
    """A column of values of one kind; None is what was not measured."""

    title: str
    """Title, with the unit of the values where they have one."""
    kind: Kind = TEXT
    best: Callable[[Iterable[float]], float] | None = None
    """Which end is better, max or min; None where neither is."""

    def text(self, value: Any) -> str:
        """The value as people read it, on one line."""
        return MISSING if value is None else plain(self.kind.show(value))

    def compared(self, value: Any) -> Any:
        """What the best is chosen by: a mean without its deviation."""
        return (value[0], None) if self.kind is MEAN and value is not None else value


RUN = Column("run")
CONFIDENCE = Column("95% interval", INTERVAL)


@dataclass(frozen=True)
class Grid:
    """A table of values."""

    name: str
    """File name of its CSV."""
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""
    styles: Mapping[str, str] = field(default_factory=dict)
    """First cell -> recommended or published, of the rows that stand out on a page."""

    def cells(self) -> list[list[tuple[str, bool]]]:
        """Text of each cell, and whether it is the best of its column as far as digits show."""
        best = [self._best(index) for index in range(len(self.columns))]
        return [
            [
                (column.text(value), column.text(column.compared(value)) == text)
                for column, value, text in zip(self.columns, row, best, strict=True)
            ]
            for row in self.rows
        ]

    def _best(self, index: int) -> str | None:
        column = self.columns[index]
        known = [column.compared(row[index]) for row in self.rows if row[index] is not None]
        if column.best is None or len(known) < 2:
            return None
        return column.text(column.best(known))

    def place(self, title: str) -> int:
        """Index of a column. Raises ValueError where there is none."""
        return [column.title for column in self.columns].index(title)

    def values(self, title: str) -> list[Any]:
        """All values of a column."""
        index = self.place(title)
        return [row[index] for row in self.rows]

    def only(self, titles: Sequence[str]) -> Grid:
        """The table with these columns alone, in this order; those that there are."""
        places = {column.title: i for i, column in enumerate(self.columns)}
        kept = [places[title] for title in titles if title in places]
        return replace(
            self,
            columns=tuple(self.columns[i] for i in kept),
            rows=tuple(tuple(row[i] for i in kept) for row in self.rows),
        )

    def without(self, *titles: str) -> Grid:
        """The table with all columns but these."""
        return self.only([c.title for c in self.columns if c.title not in titles])

    def where(self, title: str, value: Any) -> Grid:
        """The table with the rows of this value alone."""
        index = self.place(title)
        return replace(self, rows=tuple(row for row in self.rows if row[index] == value))

    def measured(self) -> Grid:
        """The table with the columns that have a value; the note names the others."""
        absent = [c.title for c in self.columns if all(v is None for v in self.values(c.title))]
        if not absent or not self.rows:
            return self
        told = f"Measured in no run: {', '.join(absent)}."
        return replace(self.without(*absent), note=f"{self.note} {told}".lstrip())

    def pivot(self, down: str, across: str, value: str, beside: Sequence[str] = ()) -> Grid:
        """A table with a row for each value of the column ``down`` and a column for each value of
        ``across``, filled with ``value``; ``beside``: columns that tell more of ``down``."""
        first = [self.place(title) for title in (down, *beside)]
        head, cell = self.place(across), self.place(value)
        heads = dict.fromkeys(self.values(across))
        told: dict[Any, list[Any]] = {}
        values: dict[Any, dict[Any, Any]] = {}
        for row in self.rows:
            told.setdefault(row[first[0]], [row[i] for i in first])
            values.setdefault(row[first[0]], {})[row[head]] = row[cell]
        columns = [self.columns[i] for i in first]
        columns += [replace(self.columns[cell], title=str(name)) for name in heads]
        rows = tuple((*told[key], *map(of.get, heads)) for key, of in values.items())
        return replace(self, columns=tuple(columns), rows=rows)
