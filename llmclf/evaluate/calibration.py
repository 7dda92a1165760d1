"""From scores to decisions: temperature and smoothing for honest probabilities, thresholds for
several labels, and what is won by leaving uncertain rows to people.

All is fitted on validation rows and applied to others. N: rows, C: labels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit, softmax

from llmclf.atomic import write_text
from llmclf.config import dump_json
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import ECE_BINS, brier, decisions
from llmclf.evaluate.scores import expected_calibration_error as ece
from llmclf.evaluate.scores import negative_log_likelihood as nll

TEMPERATURES = (0.05, 20.0)
"""Bounds of the search; few rows can ask for more than they can support."""
SHARPEST = 0.5
"""Lowest temperature beside smoothing: below, the likeliest label would be sure whatever the model
thinks of it, and what was smoothed could not be told from 0 any more."""
MOST_SMOOTHING = 0.5
"""Bound of the search: beyond it chance would say more than the model."""
FEWEST_ROWS = 20
"""Validation rows without which nothing is fitted."""
FEWEST_POSITIVE = 5
"""Validation rows with a label without which its threshold stays 0.5."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How a model's logits become probabilities, and these become decisions."""

    temperature: float = 1.0
    """Logits are divided by it (Guo et al. 2017); it changes no single-label decision."""
    smoothing: float = 0.0
    """Then probabilities are mixed with those of chance, 1 / C each, of which so much is taken. No
    temperature helps a probability of 0, which neighbours and forests give; and no decision is
    changed."""
    thresholds: tuple[float, ...] | None = None
    """Least probability of each label to be given (C), when multilabel; None: 0.5 for all."""
    rows: int = 0
    """Validation rows that it was fitted on."""
    note: str | None = None
    """Why nothing was fitted, or what is odd about what was."""

    def apply(self, predictions: Predictions) -> Predictions:
        """The predictions with calibrated probabilities, and with thresholds when multilabel."""
        p_NC = self.probabilities(predictions.probabilities, multilabel=predictions.multilabel)
        return replace(predictions, probabilities=p_NC, thresholds=self.thresholds)

    def probabilities(self, p_NC: np.ndarray, *, multilabel: bool) -> np.ndarray:
        """Calibrated probabilities, float64 (N, C)."""
        return smoothed(temper(p_NC, self.temperature, multilabel=multilabel), self.smoothing)

    def undo(self, predictions: Predictions) -> Predictions:
        """The predictions as they were before :meth:`apply`."""
        p_NC = predictions.probabilities
        if self.smoothing:
            p_NC = np.maximum(p_NC - self.smoothing / p_NC.shape[1], 0) / (1 - self.smoothing)
        p_NC = temper(p_NC, 1 / self.temperature, multilabel=predictions.multilabel)
        return replace(predictions, probabilities=p_NC, thresholds=None)

    def to_json(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """The calibration as plain JSON values, thresholds by label."""
        thresholds = self.thresholds and dict(zip(labels, self.thresholds, strict=True))
        return {
            "temperature": self.temperature,
            "smoothing": self.smoothing,
            "thresholds": thresholds,
            "rows": self.rows,
            "note": self.note,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any], labels: tuple[str, ...]) -> Calibration:
        """The calibration that :meth:`to_json` gave. Raises KeyError for a label without a
        threshold."""
        thresholds = stored.get("thresholds")
        return cls(
            temperature=stored["temperature"],
            smoothing=stored.get("smoothing", 0.0),
            thresholds=thresholds and tuple(thresholds[label] for label in labels),
            rows=stored["rows"],
            note=stored["note"],
        )


FILE = "calibration.json"
"""Name of the file in the folder of a model that has no output layer to fold the temperature
into."""


def write(calibration: Calibration, labels: tuple[str, ...], folder: Path) -> None:
    """Write the calibration of the model in this folder."""
    write_text(folder / FILE, dump_json(calibration.to_json(labels)))


def read(folder: Path, labels: tuple[str, ...]) -> Calibration:
    """The calibration of the model in this folder; none where there is no file.

    Raises OSError, ValueError or KeyError for a file that :func:`write` did not write.
    """
    path = folder / FILE
    if not path.exists():
        return Calibration()
    return Calibration.from_json(json.loads(path.read_text(encoding="utf-8")), labels)


