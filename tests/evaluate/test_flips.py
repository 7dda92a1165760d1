"""The paired test by exchanging rows, and what it takes to call two methods equivalent: against
exact tests, by hand and by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest, norm
from sklearn.metrics import f1_score

from llmclf.evaluate.columns import METRICS
from llmclf.evaluate.paired import Difference, Tested, compare
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score
from tests.evaluate.sure import sure
from tests.evaluate.test_paired import drawn, once

Tested.__test__ = False  # type: ignore[attr-defined]  # no class of tests

SLOW = pytest.mark.slow


def answers(targets: np.ndarray, right: np.ndarray, labels: int = 2) -> Predictions:
    """Sure answers, the next label where they are not right."""
    return sure(targets, np.where(right, targets, (targets + 1) % labels), labels)


def difference(
    a: Predictions,
    b: Predictions,
    *,
    metric: str = "accuracy",
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    methods = {"a": once(a), "b": once(b)}
    return compare(methods, metric=metric, resamples=resamples, seed=seed).differences[0]


@pytest.mark.parametrize(("only_a", "only_b"), [(5, 0), (4, 0), (6, 1), (9, 5), (1, 1)])
def test_few_rows_that_differ_are_judged_exactly(only_a: int, only_b: int) -> None:
    """On accuracy that is McNemar's exact test, the rows that do not differ aside."""
    for same in (0, 300):
        rows = only_a + only_b + same
        targets = np.arange(rows) % 2
        a, b = np.ones(rows, bool), np.ones(rows, bool)
        b[:only_a] = a[only_a : only_a + only_b] = False
        found = difference(answers(targets, a), answers(targets, b))
        assert found.p_value == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
        assert found.low <= 0 <= found.high or found.p_value < 0.05


def test_many_rows_that_differ_are_judged_as_by_mcnemar() -> None:
    a, b = drawn(400, 2.0, 1), drawn(400, 1.75, 2)
    found = difference(a, b, resamples=20_000)
    assert found.mcnemar is not None and 0.01 < found.p_value < 0.9
    assert found.p_value == pytest.approx(found.mcnemar.p_value, abs=0.015)


def test_exchanged_rows_give_the_p_of_exchanged_predictions() -> None:
    """On macro-F1, against a loop that exchanges whole predictions and scores them anew."""
    a, b = drawn(150, 2.0, 1), drawn(150, 1.4, 2)
    found = difference(a, b, metric="macro_f1", resamples=20_000)
    rng, real, larger = np.random.default_rng(0), found.value, 0
    for _ in range(1500):
        swap = (rng.random(150) < 0.5)[:, None]
        one = replace(a, probabilities=np.where(swap, b.probabilities, a.probabilities))
        two = replace(b, probabilities=np.where(swap, a.probabilities, b.probabilities))
        larger += abs(score(one)["macro_f1"] - score(two)["macro_f1"]) >= abs(real) - 1e-12
    assert 0.001 < larger / 1500 < 0.5
    assert found.p_value == pytest.approx(larger / 1500, abs=0.02)


