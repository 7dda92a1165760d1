"""Scores of the results file, from counts and probabilities; none of them is ever NaN.

N: rows, C: labels. A ratio without cases (a label never predicted, say) counts as 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmclf.evaluate.predictions import Predictions

ECE_BINS = 15


def score(predictions: Predictions) -> dict[str, Any]:
    """Return the scores of one split as plain JSON values.

    ``macro_f1`` is the mean over all labels, absent ones counting 0; ``macro_f1_present`` the mean
    over those that a row has or is given, as scikit-learn's ``f1_score(average="macro")`` has it of
    single labels; ``weighted_f1`` weighs by support. ``confusion[i][j]`` counts rows of label
    i predicted as label j.

    Multilabel: ``accuracy`` asks for the exact set of labels, ``mcc`` is the mean over labels,
    ``nll`` the mean over rows and labels, ``ece`` takes each label of each row as one yes-or-no
    decision, and ``confusion`` holds [[tn, fp], [fn, tp]] for each label.

    Invalid rows (``predictions.invalid``) count as wrong: they lower accuracy and recall, leave
    precision as it is, stand in no cell of ``confusion``, and are a column of their own in ``mcc``.
    Their number is ``invalid``, a key that other predictions lack.
    """
    hits, confusion = _hits(predictions), _confusion(predictions)
    unanswered = _unanswered(predictions)
    per_label = _per_label(predictions.labels, confusion, unanswered, predictions.multilabel)
    f1 = np.array([row["f1"] for row in per_label.values()])
    support = np.array([row["support"] for row in per_label.values()])
    present = (support > 0) | _given(predictions)
    if predictions.multilabel:
        tables = confusion
    else:
        tables = np.pad(confusion, (0, 1))[None]
        tables[0, :-1, -1] = unanswered
    invalid = {} if predictions.invalid is None else {"invalid": int(unanswered.sum())}
    return {
        "n": len(predictions.ids),
        "accuracy": float(hits.all(axis=1).mean()),
        "macro_f1": float(f1.mean()),
        "macro_f1_present": float(f1[present].mean()) if present.any() else 0.0,
        "weighted_f1": float(f1 @ support / max(support.sum(), 1)),
        "mcc": float(np.mean([matthews(table) for table in tables])),
        "nll": negative_log_likelihood(predictions),
        "brier": brier(predictions),
        "ece": expected_calibration_error(predictions),
        "per_label": per_label,
        "confusion": confusion.tolist(),
        **invalid,
    }


def negative_log_likelihood(predictions: Predictions) -> float:
    """Mean of -ln p(truth), in nats; p is clipped to float64's epsilon, so at most 36.04."""
    return float(nll_by_row(predictions).mean())


def nll_by_row(predictions: Predictions) -> np.ndarray:
    """Negative log-likelihood of each row, -ln p(truth), the mean over its labels when multilabel:
    float64 (N,)."""
    p, targets = predictions.probabilities, predictions.targets
    if predictions.multilabel:
        truth = np.where(targets == 1, p, 1 - p)
    else:
        truth = p[np.arange(len(p)), targets][:, None]
    return -np.log(np.clip(truth, np.finfo(np.float64).eps, 1)).mean(axis=1)


def brier(predictions: Predictions) -> float:
    """Squared error summed over labels, mean over rows: 0 to 2, as in Brier (1950).

    For two classes this is twice scikit-learn's halved binary form.
    """
    return float(brier_by_row(predictions).mean())


def brier_by_row(predictions: Predictions) -> np.ndarray:
    """Squared error of each row summed over labels: float64 (N,)."""
    error = predictions.probabilities.copy()
    if predictions.multilabel:
        error -= predictions.targets
    else:
        error[np.arange(len(error)), predictions.targets] -= 1
    return (error**2).sum(axis=1)


def expected_calibration_error(predictions: Predictions) -> float:
    """Mean |accuracy - confidence| over 15 equal-width bins of the top probability.

    Guo et al. (2017), equation 3; bin m is ((m - 1) / 15, m / 15].
    """
    confidence, hits, bins = decisions(predictions)
    gap = np.bincount(bins, weights=hits - confidence)
    return float(np.abs(gap).sum() / confidence.size)


def decisions(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence of each decision, whether it is right, and its bin of ECE_BINS.

    A decision is a row, or each label of each row when multilabel: there the confidence of a yes
    is p, of a no 1 - p. Returns float64, bool and int64 (D,).
    """
    p = predictions.probabilities
    if predictions.multilabel:
        confidence = np.where(predictions.predicted == 1, p, 1 - p)
    else:
        confidence = p.max(axis=1, keepdims=True)
    edges = np.linspace(0, 1, ECE_BINS + 1)[1:-1]
    bins = np.digitize(confidence.ravel(), edges, right=True)
    return confidence.ravel(), _hits(predictions).ravel(), bins


def matthews(confusion: np.ndarray) -> float:
    """Matthews correlation of a (K, K) table, R_K of Gorodkin (2004); 0 where undefined."""
    table = confusion.astype(np.float64)
    n, true, predicted = table.sum(), table.sum(axis=1), table.sum(axis=0)
    spread = (n**2 - (true**2).sum()) * (n**2 - (predicted**2).sum())
    return float((table.trace() * n - true @ predicted) / np.sqrt(spread)) if spread > 0 else 0.0


def _hits(predictions: Predictions) -> np.ndarray:
    """Whether each decision is right: bool (N, 1), or (N, C) when multilabel."""
    return (predictions.predicted == predictions.targets).reshape(len(predictions.ids), -1)


def _confusion(predictions: Predictions) -> np.ndarray:
    """Counts by true (first) and predicted (second) label: (C, C), or (C, 2, 2)."""
    true, predicted = predictions.targets, predictions.predicted
    columns = len(predictions.labels)
    if predictions.multilabel:
        cell = (4 * np.arange(columns) + 2 * true + predicted).astype(np.int64).ravel()
        return np.bincount(cell, minlength=4 * columns).reshape(columns, 2, 2)
    true, predicted = true[predicted >= 0], predicted[predicted >= 0]
    return np.bincount(true * columns + predicted, minlength=columns**2).reshape(columns, columns)


def _given(predictions: Predictions) -> np.ndarray:
    """Whether any row is given the label, bool (C,)."""
    predicted = predictions.predicted
    if predictions.multilabel:
        return np.asarray((predicted > 0).any(axis=0))
    return np.isin(np.arange(len(predictions.labels)), predicted)


def _unanswered(predictions: Predictions) -> np.ndarray:
    """Number of invalid rows by true label (C)."""
    columns = len(predictions.labels)
    if predictions.invalid is None:
        return np.zeros(columns, dtype=np.int64)
    return np.bincount(predictions.targets[predictions.invalid], minlength=columns)


def _per_label(
    labels: tuple[str, ...], confusion: np.ndarray, unanswered: np.ndarray, multilabel: bool
) -> dict[str, dict[str, Any]]:
    if multilabel:
        correct, support = confusion[:, 1, 1], confusion[:, 1].sum(axis=1)
        predicted = confusion[:, :, 1].sum(axis=1)
    else:
        correct, support = confusion.diagonal(), confusion.sum(axis=1) + unanswered
        predicted = confusion.sum(axis=0)
    return {
        name: {
            "precision": float(correct[i] / max(predicted[i], 1)),
            "recall": float(correct[i] / max(support[i], 1)),
            "f1": float(2 * correct[i] / max(support[i] + predicted[i], 1)),
            "support": int(support[i]),
        }
        for i, name in enumerate(labels)
    }