def tempered(predictions: Predictions, temperature: float) -> np.ndarray:
    """Probabilities of the logits divided by ``temperature``, float64 (N, C)."""
    return temper(predictions.probabilities, temperature, multilabel=predictions.multilabel)


def temper(p_NC: np.ndarray, temperature: float, *, multilabel: bool) -> np.ndarray:
    """Probabilities as if their logits were divided by ``temperature``, float64 (N, C).

    Probabilities are logits enough: a softmax forgets no more than a constant of each row. What is
    certain stays so, since its logit is infinite.
    """
    if temperature == 1:
        return p_NC
    if multilabel:
        return expit(logit(np.minimum(p_NC, 1)) / temperature)  # rounding may go beyond 1
    with np.errstate(divide="ignore"):
        return softmax(np.log(p_NC) / temperature, axis=1)


def smoothed(p_NC: np.ndarray, share: float) -> np.ndarray:
    """Probabilities of which so much a share is replaced by chance, float64 (N, C)."""
    return (1 - share) * p_NC + share / p_NC.shape[1] if share else p_NC


def fit(validation: Predictions | None, *, smooth: bool = False) -> Calibration:
    """Fit the temperature by likelihood, then, when multilabel, each label's threshold by F1.

    ``smooth``: fit smoothing, too, for models that have a place for it; of single labels.

    Nothing is fitted, and ``note`` says why, where the validation rows cannot tell: too few, or
    all classified rightly (each lower temperature would fit better), or answers without
    probabilities.
    """
    rows = 0 if validation is None else len(validation.ids)
    if validation is None or rows < FEWEST_ROWS:
        return Calibration(rows=rows, note=f"{rows} validation rows; at least {FEWEST_ROWS}")
    if validation.invalid is not None:
        return Calibration(rows=rows, note="written answers have no probabilities")
    if bool((validation.probabilities == validation.probabilities[0]).all()):
        return Calibration(rows=rows, note="every row has the same probabilities")
    smoothing = 0.0
    if bool((validation.predicted == validation.targets).all()):
        temperature = 1.0
        note: str | None = "every validation row is classified rightly"
    else:
        temperature = fit_temperature(validation)
        if smooth and not validation.multilabel:
            temperature, smoothing = fit_smoothing(validation, temperature)
        note = _at_a_bound(temperature)
    thresholds = None
    if validation.multilabel:
        calibrated = tempered(validation, temperature)
        thresholds = tuple(map(best_threshold, calibrated.T, validation.targets.T))
    return Calibration(
        temperature=temperature,
        smoothing=smoothing,
        thresholds=thresholds,
        rows=rows,
        note=note,
    )


def fit_temperature(predictions: Predictions) -> float:
    """The temperature of the lowest negative log-likelihood, within TEMPERATURES.

    It is the likelihood that is reported, clipped alike: a row whose true label has probability 0
    loses the same at any temperature, so it cannot decide alone. 1 where no other is better.
    """

    def loss(log_temperature: float) -> float:
        changed = tempered(predictions, float(np.exp(log_temperature)))
        return nll(replace(predictions, probabilities=changed))

    minimum = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    # Rows that say nothing of it, such as a majority baseline's, leave it where it is.
    better = loss(float(minimum.x)) < loss(0.0) - 1e-9
    return float(np.exp(minimum.x)) if better else 1.0


def fit_smoothing(predictions: Predictions, temperature: float) -> tuple[float, float]:
    """Temperature and smoothing of the lowest negative log-likelihood together.

    The ``temperature`` alone, and 0, unless the second number makes up for itself by the criterion
    of Akaike (1974): a gain of more than 1 in the log-likelihood of all rows.
    """

    def loss(numbers: np.ndarray) -> float:
        tried = Calibration(temperature=float(np.exp(numbers[0])), smoothing=float(numbers[1]))
        return nll(tried.apply(predictions))

    start = np.array([np.log(max(temperature, SHARPEST)), 0.05])
    bounds = [(np.log(SHARPEST), np.log(TEMPERATURES[1])), (0.0, MOST_SMOOTHING)]
    found = minimize(loss, start, method="Nelder-Mead", bounds=bounds)
    gain = (loss(np.array([np.log(temperature), 0.0])) - found.fun) * len(predictions.ids)
    return (float(np.exp(found.x[0])), float(found.x[1])) if gain > 1 else (temperature, 0.0)