def unlike(rows: int, seed: int) -> tuple[Predictions, Predictions]:
    """One method never gives the rare label, the other often; macro-F1 of both is 0.58 in the
    population: far from a sum over rows."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(3, rows, p=SHARES)
    found = []
    for right in (NEVER, OFTEN):
        given = (rng.random(rows)[:, None] > right.cumsum(axis=1)[targets]).sum(axis=1).clip(0, 2)
        found.append(sure(targets, given, 3))
    return found[0], found[1]


SHARES = np.array([0.5, 0.38, 0.12])


def macro_f1(right: np.ndarray) -> float:
    table = SHARES[:, None] * right
    return float((2 * np.diag(table) / (table.sum(axis=0) + table.sum(axis=1))).mean())


def never(x: float) -> np.ndarray:
    return np.array([[x, 1 - x, 0], [1 - x, x, 0], [0.5, 0.5, 0]])


def often(x: float) -> np.ndarray:
    rest = 1 - x
    return np.array([[x, 0.3 * rest, 0.7 * rest], [0.3 * rest, x, 0.7 * rest], [0.05, 0.05, 0.9]])


NEVER, OFTEN = (
    kind(brentq(lambda x, kind=kind: macro_f1(kind(x)) - 0.58, 0.05, 1)) for kind in (never, often)
)


def test_methods_of_unlike_kind_are_judged_by_their_own_errors() -> None:
    """p is that of the difference over its standard error, from a loop over resampled rows."""
    one, two = unlike(800, 30)
    found = difference(one, two, metric="macro_f1", resamples=20_000)
    rng, drawn_again = np.random.default_rng(0), []
    for _ in range(500):
        rows = rng.integers(0, 800, 800)
        again = [
            replace(p, ids=one.ids, targets=p.targets[rows], probabilities=p.probabilities[rows])
            for p in (one, two)
        ]
        drawn_again.append(score(again[0])["macro_f1"] - score(again[1])["macro_f1"])
    expected = 2 * norm.sf(abs(found.value) / np.std(drawn_again))
    assert 0.001 < expected < 0.5
    assert found.p_value == pytest.approx(expected, rel=0.3, abs=0.02)


@pytest.mark.parametrize("rows", [150, pytest.param(600, marks=SLOW)])
def test_equal_methods_of_unlike_kind_differ_in_one_of_twenty_tests(rows: int) -> None:
    """Not exchangeable, and yet of one macro-F1; of 300 tests 9 to 21 are within one deviation."""
    p_values = [
        difference(*unlike(rows, seed), metric="macro_f1", resamples=300, seed=seed).p_value
        for seed in range(300)
    ]
    assert 3 <= sum(p < 0.05 for p in p_values) <= 28


def test_many_methods_leave_a_clear_difference_clear() -> None:
    """Holm multiplies p by the number of pairs: it must be able to become small enough."""
    rng, targets = np.random.default_rng(0), np.arange(400) % 2
    methods = {f"m{i}": once(answers(targets, rng.random(400) < 0.6)) for i in range(29)}
    methods["best"] = once(answers(targets, rng.random(400) < 0.95))
    found = compare(methods, metric="accuracy", resamples=1000).differences
    of_best = [d for d in found if d.a == "best"]
    assert len(of_best) == 29 and all(d.p_holm < 1e-6 for d in of_best)
    assert all(d.p_value >= d.mcnemar.p_value / 10 for d in found if d.mcnemar)


def test_folds_and_seeds_keep_a_clear_difference_clear() -> None:
    def runs(share: float) -> list[Tested]:
        rng = np.random.default_rng(int(share * 100))
        return [
            Tested(fold=f, seed=s, predictions=answers(np.arange(300) % 2, rng.random(300) < share))
            for f in range(4)
            for s in range(2)
        ]

    (found,) = compare({"a": runs(0.95), "b": runs(0.6)}, resamples=1000).differences
    assert found.p_value < 1e-3 and found.low > 0


@pytest.mark.parametrize("rows", [20_001, 30_000, 100_000])
@pytest.mark.parametrize("only_b", [9, 400])
def test_many_rows_are_exchanged_in_groups_to_the_same_p(rows: int, only_b: int) -> None:
    """Above 20,000 rows groups are exchanged; those that differ lie together or apart."""
    only_a, rng = round(only_b + 2.5 * (2 * only_b) ** 0.5), np.random.default_rng(rows)
    targets = rng.integers(0, 2, rows)
    for order in (np.arange(rows), rng.permutation(rows)):
        a, b = np.ones(rows, bool), np.ones(rows, bool)
        b[order[:only_a]] = a[order[only_a : only_a + only_b]] = False
        found = difference(answers(targets, a), answers(targets, b), resamples=10_000)
        expected = binomtest(only_a, only_a + only_b).pvalue
        assert 0.005 < expected < 0.1
        assert found.p_value == pytest.approx(expected, rel=0.25, abs=0.006)


def several(rows: int, right: float, seed: int, positive: float = 0.4) -> Predictions:
    """Three labels, any number of which a row has, each found with this share."""
    targets = np.random.default_rng(99).random((rows, 3)) < positive
    given = targets ^ (np.random.default_rng(seed).random((rows, 3)) > right)
    return Predictions(
        ids=[str(i) for i in range(rows)],
        labels=("a", "b", "c"),
        targets=targets.astype(np.float32),
        probabilities=np.where(given, 0.9, 0.1),
        scored_by="sigmoid",
        multilabel=True,
    )


def test_several_labels_a_row_are_exchanged_together() -> None:
    a, b = several(300, 0.85, 1), several(300, 0.8, 2)
    found = difference(a, b, metric="macro_f1", resamples=20_000)
    rng, larger = np.random.default_rng(0), 0
    for _ in range(1500):
        swap = (rng.random(300) < 0.5)[:, None]
        one = replace(a, probabilities=np.where(swap, b.probabilities, a.probabilities))
        two = replace(b, probabilities=np.where(swap, a.probabilities, b.probabilities))
        gap = score(one)["macro_f1"] - score(two)["macro_f1"]
        larger += abs(gap) >= abs(found.value) - 1e-12
    assert 0.001 < larger / 1500 < 0.5
    assert found.p_value == pytest.approx(larger / 1500, abs=0.02)


@pytest.mark.parametrize("rows", [1, 30])
@pytest.mark.parametrize("metric", METRICS)
def test_rows_without_any_label_are_compared_without_an_error(metric: str, rows: int) -> None:
    a, b = (several(rows, right, seed, positive=0.0) for right, seed in ((1.0, 1), (0.7, 2)))
    found = difference(a, b, metric=metric)
    assert np.isfinite([found.low, found.high, found.p_value, found.p_equivalent]).all()


@pytest.mark.parametrize("rows", [8, 40, 200])
def test_a_few_rows_show_no_equivalence(rows: int) -> None:
    """That no row differs does not show that fewer than 1 in 100 do."""
    targets = np.arange(rows) % 2
    same = answers(targets, np.ones(rows, bool))
    for metric in ("accuracy", "macro_f1"):
        assert not difference(same, same, metric=metric).equivalent
    enough = answers(np.arange(400) % 2, np.ones(400, bool))
    assert difference(enough, enough).equivalent


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
@pytest.mark.parametrize("rows", [60, 290, 310, 1000])
def test_methods_of_the_same_answers_have_an_interval(rows: int, metric: str) -> None:
    """One within the margin just where they are shown to be equivalent."""
    one = answers(np.arange(rows) % 2, np.ones(rows, bool))
    found = difference(one, one, metric=metric)
    for low, high in ((found.low, found.high), (found.holm_low, found.holm_high)):
        assert low < 0 < high
        assert found.equivalent == (low > -0.01 and high < 0.01)


def test_unseen_rows_do_not_widen_the_interval_of_other_methods() -> None:
    """A row of a rare label may change macro-F1 more than all that were seen."""
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [400, 380, 20])
    right = rng.random(800) < 0.8
    first = answers(targets, right, 3)
    second = answers(targets, right ^ ((targets == 0) & (rng.random(800) < 0.08)), 3)
    found = difference(first, second, metric="macro_f1")
    resampled = [
        f1_score(targets[rows], first.predicted[rows], average="macro")
        - f1_score(targets[rows], second.predicted[rows], average="macro")
        for rows in rng.integers(0, 800, (1000, 800))
    ]
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert found.high - found.low == pytest.approx(high - low, rel=0.15)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "rows", [300, *(pytest.param(n, marks=SLOW) for n in (100, 200, 600, 1200))]
)
def test_false_equivalence_is_rare(rows: int) -> None:
    """One side alone is ever wrong, just as often as the margin allows: 5% at most."""
    rng, targets = np.random.default_rng(rows), np.arange(rows) % 2
    right, draws = answers(targets, np.ones(rows, bool)), 400
    equivalent = sum(
        difference(
            right, answers(targets, rng.random(rows) >= 0.01), resamples=400, seed=i
        ).equivalent
        for i in range(draws)
    )
    assert equivalent / draws <= 0.05 + 2.5 * (0.05 * 0.95 / draws) ** 0.5


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("rows", "share", "metric"),
    [
        (60, 0.09, "macro_f1"),
        pytest.param(60, 0.09, "accuracy", marks=SLOW),
        pytest.param(180, 0.03, "accuracy", marks=SLOW),
        pytest.param(180, 0.03, "macro_f1", marks=SLOW),
        pytest.param(180, 0.13, "accuracy", marks=SLOW),
        pytest.param(180, 0.13, "macro_f1", marks=SLOW),
    ],
)
def test_false_differences_are_rare(rows: int, share: float, metric: str) -> None:
    """Both are wrong in as many rows: p is below .05 in 5% at most, few as the rows are."""
    rng, draws, rejected = np.random.default_rng(rows), 400, 0
    for i in range(draws):
        targets = rng.choice(3, rows, p=(0.6, 0.25, 0.15))
        kind = rng.random(rows)
        a, b = kind >= share / 2, (kind < share / 2) | (kind >= share)
        one, two = (answers(targets, right, 3) for right in (a, b))
        rejected += difference(one, two, metric=metric, resamples=400, seed=i).p_value < 0.05
    assert rejected / draws <= 0.055 + 2 * (0.05 * 0.95 / draws) ** 0.5
