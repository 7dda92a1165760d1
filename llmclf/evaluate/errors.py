"""Where a method goes wrong: on which rows, on which lengths, and where the label may be wrong.

Nothing here depends on the order of the rows: ties are broken by id. N: rows, C: labels.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmclf.evaluate.align import aligned
from llmclf.evaluate.columns import ScoreColumns
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score

TOLERANCE = 1e-6
"""Tolerance of comparing a probability with a mean of probabilities, as cleanlab has it."""


@dataclass(frozen=True, kw_only=True)
class ConfidentError:
    """A test row that was classified wrongly with confidence."""

    id: str
    text: str | None
    """Text of the row; None where the run folder does not hold the texts."""
    label: str
    """The given label; when multilabel several joined by ", ", and empty for none."""
    predicted: str
    confidence: float


@dataclass(frozen=True, kw_only=True)
class SuspectLabel:
    """A row whose given label a method contradicts (confident joint, Northcutt et al. 2021)."""

    id: str
    text: str | None
    label: str
    suggested: str
    confidence: float
    """Probability of the suggested label; when multilabel, of the surest label to change."""
    given: float
    """Probability of the given label; when multilabel, 1 - ``confidence``."""


@dataclass(frozen=True, kw_only=True)
class LengthBucket:
    """Test rows of similar length."""

    low: int
    high: int
    """Words of the longest text; both ends are included."""
    rows: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, kw_only=True)
class SeenRows:
    """Test rows that training or validation rows repeat, nearly or wholly."""

    rows: int
    kinds: dict[str, int]
    """Kind of repeat (exact, normalised as the audit has it, near) -> rows."""
    score: float
    """Score of all test rows, in the report's metric."""
    score_without: float | None
    """Score of the rows that were not seen; None where every row was."""


@dataclass(frozen=True, kw_only=True)
class ConfusionDifference:
    """Rows of one label that two methods took for another one, not equally often."""

    label: str
    predicted: str | None
    """Label that was given instead; None where none was (an invalid answer)."""
    rows_a: int
    rows_b: int


def confident_errors(
    predictions: Predictions, texts: Sequence[str] | None, *, most: int = 20
) -> tuple[ConfidentError, ...]:
    """Return the ``most`` errors with the highest confidence, the highest first.

    Multilabel: a row with a wrong label, given or missed; its confidence is that of the surest
    wrong decision (p of a label given, 1 - p of one left out). An invalid row is no confident
    error: no label was given. ``texts``: of the rows, in their order.
    """
    p, predicted = predictions.probabilities, predictions.predicted
    wrong = predicted != predictions.targets
    if predictions.multilabel:
        sure = np.where(wrong, np.where(predicted == 1, p, 1 - p), -1.0).max(axis=1)
        rows = np.flatnonzero(wrong.any(axis=1))
    else:
        sure = p.max(axis=1)
        rows = np.flatnonzero(wrong & (predicted >= 0))
    return tuple(
        ConfidentError(
            id=predictions.ids[row],
            text=None if texts is None else texts[row],
            label=_names(predictions, predictions.targets[row]),
            predicted=_names(predictions, predicted[row]),
            confidence=float(sure[row]),
        )
        for row in _lowest(-sure, rows, predictions.ids, most)
    )


def suspect_labels(
    predictions: Predictions, texts: Sequence[str] | None, *, most: int = 20
) -> tuple[SuspectLabel, ...]:
    """Return the ``most`` rows whose label is least likely right, by confident learning.

    Northcutt, Jiang and Chuang (2021), "Confident Learning: Estimating Uncertainty in Dataset
    Labels", JAIR 70: a row counts for a label whose probability reaches the mean that rows given
    that label have; rows that count for another label than their own are suspects, the lowest
    normalised margin (p of the given label less the highest other p) first. As in cleanlab's
    ``find_label_issues(filter_by="confident_learning")``, a row that reaches several labels counts
    for its likeliest, and none is suspect whose given label is the likeliest.

    Multilabel: each label is a question of its own with the answers yes and no; a row is ranked by
    its lowest margin, and all its suspect answers are changed in what is suggested. Invalid rows
    are left out. Sound only for rows that the method was not trained on, as test rows are.
    """
    if predictions.multilabel:
        suggested, margin = _suggested_sets(predictions)
        suspect = (suggested != predictions.targets).any(axis=1)
    else:
        valid = np.ones(len(predictions.ids), dtype=bool)
        if predictions.invalid is not None:
            valid = ~predictions.invalid
        suggested = predictions.targets.copy()
        margin = np.zeros(len(valid))
        suggested[valid], margin[valid] = _confident_labels(
            predictions.targets[valid], predictions.probabilities[valid]
        )
        suspect = suggested != predictions.targets
    rows = _lowest(margin, np.flatnonzero(suspect), predictions.ids, most)
    return tuple(_suspect(predictions, texts, row, suggested[row]) for row in rows)