def _at_a_bound(temperature: float) -> str | None:
    """What to say of a temperature that the search would have taken further."""
    for bound in TEMPERATURES:
        if abs(np.log(temperature / bound)) < 1e-3:
            return f"the temperature is at the bound of its search, {bound:g}"
    return None


def best_threshold(p_N: np.ndarray, targets_N: np.ndarray) -> float:
    """The threshold with the highest F1 of one label; 0.5 for a label with too few rows.

    Halfway between two probabilities, so that neither sits on the edge; of equal ones the nearest
    to 0.5. Choosing by F1 overfits rare labels, hence FEWEST_POSITIVE.
    """
    positive = targets_N.sum()
    if positive < FEWEST_POSITIVE:
        return 0.5
    order = np.argsort(-p_N, kind="stable")
    p, hits = p_N[order], np.cumsum(targets_N[order])
    f1 = 2 * hits / (np.arange(1, len(p) + 1) + positive)
    ends = np.flatnonzero(np.append(p[1:] < p[:-1], True))  # equal probabilities go together
    following = np.append(p[1:], 0.0)[ends]
    thresholds = (p[ends] + following) / 2
    best = f1[ends] >= f1[ends].max() - 1e-12
    return float(min(thresholds[best], key=lambda t: abs(t - 0.5)))


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Decisions of similar confidence."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean confidence in the bin."""
    accuracy: float
    """Share of right decisions in the bin."""


def reliability(predictions: Predictions) -> tuple[ReliabilityBin, ...]:
    """The bins of :func:`..scores.expected_calibration_error` that hold a row."""
    confidence, hits, bins = decisions(predictions)
    edges = np.linspace(0, 1, ECE_BINS + 1)
    counts = np.bincount(bins, minlength=ECE_BINS)
    confidences = np.bincount(bins, weights=confidence, minlength=ECE_BINS)
    right = np.bincount(bins, weights=hits, minlength=ECE_BINS)
    return tuple(
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int(counts[i]),
            confidence=float(confidences[i] / counts[i]),
            accuracy=float(right[i] / counts[i]),
        )
        for i in np.flatnonzero(counts)
    )


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Accuracy on the rows that are answered, when the least certain ones are left to people."""

    share: np.ndarray
    """Share of the rows that are answered, rising, float64 (K)."""
    accuracy: np.ndarray
    """Accuracy on the rows that are answered, float64 (K)."""
    confidence: np.ndarray
    """Least confidence that is answered, at each share, float64 (K)."""
    area: float
    """Mean error over all shares, AURC of Geifman and El-Yaniv (2017): 0 is best."""


def risk_coverage(predictions: Predictions) -> Coverage:
    """Rows in order of confidence: the top probability; the least sure label when multilabel.

    Rows of equal confidence are answered together. A row counts as right by all its labels.
    """
    p = predictions.probabilities
    if predictions.multilabel:
        cut = predictions.least
        # How far p is beyond its threshold, as a share of what it could be at most.
        sure = np.where(p >= cut, (p - cut) / np.maximum(1 - cut, 1e-12), (cut - p) / cut)
        confidence = sure.min(axis=1)
    else:
        confidence = p.max(axis=1)
    right = (predictions.predicted == predictions.targets).reshape(len(p), -1).all(axis=1)
    order = np.argsort(-confidence, kind="stable")
    confidence, right = confidence[order], right[order]
    ends = np.flatnonzero(np.append(confidence[1:] < confidence[:-1], True))
    answered = ends + 1
    accuracy = np.cumsum(right)[ends] / answered
    widths = np.diff(answered, prepend=0)
    return Coverage(
        share=answered / len(p),
        accuracy=accuracy,
        confidence=confidence[ends],
        area=float((1 - accuracy) @ widths / len(p)),
    )


def summary(predictions: Predictions) -> dict[str, float]:
    """The scores that calibration changes."""
    return {"nll": nll(predictions), "brier": brier(predictions), "ece": ece(predictions)}
