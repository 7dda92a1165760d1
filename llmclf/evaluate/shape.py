"""Intervals of scores that count right and wrong rows: of a beta distribution.

Near 1, and with few rows of each label, resamples of the rows mislead: rows all right say nothing
of a wrong one, and a label of five rows scores lower in most resamples than its truth. So the score
gets a beta distribution of its mean and variance: on accuracy nearly that of Bayes and Laplace,
Beta(right + 1, wrong + 1). In general its size is the effective number of rows (Kish 1965), as in
the intervals of Korn and Graubard (1998). The variance is the jackknife's (Efron and Stein 1981),
which is on the wide side. Half of the bias that the jackknife tells is taken off: the rest comes of
other numbers of rows of each label. Two rows that were not seen, one right and one wrong, of a
label at random, have their part in mean and variance. ``bench/statistics_calibration.py`` counts
how often the truth is in such intervals.
C: labels, K: columns of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from llmclf.evaluate.columns import ScoreColumns

COUNTED = ("macro_f1", "macro_f1_present", "accuracy", "weighted_f1", "mcc")
"""The scores that count right and wrong rows."""
LEAST_VARIANCE = 1e-16
"""Of what cannot vary, such as the Matthews correlation of one answer to all."""
LEAST_SIZE = 2.0
"""Of a uniform distribution, of which nothing is known."""


@dataclass(frozen=True)
class Unseen:
    """What rows that were not seen would do to a score."""

    shift: float
    """Change by two rows, one right and one wrong."""
    squared: float
    """Sum of the squared changes by each of the two."""

    @classmethod
    def mean(cls, of: Sequence[Unseen]) -> Unseen:
        """The mean over seeds or folds."""
        return cls(float(np.mean([u.shift for u in of])), float(np.mean([u.squared for u in of])))


@dataclass(frozen=True)
class Beta:
    """A beta distribution from ``low`` to ``low + width``."""

    a: float
    b: float
    low: float
    width: float

    def quantiles(self, *levels: float) -> np.ndarray:
        """The values below which so much of it lies."""
        return np.asarray(self.low + self.width * betaincinv(self.a, self.b, levels))

    def draws(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Random values of it, (count,)."""
        return self.low + self.width * rng.beta(self.a, self.b, count)


def unseen(columns: ScoreColumns, sums_K: np.ndarray, rows: int) -> dict[str, Unseen]:
    """What a right and a wrong row would do to each score, in the mean over the labels."""
    labels = len(columns.absent_C)
    given, support = sums_K[labels : 2 * labels], sums_K[2 * labels : 3 * labels]
    right, wrong = np.zeros((2, labels, len(sums_K)))
    one = np.eye(labels)
    right[:, : 3 * labels] = np.tile(one, 3)
    right[:, 3 * labels] = 1
    # A label is given where it is usually given; beside one that is always given, any other.
    others = np.where(one > 0, 0, given)
    others = np.where(others.any(axis=1, keepdims=True), others, np.where(one > 0, 0, support))
    wrong[:, labels : 2 * labels] = others / np.maximum(others.sum(axis=1, keepdims=True), 1)
    wrong[:, 2 * labels : 3 * labels] = one
    known = support > 0 if support.any() else np.ones(labels, bool)
    more = [right[known], wrong[known]]
    found = _changes(columns, sums_K, more, rows)
    unvaried = [_unvaried(columns, given, lines, rows) for lines in more]
    return found | {"mcc": _changes(columns, sums_K, unvaried, rows)["mcc"]}


def _changes(
    columns: ScoreColumns, sums_K: np.ndarray, more: Sequence[np.ndarray], rows: int
) -> dict[str, Unseen]:
    """What the lines of two rows more do to each score, in their mean."""
    now = columns.scores(sums_K[None], rows)
    both = columns.scores(sums_K + more[0] + more[1], rows + 2)
    each = [columns.scores(sums_K + lines, rows + 1) for lines in more]
    return {
        metric: Unseen(
            shift=float((both[metric] - now[metric]).mean()),
            squared=float(sum(((of[metric] - now[metric]) ** 2).mean() for of in each)),
        )
        for metric in COUNTED
    }


def _unvaried(
    columns: ScoreColumns, given_C: np.ndarray, lines: np.ndarray, rows: int
) -> np.ndarray:
    """The lines, but what is always or never given is so in them, too: the Matthews correlation of
    such answers is 0 by definition, and one other answer would make it jump."""
    labels, always = len(given_C), given_C == rows
    same = (given_C == 0) | always if columns.multilabel else np.full(labels, always.any())
    hit, given, true = (lines[:, i * labels : (i + 1) * labels] for i in range(3))
    given = np.where(same, always, given)
    hit = np.where(same, always * true, hit)
    return np.concatenate([hit, given, lines[:, 2 * labels :]], axis=1)


def variance(jackknifes: Sequence[np.ndarray]) -> float:
    """Variance that the rows give a mean over folds. ``jackknifes``: of each fold the score without
    each of its rows, (N,)."""
    return sum((len(j) - 1) * float(j.var()) for j in jackknifes) / len(jackknifes) ** 2


def shape(
    values: Sequence[float],
    jackknifes: Sequence[np.ndarray],
    unseens: Sequence[Unseen],
    bounds: tuple[float, float],
) -> Beta:
    """The distribution of a mean over folds of a score, between the score's ``bounds``.

    ``values``: of each fold the score; ``jackknifes``: the score without each of its rows, (N,).
    """
    folds, (low, high) = len(values), bounds
    width = high - low
    biases = [(len(j) - 1) * (j.mean() - v) for v, j in zip(values, jackknifes, strict=True)]
    more = Unseen.mean(unseens)
    centre = (np.mean(values) + more.shift / folds - low) / width
    half = -np.mean(biases) / 2 / width
    mean = centre + np.clip(half, -centre / 2, (1 - centre) / 2)
    squared = (variance(jackknifes) + more.squared / folds**2) / width**2
    size = max(float(mean * (1 - mean) / max(squared, LEAST_VARIANCE)), LEAST_SIZE)
    return Beta(mean * size, (1 - mean) * size, low, width)
