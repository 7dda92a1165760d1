"""Error analysis: by hand, against vectors computed with cleanlab, and independent of row order."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from llmclf.config import DataError
from llmclf.evaluate.errors import (
    confident_errors,
    confusion_differences,
    length_buckets,
    seen_rows,
    suspect_labels,
)
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score

LABELS = ("a", "b", "c")


def noisy(rows: int, seed: int, noise: float = 0.25) -> tuple[Predictions, np.ndarray]:
    """A fair classifier on labels of which a share is replaced; the true labels beside them."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, rows)
    p = softmax(2.2 * np.eye(3)[true] + rng.normal(size=(rows, 3)), axis=1).round(3)
    p /= p.sum(axis=1, keepdims=True)
    given_labels = np.where(rng.random(rows) < noise, rng.integers(0, 3, rows), true)
    found = Predictions(
        ids=[str(i) for i in range(rows)],
        labels=LABELS,
        targets=given_labels,
        probabilities=p,
        scored_by="softmax",
    )
    return found, true


def several(rows: int, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    targets = rng.random((rows, 3)) < 0.4
    return Predictions(
        ids=[str(i) for i in range(rows)],
        labels=LABELS,
        targets=targets.astype(np.float32),
        probabilities=expit(rng.normal(size=(rows, 3)) + 2 * targets - 1),
        scored_by="sigmoid",
        multilabel=True,
    )


def test_suspects_are_those_of_cleanlab() -> None:
    """Computed once with cleanlab 2.9.0, find_label_issues(filter_by="confident_learning",
    return_indices_ranked_by="normalized_margin"); its licence keeps it out of our requirements."""
    found = suspect_labels(noisy(60, seed=5)[0], None, most=60)
    cleanlab = [59, 37, 33, 10, 0, 23, 28, 42, 45, 30, 38, 46, 36, 55]
    assert [int(s.id) for s in found] == cleanlab


def test_planted_label_noise_is_found() -> None:
    predictions, true = noisy(3000, seed=1, noise=0.1)
    wrong = {str(i) for i in np.flatnonzero(predictions.targets != true)}
    found = suspect_labels(predictions, None, most=100)
    assert np.mean([s.id in wrong for s in found]) > 0.8  # the rate of wrong labels is 0.07
    for s in found:
        row = int(s.id)
        assert s.label == LABELS[predictions.targets[row]] != s.suggested
        assert s.given == predictions.probabilities[row, predictions.targets[row]] < s.confidence


def test_the_surest_errors_come_first() -> None:
    predictions, _ = noisy(300, seed=2)
    texts = [f"text {i}" for i in range(300)]
    found = confident_errors(predictions, texts, most=10_000)
    wrong = np.flatnonzero(predictions.predicted != predictions.targets)
    assert {int(e.id) for e in found} == set(wrong.tolist())
    assert [e.confidence for e in found] == sorted((e.confidence for e in found), reverse=True)
    assert all(e.text == f"text {e.id}" and e.label != e.predicted for e in found)
    assert confident_errors(predictions, None, most=3) == tuple(
        replace(e, text=None) for e in found[:3]
    )


def test_an_answer_that_is_no_label_is_no_confident_error() -> None:
    predictions, _ = noisy(40, seed=3)
    p = predictions.probabilities.copy()
    p[:20] = 1 / 3
    invalid = np.arange(40) < 20
    found = replace(predictions, probabilities=p, invalid=invalid)
    assert all(int(e.id) >= 20 for e in confident_errors(found, None))
    assert all(int(s.id) >= 20 for s in suspect_labels(found, None))


def test_several_labels_are_judged_one_by_one() -> None:
    predictions = several(400, seed=4)
    errors = confident_errors(predictions, None, most=500)
    wrong = (predictions.predicted != predictions.targets).any(axis=1)
    assert {int(e.id) for e in errors} == set(np.flatnonzero(wrong).tolist())
    first = int(errors[0].id)
    sure = np.abs(predictions.probabilities - 0.5) + 0.5
    of_wrong = np.where(predictions.predicted != predictions.targets, sure, 0)
    assert errors[0].confidence == pytest.approx(of_wrong.max()) == of_wrong[first].max()
    flipped = predictions.targets.copy()
    flipped[:8, 0] = 1 - flipped[:8, 0]
    p = predictions.probabilities.copy()
    p[:8, 0] = np.where(flipped[:8, 0] == 1, 0.001, 0.999)
    suspects = suspect_labels(replace(predictions, targets=flipped, probabilities=p), None, most=8)
    assert {int(s.id) for s in suspects} == set(range(8))


def test_buckets_hold_all_rows_and_about_as_many() -> None:
    predictions, _ = noisy(500, seed=6)
    words = np.random.default_rng(0).integers(3, 90, 500)
    buckets = length_buckets(predictions, words)
    assert len(buckets) == 5 and sum(b.rows for b in buckets) == 500
    assert all(80 <= b.rows <= 120 for b in buckets)
    assert all(a.high < b.low for a, b in itertools.pairwise(buckets))
    mean = sum(b.accuracy * b.rows for b in buckets) / 500
    assert mean == pytest.approx(score(predictions)["accuracy"])


def test_equal_lengths_stay_together() -> None:
    predictions, _ = noisy(50, seed=7)
    (only,) = length_buckets(predictions, [7] * 50)
    assert (only.low, only.high, only.rows) == (7, 7, 50)
    assert len(length_buckets(predictions, [1] * 49 + [100])) == 2


def test_scores_without_seen_rows() -> None:
    predictions, _ = noisy(200, seed=8)
    right = np.flatnonzero(predictions.predicted == predictions.targets)[:30]
    seen = {str(i): ("exact" if i % 2 else "near") for i in right.tolist()} | {"elsewhere": "near"}
    found = seen_rows(predictions, seen, "accuracy")
    assert found is not None and found.rows == 30 == sum(found.kinds.values())
    hits = score(predictions)["accuracy"] * 200
    assert found.score == pytest.approx(hits / 200)
    assert found.score_without == pytest.approx((hits - 30) / 170)
    assert seen_rows(predictions, {}, "accuracy") is None
    every = seen_rows(predictions, ["near"] * 200, "macro_f1")
    assert every is not None and every.score_without is None


def test_confusions_that_differ_most() -> None:
    predictions, _ = noisy(300, seed=9)
    p = predictions.probabilities.copy()
    moved = np.flatnonzero((predictions.targets == 0) & (predictions.predicted == 0))[:25]
    p[moved] = [0, 0, 1]
    other = replace(predictions, probabilities=p)
    (found,) = confusion_differences(predictions, other, most=1)
    assert (found.label, found.predicted) == ("a", "c") and found.rows_b - found.rows_a == 25
    assert confusion_differences(predictions, predictions) == ()
    turned = other.take(np.arange(300)[::-1]).with_labels(("c", "a", "b"))
    assert confusion_differences(predictions, turned, most=1) == (found,)
    with pytest.raises(DataError, match="other rows than the first method: 300 and 299"):
        confusion_differences(predictions, other.take(range(299)))


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=25, deadline=None)
def test_nothing_depends_on_the_order_of_rows_or_labels(seed: int, multilabel: bool) -> None:
    found = several(60, seed) if multilabel else noisy(60, seed)[0]
    rng = np.random.default_rng(seed)
    order, labels = rng.permutation(60), tuple(rng.permutation(LABELS).tolist())
    turned = found.take(order)
    words = rng.integers(1, 30, 60)
    assert confident_errors(turned, None) == confident_errors(found, None)
    assert suspect_labels(turned, None) == suspect_labels(found, None)
    assert length_buckets(turned, words[order]) == length_buckets(found, words)
    again = turned.with_labels(labels)
    assert score(again)["macro_f1"] == pytest.approx(score(found)["macro_f1"])
    assert again.with_labels(found.labels).take(np.argsort(order)).ids == found.ids
