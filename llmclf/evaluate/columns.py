"""Every score as a function of column sums, so that thousands of resamples cost a matrix product.

Each row contributes a line of numbers; a resample adds up some lines, and the sums give all scores.
N: rows, K: columns, C: labels, R: resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import ECE_BINS, brier_by_row, decisions, nll_by_row

METRICS = (
    "macro_f1", "macro_f1_present", "accuracy", "weighted_f1", "mcc", "nll", "brier", "ece",
)  # fmt: skip
SUMS = 3 + ECE_BINS  # right rows, nll, brier, and the calibration gap of each bin


@dataclass(frozen=True, eq=False)
class ScoreColumns:
    """What each row adds to the scores of one set of predictions."""

    lines_NK: np.ndarray
    """What each row adds, float32: true positives (C), predicted (C), support (C), then SUMS
    others."""
    multilabel: bool
    absent_C: np.ndarray
    """Whether a label is one that no row has, bool: the same for all methods of these rows."""

    @classmethod
    def of(cls, predictions: Predictions) -> ScoreColumns:
        """The contributions of all rows, in their order."""
        labels, rows = len(predictions.labels), len(predictions.ids)
        targets, predicted = predictions.targets, predictions.predicted
        if predictions.multilabel:
            true, given = targets > 0, predicted > 0
            right = (true == given).all(axis=1)
        else:
            true = targets[:, None] == np.arange(labels)
            given = predicted[:, None] == np.arange(labels)
            right = targets == predicted
        confidence, hits, bins = decisions(predictions)
        gaps = np.zeros((rows, ECE_BINS))
        each = len(bins) // rows  # decisions of a row
        np.add.at(gaps, (np.arange(len(bins)) // each, bins), (hits - confidence) / each)
        others = [right, nll_by_row(predictions), brier_by_row(predictions)]
        lines = np.concatenate(
            [true & given, given, true, np.stack(others, axis=1), gaps], axis=1, dtype=np.float32
        )
        return cls(lines, predictions.multilabel, np.logical_not(true.any(axis=0)))

    def scores(self, sums_RK: np.ndarray, rows: np.ndarray | float) -> dict[str, np.ndarray]:
        """All METRICS, each float64 (R,), from sums over resamples of ``rows`` rows, (R,) or one
        number for all; NaN for a resample of no row.

        As :func:`llmclf.evaluate.scores.score` has them, but for a label that the data have and a
        resample lacks: it is left out of that resample's macro-F1. A zero would say of the method
        what is due to the draw. One that no row has counts 0 in each, given or not.
        """
        sums_RK, rows = sums_RK.astype(np.float64), np.asarray(rows, dtype=np.float64)
        labels = len(self.absent_C)
        hit, given, true = (sums_RK[:, i * labels : (i + 1) * labels] for i in range(3))
        right, nll, brier = sums_RK[:, 3 * labels : 3 * labels + 3].T
        gaps = sums_RK[:, 3 * labels + 3 :]
        f1 = 2 * hit / np.maximum(true + given, 1)
        present = true + given > 0
        counted = present | self.absent_C
        return {
            "macro_f1": f1.sum(axis=1) / np.maximum(counted.sum(axis=1), 1),
            "macro_f1_present": f1.sum(axis=1) / np.maximum(present.sum(axis=1), 1),
            "accuracy": right / rows,
            "weighted_f1": (f1 * true).sum(axis=1) / np.maximum(true.sum(axis=1), 1),
            "mcc": self._matthews(hit, given, true, rows[..., None] if self.multilabel else rows),
            "nll": nll / rows,
            "brier": brier / rows,
            "ece": np.abs(gaps).sum(axis=1) / rows,
        }

    def _matthews(
        self, hit: np.ndarray, given: np.ndarray, true: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Matthews correlation R_K of Gorodkin (2004); when multilabel the mean over the labels."""
        if self.multilabel:
            covariance = hit * rows - true * given
            spread = true * (rows - true) * given * (rows - given)
        else:
            unanswered = rows - given.sum(axis=1)
            covariance = hit.sum(axis=1) * rows - (true * given).sum(axis=1)
            spread = (rows**2 - (true**2).sum(axis=1)) * (
                rows**2 - (given**2).sum(axis=1) - unanswered**2
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = np.where(spread > 0, covariance / np.sqrt(spread), 0.0)
        return correlation.mean(axis=1) if self.multilabel else correlation
