"""Runs on the same rows and labels brought to one order, whatever order a run wrote them in."""

from __future__ import annotations

import numpy as np

from llmclf.config import DataError
from llmclf.evaluate.predictions import Predictions
from llmclf.invisible import quoted


def aligned(reference: Predictions, other: Predictions, name: str) -> Predictions:
    """The predictions ``other`` with the rows and labels in the order of ``reference``.

    Raises DataError, naming ``name``, unless both have the same rows, true labels and label names.
    """
    if sorted(reference.labels) != sorted(other.labels):
        differing = ", ".join(sorted(set(reference.labels) ^ set(other.labels)))
        raise DataError(f"{name}: other labels than the first method: {differing}.")
    if reference.multilabel != other.multilabel:
        raise DataError(f"{name}: one method gives a row one label, another one several.")
    place = {id_: row for row, id_ in enumerate(other.ids)}
    missing = [id_ for id_ in reference.ids if id_ not in place]
    if missing or len(reference.ids) != len(other.ids):
        example = f", such as {quoted(missing[0])}" if missing else ""
        raise DataError(
            f"{name}: other rows than the first method: {len(reference.ids):,} and "
            f"{len(other.ids):,}, {len(missing):,} of the first are missing{example}."
        )
    if reference.ids != other.ids:
        other = other.take([place[id_] for id_ in reference.ids])
    if reference.labels != other.labels:
        other = other.with_labels(reference.labels)
    wrong = (reference.targets != other.targets).reshape(len(other.ids), -1).any(axis=1)
    if wrong.any():
        row = reference.ids[int(np.flatnonzero(wrong)[0])]
        raise DataError(
            f"{name}: {int(wrong.sum()):,} rows have another true label than in the first method, "
            f"such as {quoted(row)}."
        )
    return other