def _suspect(
    predictions: Predictions, texts: Sequence[str] | None, row: int, suggested: np.ndarray
) -> SuspectLabel:
    target, p = predictions.targets[row], predictions.probabilities[row]
    if predictions.multilabel:
        confidence = np.where(suggested == 1, p, 1 - p)[suggested != target].max()
        given = 1 - confidence
    else:
        confidence, given = p[suggested], p[target]
    return SuspectLabel(
        id=predictions.ids[row],
        text=None if texts is None else texts[row],
        label=_names(predictions, target),
        suggested=_names(predictions, suggested),
        confidence=float(confidence),
        given=float(given),
    )


def _confident_labels(targets: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label that each row should rather have (its own if it is no suspect), int64 (N,), and margin
    of the given one, (N,)."""
    rows, labels = np.arange(len(targets)), p.shape[1]
    given = p[rows, targets]
    counts = np.bincount(targets, minlength=labels)
    means = np.bincount(targets, weights=given, minlength=labels) / np.maximum(counts, 1)
    # A label that no row was given has no mean, and none is counted for it.
    thresholds = np.where(counts > 0, np.maximum(means, 2 * TOLERANCE), 2)
    reached = p >= thresholds - TOLERANCE
    number, likeliest = reached.sum(axis=1), p.argmax(axis=1)
    counted = np.where(number > 1, likeliest, reached.argmax(axis=1))
    others = p.copy()
    others[rows, targets] = -1
    margin = given - others.max(axis=1)
    others[rows, targets] = given + TOLERANCE
    suspect = (number > 0) & (counted != targets) & (others.argmax(axis=1) != targets)
    return np.where(suspect, counted, targets), margin


def _suggested_sets(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Targets (N, C) with each suspect answer changed, and the lowest margin of each row (N,)."""
    suggested, lowest = predictions.targets.copy(), np.full(len(predictions.ids), np.inf)
    for column, p in enumerate(predictions.probabilities.T):
        p = np.minimum(p, 1)
        answers = predictions.targets[:, column].astype(np.int64)
        rather, margin = _confident_labels(answers, np.column_stack([1 - p, p]))
        suggested[:, column] = rather
        lowest = np.minimum(lowest, np.where(rather != answers, margin, np.inf))
    return suggested, lowest


def length_buckets(
    predictions: Predictions, words: Sequence[int] | np.ndarray, *, buckets: int = 5
) -> tuple[LengthBucket, ...]:
    """Scores of the shortest to the longest rows, in at most ``buckets`` of about equal size.

    ``words``: of each row, in their order. Rows of equal length stay together, so buckets are fewer
    and uneven where many are equal. ``macro_f1`` is the mean over the labels that rows of the
    bucket have; 0 where they have none.
    """
    lengths = np.asarray(words)
    assert lengths.shape == (len(predictions.ids),) and buckets > 0
    last = np.ceil(len(lengths) * np.arange(1, buckets + 1) / buckets).astype(np.int64) - 1
    ends = np.unique(np.sort(lengths)[np.maximum(last, 0)])
    bucket = np.searchsorted(ends, lengths)
    return tuple(
        _length_bucket(predictions, lengths, np.flatnonzero(bucket == number))
        for number in range(len(ends))
    )


def _length_bucket(predictions: Predictions, lengths: np.ndarray, rows: np.ndarray) -> LengthBucket:
    scores = score(predictions.take(rows))
    f1 = [label["f1"] for label in scores["per_label"].values() if label["support"]]
    return LengthBucket(
        low=int(lengths[rows].min()),
        high=int(lengths[rows].max()),
        rows=len(rows),
        accuracy=scores["accuracy"],
        macro_f1=float(np.mean(f1)) if f1 else 0.0,
    )


def seen_rows(
    predictions: Predictions, seen: Mapping[str, str] | Sequence[str | None], metric: str
) -> SeenRows | None:
    """Scores with and without the rows that training or validation rows repeat; None without any.

    ``seen``: kind by id (ids of other rows are ignored), or of each row in their order. ``metric``:
    one of :data:`llmclf.evaluate.columns.METRICS`. A label that only seen rows have is left out of
    macro-F1 without them, as it is of a resample: a zero would say of the method what is due to
    the choice of rows.
    """
    kinds = [seen.get(i) for i in predictions.ids] if isinstance(seen, Mapping) else list(seen)
    assert len(kinds) == len(predictions.ids)
    counts = Counter(kind for kind in kinds if kind is not None)
    if not counts:
        return None
    columns, others = ScoreColumns.of(predictions), np.array([kind is None for kind in kinds])
    rest = columns.lines_NK[others].sum(axis=0, dtype=np.float64)[None]
    return SeenRows(
        rows=sum(counts.values()),
        kinds=dict(sorted(counts.items())),
        score=float(score(predictions)[metric]),
        score_without=float(columns.scores(rest, others.sum())[metric][0])
        if others.any()
        else None,
    )


def confusion_differences(
    a: Predictions, b: Predictions, *, most: int = 10
) -> tuple[ConfusionDifference, ...]:
    """Return the ``most`` confusions whose number of rows differs most between two methods.

    Rows are matched by id and labels by name, in any order; right answers are no confusion. Empty
    when multilabel, where one label is not taken for another. Raises DataError unless both have the
    same rows with the same labels.
    """
    if a.multilabel or b.multilabel:
        return ()
    aligned(a, b, "the second method")  # refuses others; the order of labels may decide a tie
    columns = [b.labels.index(label) for label in a.labels]
    counts_a, counts_b = _confusions(a), _confusions(b)[np.ix_(columns, [*columns, -1])]
    gap = np.abs(counts_a - counts_b)
    np.fill_diagonal(gap, 0)
    names = (*a.labels, None)
    differing = [
        ConfusionDifference(
            label=a.labels[true],
            predicted=names[guess],
            rows_a=int(counts_a[true, guess]),
            rows_b=int(counts_b[true, guess]),
        )
        for true, guess in np.argwhere(gap)
    ]
    return tuple(heapq.nsmallest(most, differing, key=_smallest_difference_last))


def _smallest_difference_last(cell: ConfusionDifference) -> tuple[int, str, str]:
    return -abs(cell.rows_a - cell.rows_b), cell.label, cell.predicted or ""


def _confusions(predictions: Predictions) -> np.ndarray:
    """Counts by true and predicted label, int64 (C, C + 1); the last column counts invalid rows."""
    size, predicted = len(predictions.labels), predictions.predicted
    cell = predictions.targets * (size + 1) + np.where(predicted < 0, size, predicted)
    return np.bincount(cell, minlength=size * (size + 1)).reshape(size, size + 1)


def _names(predictions: Predictions, decision: np.ndarray) -> str:
    """Name of a label index, or the names of a row of 0 and 1 joined."""
    if predictions.multilabel:
        return ", ".join(predictions.labels[c] for c in np.flatnonzero(decision))
    return predictions.labels[int(decision)]


def _lowest(values: np.ndarray, rows: np.ndarray, ids: list[str], most: int) -> list[int]:
    """The ``most`` of ``rows`` with the lowest value, the lowest first; by id on a tie."""
    most = min(most, len(rows))
    if most == 0:
        return []
    limit = np.partition(values[rows], most - 1)[most - 1]
    candidates = rows[values[rows] <= limit].tolist()
    return heapq.nsmallest(most, candidates, key=lambda row: (values[row], ids[row]))
