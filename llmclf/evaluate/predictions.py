"""What every method ends in: one row of probabilities per classified text, as a Parquet file.

N: rows, C: labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmclf.atomic import replaced
from llmclf.config import DataError

PREFIX = "p_"
THRESHOLDS = "thresholds"
"""Key of the thresholds in the file's metadata."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities of one split, with the true labels. Raises ValueError when they disagree."""

    ids: list[str]
    """Unique name of each row (N)."""
    labels: tuple[str, ...]
    """Label names in column order (C)."""
    targets: np.ndarray
    """True labels, int64 (N,) indices into labels; float32 (N, C) of 0 and 1 when multilabel."""
    probabilities: np.ndarray
    """Probabilities of the labels, float64 (N, C); each row sums to 1 unless multilabel."""
    scored_by: str
    """How the probabilities came about, such as "softmax" or "softmax of margins"."""
    multilabel: bool = False
    """Whether a row may have any number of labels."""
    invalid: np.ndarray | None = None
    """Whether a row was given no label, bool (N,), such as by a model whose answer is none. Its
    probabilities are uniform. None where every row gets one."""
    thresholds: tuple[float, ...] | None = None
    """Least probability of each label to be given (C), when multilabel; None: 0.5 for all."""
    row_thresholds: np.ndarray | None = None
    """The same for each row, float64 (N, C), where predictions of several runs are in one."""

    def __post_init__(self) -> None:
        rows, columns = len(self.ids), len(self.labels)
        shape = (rows, columns) if self.multilabel else (rows,)
        _require(rows > 0, "there are no rows")
        _require(len(set(self.ids)) == rows, "an id occurs twice")
        _require(len(set(self.labels)) == columns, "a label occurs twice")
        _require(self.targets.shape == shape, f"targets: {self.targets.shape}, expected {shape}")
        _require(
            self.probabilities.shape == (rows, columns),
            f"probabilities: {self.probabilities.shape}, expected {(rows, columns)}",
        )
        _require(self.probabilities.dtype == np.float64, "probabilities are not float64")
        p = self.probabilities
        # A NaN fails the comparison, so this refuses what is not finite, too.
        _require(bool(np.all((p >= 0) & (p <= 1 + 1e-6))), "a probability is not between 0 and 1")
        if self.invalid is not None:
            self._check_invalid(self.invalid)
        if self.thresholds is not None:
            _require(self.multilabel, "thresholds are for multilabel")
            good = len(self.thresholds) == columns and all(0 < t < 1 for t in self.thresholds)
            _require(good, f"thresholds: {self.thresholds}, expected {columns} between 0 and 1")
        if self.multilabel:
            _require(bool(np.isin(self.targets, (0, 1)).all()), "a target is neither 0 nor 1")
            return
        _require(bool(np.allclose(p.sum(axis=1), 1, rtol=0, atol=1e-6)), "a row's sum is not 1")
        valid = np.issubdtype(self.targets.dtype, np.integer) and self.targets.min() >= 0
        _require(valid and self.targets.max() < columns, "a target is no index into labels")

    def _check_invalid(self, invalid: np.ndarray) -> None:
        _require(not self.multilabel, "invalid rows are not for multilabel")
        good = invalid.shape == (len(self.ids),) and invalid.dtype == np.bool_
        _require(
            good, f"invalid: {invalid.dtype} {invalid.shape}, expected bool ({len(self.ids)},)"
        )
        even = np.allclose(self.probabilities[invalid], 1 / len(self.labels), rtol=0, atol=1e-6)
        _require(bool(even), "the probabilities of an invalid row are not uniform")

    @property
    def predicted(self) -> np.ndarray:
        """Decision for each row, shaped and typed as ``targets``.

        The likeliest label, the first one on a tie, and -1 for an invalid row; when multilabel, all
        with p of their threshold or more.
        """
        if self.multilabel:
            return (self.probabilities >= self.least).astype(self.targets.dtype)
        likeliest = self.probabilities.argmax(axis=1)
        return likeliest if self.invalid is None else np.where(self.invalid, -1, likeliest)

    @property
    def least(self) -> np.ndarray:
        """Least probability of each label to be given, when multilabel, (C,) or (N, C)."""
        if self.row_thresholds is not None:
            return self.row_thresholds
        return (
            np.full(len(self.labels), 0.5) if self.thresholds is None else np.array(self.thresholds)
        )

    def take(self, rows: np.ndarray | Sequence[int]) -> Predictions:
        """Predictions of the rows at these indices, in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            targets=self.targets[rows],
            probabilities=self.probabilities[rows],
            invalid=None if self.invalid is None else self.invalid[rows],
            row_thresholds=None if self.row_thresholds is None else self.row_thresholds[rows],
        )

    def with_labels(self, labels: Sequence[str]) -> Predictions:
        """The predictions with the labels in this order. Raises ValueError unless they are the
        same."""
        _require(sorted(labels) == sorted(self.labels), f"labels: {labels}, not {self.labels}")
        columns = [self.labels.index(label) for label in labels]
        thresholds = self.thresholds and tuple(self.thresholds[c] for c in columns)
        of_rows = self.row_thresholds
        # Where in the new order each old column stands.
        place = np.argsort(columns)
        targets = self.targets[:, columns] if self.multilabel else place[self.targets]
        return replace(
            self,
            labels=tuple(labels),
            targets=targets,
            probabilities=self.probabilities[:, columns],
            thresholds=thresholds,
            row_thresholds=None if of_rows is None else of_rows[:, columns],
        )

    def write(self, path: Path) -> None:
        """Write Parquet: ``id``, ``label`` (a list when multilabel), ``p_<label>``, ``scored_by``,
        and ``invalid`` where it is given; ``thresholds`` are in the file's metadata.

        The file is either whole or absent.
        """
        names: list = (
            [self.labels[i] for i in self.targets.tolist()]
            if not self.multilabel
            else [[self.labels[i] for i in np.flatnonzero(row)] for row in self.targets]
        )
        text = pa.string()
        columns = {
            "id": pa.array(self.ids, text),
            "label": pa.array(names, pa.list_(text) if self.multilabel else text),
            **{PREFIX + n: pa.array(self.probabilities[:, i]) for i, n in enumerate(self.labels)},
            "scored_by": pa.array([self.scored_by] * len(self.ids), text),
            **({} if self.invalid is None else {"invalid": pa.array(self.invalid)}),
        }
        table = pa.table(columns)
        if self.thresholds is not None:
            table = table.replace_schema_metadata({THRESHOLDS: json.dumps(self.thresholds)})
        with replaced(path) as temporary:
            pq.write_table(table, temporary)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read what :meth:`write` wrote. Raises DataError, naming the file, if it is not that."""
        try:
            return cls._from_table(pq.read_table(path, partitioning=None))
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            reason = f"no column for label {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f"{path}: not a file of predictions ({reason}). Expected Parquet with the columns "
                f"id, label, one {PREFIX}<label> per label, scored_by; let its run write it again."
            ) from error

    @classmethod
    def _from_table(cls, table: pa.Table) -> Predictions:
        missing = [n for n in ("id", "label", "scored_by") if n not in table.column_names]
        _require(not missing, f"no column {', '.join(missing)}")
        label = table["label"]
        multilabel = pa.types.is_list(label.type) or pa.types.is_large_list(label.type)
        labels = tuple(n[len(PREFIX) :] for n in table.column_names if n.startswith(PREFIX))
        index = {name: i for i, name in enumerate(labels)}
        if multilabel:
            targets = np.zeros((len(table), len(labels)), dtype=np.float32)
            for row, names in enumerate(label.to_pylist()):
                targets[row, [index[name] for name in names]] = 1
        else:
            targets = np.array([index[name] for name in label.to_pylist()], dtype=np.int64)
        scored_by = table["scored_by"].unique().to_pylist()
        _require(len(scored_by) == 1, f"scored_by holds {len(scored_by)} values, not one")
        columns = [table[PREFIX + name].to_numpy() for name in labels]
        return cls(
            ids=table["id"].to_pylist(),
            labels=labels,
            targets=targets,
            probabilities=np.stack(columns, axis=1).astype(np.float64),
            scored_by=scored_by[0],
            multilabel=multilabel,
            invalid=_flags(table["invalid"]) if "invalid" in table.column_names else None,
            thresholds=_thresholds(table),
        )


def _thresholds(table: pa.Table) -> tuple[float, ...] | None:
    stored = (table.schema.metadata or {}).get(THRESHOLDS.encode())
    return None if stored is None else tuple(map(float, json.loads(stored)))


def _flags(column: pa.ChunkedArray) -> np.ndarray:
    _require(pa.types.is_boolean(column.type), f"invalid: {column.type}, expected bool")
    _require(column.null_count == 0, "invalid: a value is missing")
    return column.to_numpy()


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)
