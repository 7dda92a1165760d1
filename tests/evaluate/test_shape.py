"""Intervals of scores that count right and wrong rows, against exact ones and by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from llmclf.evaluate.paired import Estimate, Tested, compare
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.shape import COUNTED
from tests.evaluate.sure import sure

Tested.__test__ = False  # type: ignore[attr-defined]  # no class of tests


def estimates(targets: np.ndarray, given: np.ndarray, labels: int) -> dict[str, Estimate]:
    one = sure(targets, given, labels)
    tested = [Tested(fold=0, seed=0, predictions=one)]
    return compare({"a": tested}, resamples=200).estimates["a"]


@pytest.mark.parametrize("rows", [20, 100, 1000])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 0.9, 1.0])
def test_accuracy_has_the_interval_of_bayes_and_laplace(rows: int, share: float) -> None:
    targets, right = np.arange(rows) % 2, round(share * rows)
    given = np.where(np.arange(rows) < right, targets, 1 - targets)
    found = estimates(targets, given, 2)["accuracy"]
    exact = beta(right + 1, rows - right + 1)
    low, high = min(exact.ppf(0.025), share), max(exact.ppf(0.975), share)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.6 / rows)


@pytest.mark.parametrize("labels", [2, 20])
@pytest.mark.parametrize("metric", COUNTED)
def test_rows_all_right_do_not_show_that_none_is_wrong(metric: str, labels: int) -> None:
    """Of 60 rows without an error one in 20 may be wrong (3 / N); one in 5 may not."""
    targets = np.arange(60) % labels
    found = estimates(targets, targets, labels)[metric]
    assert found.value == found.high == 1
    assert 0.8 < found.low < 0.97
    assert found.low == found.sampling_low


@pytest.mark.parametrize("labels", [3, 40])
def test_a_majority_method_has_an_interval_of_its_own(labels: int) -> None:
    targets = np.arange(240) % labels
    found = estimates(targets, np.zeros(240, int), labels)["macro_f1"]
    assert 0 <= found.low <= found.value <= found.high < found.value + 0.05


@pytest.mark.parametrize("labels", [2, 3, 20])
def test_one_answer_to_all_has_a_matthews_correlation_of_0(labels: int) -> None:
    """It is 0 by definition, for any rows; and it is not where a single answer is another."""
    targets = np.random.default_rng(0).integers(0, labels, 300)
    given = np.zeros(300, int)
    found = estimates(targets, given, labels)["mcc"]
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-6)
    given[np.flatnonzero(targets == 1)[0]] = 1
    found = estimates(targets, given, labels)["mcc"]
    assert found.value > 0 and found.high - found.low > 0.05


@pytest.mark.parametrize("always", [0.1, 0.9])
def test_of_several_labels_those_that_never_vary_have_a_correlation_of_0(always: float) -> None:
    """The mean over labels is that of the others, and so is its interval."""
    rng = np.random.default_rng(0)
    targets = (rng.random((300, 2)) < 0.4).astype(np.float32)
    varied = np.where((targets > 0) ^ (rng.random((300, 2)) < 0.1), 0.9, 0.1)
    one = Predictions(
        ids=[str(i) for i in range(300)],
        labels=("a", "b"),
        targets=targets,
        probabilities=varied,
        scored_by="sigmoid",
        multilabel=True,
    )
    constant = replace(one, probabilities=np.column_stack([varied[:, 0], np.full(300, always)]))
    found, alone = (
        compare({"a": [Tested(fold=0, seed=0, predictions=p)]}, resamples=200).estimates["a"]["mcc"]
        for p in (
            constant,
            replace(one, probabilities=varied[:, [0, 0]], targets=targets[:, [0, 0]]),
        )
    )
    assert found.value == pytest.approx(alone.value / 2)
    assert found.high - found.low == pytest.approx((alone.high - alone.low) / 2, rel=0.1)


def many_labels(right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """588 rows of 77 labels, as a small test set of intents; errors go to the next label."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 77, 588)
    step = np.where(rng.random(588) < 0.6, 1, -1)
    return targets, np.where(rng.random(588) < right, targets, (targets + step) % 77)


@pytest.mark.parametrize("right", [0.6, 0.9])
def test_macro_f1_of_many_labels_is_covered(right: float) -> None:
    """Its true value is the share of right rows; resamples held it in 87% for 0.6."""
    hits = 0
    for seed in range(200):
        one = estimates(*many_labels(right, seed), 77)["macro_f1"]
        hits += one.low <= right <= one.high
    assert hits >= 184
