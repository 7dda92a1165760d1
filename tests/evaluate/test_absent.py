"""Labels that the test rows lack, rows without any, and other corners where scores jump."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmclf.evaluate.columns import METRICS
from llmclf.evaluate.paired import Statistics, Tested, compare
from llmclf.evaluate.predictions import Predictions
from tests.evaluate.sure import sure
from tests.evaluate.test_flips import several

Tested.__test__ = False  # type: ignore[attr-defined]  # no class of tests


def given(targets: np.ndarray, answers: np.ndarray, labels: int = 3) -> Predictions:
    return sure(targets, answers, labels)


def compared(a: Predictions, b: Predictions, metric: str = "macro_f1") -> Statistics:
    methods = {name: [Tested(fold=0, seed=0, predictions=p)] for name, p in (("a", a), ("b", b))}
    return compare(methods, metric=metric, resamples=2000)


def test_one_answer_with_a_label_that_no_row_has_decides_nothing() -> None:
    """It counts 0 with that answer and without it."""
    rng = np.random.default_rng(0)
    targets = np.arange(300) % 2
    worse = np.where(rng.random(300) < 0.8, targets, 1 - targets)
    better, odd = targets.copy(), targets.copy()
    better[0], odd[0] = 1 - targets[0], 2  # its one wrong answer: another label, or the absent one
    for metric in ("macro_f1", "accuracy"):
        plain = compared(given(targets, worse), given(targets, better), metric)
        found = compared(given(targets, worse), given(targets, odd), metric)
        (a,), (b,) = plain.differences, found.differences
        assert b.p_value < 1e-6 and (b.low, b.high) == pytest.approx((a.low, a.high), abs=0.02)
        one, two = (s.estimates["b"][metric] for s in (plain, found))
        assert (two.low, two.high) == pytest.approx((one.low, one.high), abs=0.02)


def test_labels_that_are_there_have_an_interval_without_the_absent_one() -> None:
    """As where the label does not exist."""
    rng = np.random.default_rng(0)
    targets = np.arange(300) % 2
    answers = np.where(rng.random(300) < 0.9, targets, 1 - targets)
    with_it = compared(given(targets, answers), given(targets, targets))
    without = compared(given(targets, answers, 2), given(targets, targets, 2))
    for name in ("a", "b"):
        one = with_it.estimates[name]["macro_f1_present"]
        two = without.estimates[name]["macro_f1"]
        assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high))


@pytest.mark.parametrize(("rows", "folds"), [(1, 3), (5, 3), (60, 1)])
@pytest.mark.parametrize("metric", METRICS)
def test_nothing_is_not_a_number(rows: int, folds: int, metric: str) -> None:
    """Rows of which few have any label, down to one row a fold; and each interval has its value."""
    methods: dict[str, list[Tested]] = {"a": [], "b": []}
    for fold in range(folds):
        for seed, (name, right) in enumerate((("a", 1.0), ("b", 0.6))):
            one = several(rows, right, 7 * fold + seed, positive=0.03)
            one = replace(one, ids=[f"{fold}-{i}" for i in range(rows)])
            methods[name].append(Tested(fold=fold, seed=0, predictions=one))
    found = compare(methods, metric=metric, resamples=1000)
    (d,) = found.differences
    ends = [d.low, d.high, d.holm_low, d.holm_high, d.p_value, d.p_equivalent]
    assert np.isfinite(ends).all() and (d.p_value < 0.05) == (not d.low <= 0 <= d.high)
    assert d.holm_low <= d.low <= d.high <= d.holm_high
    for estimates in found.estimates.values():
        one = estimates[metric]
        assert one.low <= one.value <= one.high, metric


def test_the_brier_score_of_many_labels_may_exceed_2() -> None:
    seeds = []
    for seed, right in enumerate((0.5, 0.55, 0.6)):
        rng = np.random.default_rng(seed)
        targets = np.random.default_rng(9).random((200, 20)) < 0.3
        flipped = targets ^ (rng.random((200, 20)) > right)
        one = several(200, right, seed)
        one = replace(
            one,
            labels=tuple(f"l{i}" for i in range(20)),
            targets=targets.astype(np.float32),
            probabilities=np.where(flipped, 0.9, 0.1),
        )
        seeds.append(Tested(fold=0, seed=seed, predictions=one))
    one = compare({"a": seeds}, resamples=500).estimates["a"]["brier"]
    assert 2 < one.low < one.value < one.high


def test_intervals_of_few_folds_and_seeds_say_what_p_says() -> None:
    """Errors of folds are added to the draws on log odds, to the exchanges plainly."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        runs: dict[str, list[Tested]] = {"a": [], "b": [], "c": []}
        for fold in range(3):
            targets = np.arange(40) % 2
            for name, right in (("a", 0.9), ("b", 0.7), ("c", 0.75)):
                for s in range(2):
                    answers = np.where(rng.random(40) < right, targets, 1 - targets)
                    p = replace(given(targets, answers, 2), ids=[f"{fold}-{i}" for i in range(40)])
                    runs[name].append(Tested(fold=fold, seed=s, predictions=p))
        for d in compare(runs, metric="accuracy", resamples=1000).differences:
            assert (d.p_value < 0.05) == (not d.low <= 0 <= d.high)
            assert (d.p_holm < 0.05) == (not d.holm_low <= 0 <= d.holm_high)
            assert d.holm_low <= d.low and d.high <= d.holm_high
