"""Intervals, differences and tests against scipy and statsmodels, by invariance and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from llmclf.config import DataError
from llmclf.evaluate.holm import holm, holm_interval
from llmclf.evaluate.paired import Tested, compare
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.resample import (
    BOUNDS,
    beyond_rows,
    corrected,
    interval,
    moved,
    of_seeds,
    p_not_above,
    p_not_below,
    with_error,
)
from llmclf.evaluate.scores import score

Tested.__test__ = False  # type: ignore[attr-defined]  # no class of tests
LABELS = ("no", "weak", "strong")
SHARES = (0.6, 0.25, 0.15)


def drawn(
    rows: int, skill: float, seed: int, *, targets: np.ndarray | None = None, fold: int = 0
) -> Predictions:
    """A classifier of this skill on rows of three uneven classes."""
    rng = np.random.default_rng(seed)
    if targets is None:
        targets = np.random.default_rng(99 + fold).choice(3, rows, p=SHARES)
    logits = skill * np.eye(3)[targets] + rng.normal(size=(rows, 3))
    return Predictions(
        ids=[f"{fold}-{i}" for i in range(rows)],
        labels=LABELS,
        targets=targets,
        probabilities=softmax(logits, axis=1),
        scored_by="softmax",
    )


def two_sided(draws: np.ndarray) -> float:
    return min(1.0, 2 * min(p_not_above(draws, 0), p_not_below(draws, 0)))


def once(predictions: Predictions) -> list[Tested]:
    return [Tested(fold=0, seed=0, predictions=predictions)]


def macro_f1(targets: np.ndarray, predicted: np.ndarray) -> float:
    tables = [(targets == c, predicted == c) for c in range(3)]
    return float(np.mean([2 * (t & p).sum() / max(t.sum() + p.sum(), 1) for t, p in tables]))


A, B = drawn(400, 2.0, 1), drawn(400, 1.7, 2)
SKILLS = (2.6, 2.2, 2.0, 1.8, 1.5)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_intervals_are_those_of_scipy(metric: str) -> None:
    """Both are random; 10,000 resamples leave a few thousandths."""
    found = compare({"a": once(A), "b": once(B)}, metric=metric)
    statistic = {
        "accuracy": lambda t, p: float((t == p).mean()),
        "macro_f1": macro_f1,
    }[metric]
    for name, predictions in (("a", A), ("b", B)):
        expected = stats.bootstrap(
            (predictions.targets, predictions.predicted),
            statistic,
            paired=True,
            vectorized=False,
            method="BCa",
            n_resamples=4000,
            rng=np.random.default_rng(0),
        ).confidence_interval
        estimate = found.estimates[name][metric]
        assert estimate.value == pytest.approx(score(predictions)[metric])
        assert (estimate.low, estimate.high) == pytest.approx(expected, abs=0.004)
        assert (estimate.low, estimate.high) == (estimate.sampling_low, estimate.sampling_high)
        assert estimate.seed_sd is estimate.fold_sd is None
    (difference,) = found.differences
    assert (difference.a, difference.b) == ("a", "b")
    expected = stats.bootstrap(
        (A.targets, A.predicted, B.predicted),
        lambda t, p, q: statistic(t, p) - statistic(t, q),
        paired=True,
        vectorized=False,
        method="BCa",
        n_resamples=4000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (difference.low, difference.high) == pytest.approx(expected, abs=0.004)


def test_tests_are_those_of_statsmodels() -> None:
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    (difference,) = compare({"a": once(A), "b": once(B)}, resamples=1000).differences
    right = A.predicted == A.targets, B.predicted == B.targets
    table = [
        [(right[0] & right[1]).sum(), (right[0] & ~right[1]).sum()],
        [(~right[0] & right[1]).sum(), (~right[0] & ~right[1]).sum()],
    ]
    assert difference.mcnemar is not None
    assert (difference.mcnemar.only_a, difference.mcnemar.only_b) == (table[0][1], table[1][0])
    assert difference.mcnemar.p_value == pytest.approx(
        contingency.mcnemar(table, exact=True).pvalue
    )
    p = np.random.default_rng(0).random(15) ** 3
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])


def test_order_of_rows_and_labels_changes_nothing() -> None:
    order = np.random.default_rng(0).permutation(400)
    turned = B.take(order).with_labels(("strong", "no", "weak"))
    assert compare({"a": once(A), "b": once(turned)}, resamples=1000) == compare(
        {"a": once(A), "b": once(B)}, resamples=1000
    )


def test_a_method_does_not_differ_from_itself() -> None:
    (difference,) = compare({"a": once(A), "again": once(A)}, resamples=1000).differences
    assert difference.value == 0 and -0.02 < difference.low < 0 < difference.high < 0.02
    assert difference.p_value == 1
    assert difference.mcnemar is not None and difference.mcnemar.p_value == 1


def test_the_better_method_comes_first_and_pairs_are_complete() -> None:
    methods = {f"m{i}": once(drawn(300, 1 + 0.3 * i, i)) for i in range(4)}
    found = compare(methods, resamples=2000)
    assert len(found.differences) == 6
    assert all(d.value >= 0 and d.p_value <= d.p_holm for d in found.differences)
    assert {(d.a, d.b) for d in found.differences} == {
        (f"m{i}", f"m{j}") for i in range(4) for j in range(i)
    }
    assert compare({"m0": methods["m0"]}, resamples=1000).differences == ()


def test_a_margin_wider_than_the_interval_makes_methods_equivalent() -> None:
    near = drawn(400, 2.0, 4)
    wide, narrow = (
        compare({"a": once(A), "b": once(near)}, margin=margin, resamples=2000).differences[0]
        for margin in (0.2, 0.001)
    )
    assert wide.equivalent and not narrow.equivalent
    assert wide.p_value == narrow.p_value > 0.05


def test_seeds_add_their_own_error() -> None:
    same = [Tested(fold=0, seed=s, predictions=A) for s in range(3)]
    alone, again = (compare({"a": runs}, resamples=4000).estimates["a"] for runs in (once(A), same))
    assert again["macro_f1"].seed_sd == 0 and again["macro_f1"].value == alone["macro_f1"].value
    for metric, one in alone.items():
        assert (again[metric].low, again[metric].high) == pytest.approx((one.low, one.high))
    unlike = [
        Tested(fold=0, seed=s, predictions=drawn(400, skill, s, targets=A.targets))
        for s, skill in enumerate((1.5, 2.0, 2.5))
    ]
    unlike = [replace(t, predictions=replace(t.predictions, ids=A.ids)) for t in unlike]
    estimate = compare({"a": unlike}, resamples=4000).estimates["a"]["macro_f1"]
    assert estimate.seed_sd is not None and estimate.seed_sd > 0.03
    assert estimate.low < estimate.sampling_low < estimate.sampling_high < estimate.high


@pytest.mark.parametrize("sizes", [(4, 4), (5, 3), (3, 6)])
def test_seeds_of_two_methods_are_told_apart_as_by_welch(sizes: tuple[int, int]) -> None:
    """Where the rows have no error of their own, p is that of Welch's t-test."""
    rng = np.random.default_rng(2)
    a, b = (rng.normal(mean, 0.01, n) for mean, n in zip((0.81, 0.80), sizes, strict=True))
    draws = a.mean() - b.mean() + of_seeds([a, b]).draws(200_000, rng)
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert two_sided(draws) == pytest.approx(expected.pvalue, abs=0.005)
    one = of_seeds([a]).draws(200_000, rng)
    assert two_sided(a.mean() - 0.8 + one) == pytest.approx(
        stats.ttest_1samp(a, 0.8).pvalue, abs=0.005
    )
    assert not of_seeds([a[:1], b[:1]]).draws(10, rng).any()


def test_folds_are_averaged_and_their_spread_is_told() -> None:
    def runs(skill: float) -> list[Tested]:
        return [
            Tested(fold=f, seed=0, predictions=drawn(200, skill, 10 * f, fold=f)) for f in range(5)
        ]

    found = compare({"a": runs(2.0), "b": runs(1.0)}, resamples=2000)
    estimate = found.estimates["a"]["macro_f1"]
    each = [score(t.predictions)["macro_f1"] for t in runs(2.0)]
    assert estimate.value == pytest.approx(np.mean(each))
    assert estimate.fold_sd == pytest.approx(np.std(each, ddof=1))
    assert (found.rows, found.folds, found.seeds) == (1000, 5, {"a": 1, "b": 1})
    (difference,) = found.differences
    assert difference.p_holm < 0.01 and difference.mcnemar is not None
    assert difference.mcnemar.only_a > difference.mcnemar.only_b


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "b has the folds"),
        ([Tested(fold=1, seed=0, predictions=B)], "b has the folds"),
        (once(B) * 2, "b: two runs of fold 0 with seed 0"),
        (once(B.take(range(399))), "b, fold 0: other rows"),
        (once(replace(B, ids=["x", *B.ids[1:]])), "other rows .* such as '0-0'"),
        (once(replace(B, targets=np.roll(B.targets, 1))), "another true label"),
        (once(replace(B, labels=("no", "weak", "other"))), "other labels .* other, strong"),
    ],
)
def test_what_is_not_the_same_is_refused(runs: list[Tested], message: str) -> None:
    with pytest.raises(DataError, match=message):
        compare({"a": once(A), "b": runs}, resamples=1000)
    with pytest.raises(DataError, match="no methods"):
        compare({}, resamples=1000)


def covered(simulations: int, rows: int, resamples: int = 600) -> dict[str, float]:
    """How often intervals hold the truth, and tests of no difference say there is one."""
    many = 400_000
    population = np.random.default_rng(0).choice(3, many, p=SHARES)
    truth = score(drawn(many, 1.8, 1, targets=population))
    counts = dict.fromkeys(("macro_f1", "accuracy", "difference", "rejected", "equivalent"), 0)
    rng = np.random.default_rng(5)
    for i in range(simulations):
        targets = rng.choice(3, rows, p=SHARES)
        a, b = (drawn(rows, 1.8, 3 * i + k, targets=targets) for k in (10, 11))
        found = compare({"a": once(a), "b": once(b)}, resamples=resamples, seed=i)
        for metric in ("macro_f1", "accuracy"):
            e = found.estimates["a"][metric]
            counts[metric] += e.low <= truth[metric] <= e.high
        (d,) = found.differences
        counts["difference"] += d.low <= 0 <= d.high
        counts["rejected"] += d.p_value < 0.05
    return {name: count / simulations for name, count in counts.items()}


def test_intervals_cover_the_truth_quickly() -> None:
    found = covered(250, rows=400)
    assert all(0.9 <= found[name] <= 0.985 for name in ("macro_f1", "accuracy", "difference"))
    assert found["rejected"] <= 0.09


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_intervals_cover_the_truth() -> None:
    """95% +- 1% over 2,000 draws."""
    found = covered(2000, rows=600, resamples=1000)
    for name in ("macro_f1", "accuracy", "difference"):
        assert 0.94 <= found[name] <= 0.96, found
    assert 0.04 <= found["rejected"] <= 0.06, found


@pytest.mark.parametrize(("folds", "spread"), [(5, 0.0), (5, 0.005), (10, 0.01)])
def test_intervals_over_folds_cover_the_truth(folds: int, spread: float) -> None:
    """Folds whose true accuracy differs by ``spread``; the rows' own error is 0.0087."""
    rng, hits, rows, truth = np.random.default_rng(0), 0, 1200, 0.9
    for _ in range(600):
        right = [
            rng.random(rows) < np.clip(truth + spread * rng.normal(), 0, 1) for _ in range(folds)
        ]
        values = [np.array([r.mean()]) for r in right]
        draws = [rng.binomial(rows, r.mean(), 400) / rows for r in right]
        error, value = beyond_rows(values, draws), float(np.mean(values))
        drawn = with_error(np.mean(draws, axis=0), error, value, (0, 1), rng)
        low, high = interval(drawn)
        hits += low <= truth <= high
    assert 0.91 <= hits / 600 <= 0.98


def test_nothing_is_corrected_in_a_symmetric_case() -> None:
    draws = np.random.default_rng(0).normal(size=20_000)
    jackknife = np.tile([-1.0, 1.0], 50)
    found = interval(corrected(draws, 0.0, jackknife))
    assert found == pytest.approx(interval(draws), abs=0.03)
    assert interval(draws) == pytest.approx(stats.norm.interval(0.95), abs=0.05)
    one_sided = p_not_above(draws, -1.0), p_not_below(draws, 1.0)
    assert one_sided == pytest.approx([stats.norm.cdf(-1)] * 2, abs=0.01)
    level = np.zeros(100)
    assert interval(corrected(level, 0.0, jackknife)) == (0, 0)
    assert two_sided(corrected(level, 0.0, np.arange(9.0) ** 2)) == 1


@pytest.mark.parametrize("bias", [-0.2, 0.0, 0.2])
@pytest.mark.parametrize("acceleration", [-0.05, 0.0, 0.05])
def test_p_values_agree_with_intervals(bias: float, acceleration: float) -> None:
    """Below 5% just where the 95% interval leaves the bound out."""
    plain = np.random.default_rng(0).gamma(4, size=20_000)
    draws = moved(plain, bias=bias, acceleration=acceleration)
    for level in (0.001, 0.025, 0.5, 0.9, 0.999):
        z = bias + stats.norm.ppf(level)
        share = stats.norm.cdf(bias + z / (1 - acceleration * z))
        assert np.quantile(draws, level) == pytest.approx(np.quantile(plain, share), rel=0.02)
    assert (np.argsort(draws, kind="stable") == np.argsort(plain, kind="stable")).all()
    low, high = interval(draws)
    p = [two_sided(draws - end) for end in (low - 0.1, low + 0.1, high - 0.1, high + 1)]
    assert p[0] < 0.05 < p[1] and p[2] > 0.05 > p[3]
    for end in (low, high):
        assert two_sided(draws - end) == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize("acceleration", [-0.4, 0.4])
def test_a_strong_skew_moves_no_draw_to_the_other_end(acceleration: float) -> None:
    """Beyond the pole of Efron's formula, which lies at 2.5 standard deviations here."""
    draws = np.sort(np.random.default_rng(0).normal(size=5000))
    found = moved(draws, bias=0.1, acceleration=acceleration)
    assert (np.diff(found) >= 0).all()
    end = -1 if acceleration > 0 else 0
    assert found[end] == draws[end]
    middle = slice(1000, 4000)
    level = stats.norm.ppf((np.arange(5000) + 0.5) / 5000)[middle] + 0.1
    share = stats.norm.cdf(0.1 + level / (1 - acceleration * level))
    assert found[middle] == pytest.approx(np.quantile(draws, share))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_corrected_intervals_agree_with_corrected_p_values(metric: str) -> None:
    """Ten pairs of methods, some near the level, before and after the correction."""
    methods = {str(skill): once(drawn(400, skill, i)) for i, skill in enumerate(SKILLS)}
    found = compare(methods, metric=metric, resamples=4000)
    between = [d for d in found.differences if d.p_value < 0.05 <= d.p_holm]
    assert between and any(d.p_holm < 0.05 for d in found.differences)
    for d in found.differences:
        assert (d.holm_low <= 0 <= d.holm_high) == (d.p_holm >= 0.05)
        assert d.holm_high >= d.high
    assert any(d.low > 0 for d in between)  # of the pair alone: as decided as its own p


def test_the_level_of_a_corrected_interval_is_that_of_holm() -> None:
    draws = np.random.default_rng(0).normal(1, 0.2, 400_000)
    for times in (1, 3, 66):
        low, high = holm_interval(draws, 1.0, 1e-6, times * 1e-6)
        half = 0.2 * stats.norm.isf(0.025 / times)
        assert (low, high) == pytest.approx((1 - half, 1 + half), abs=0.01)
    assert holm_interval(draws, 1.0, 1e-300, 0.0)[0] > 0
    assert -0.2 < holm_interval(draws, 1.0, 0.03, 0.06)[0] < 0  # undecided: it holds 0
    assert holm_interval(draws, 1.0, 0.05, 0.05)[0] == pytest.approx(0, abs=1e-9)
    wide = np.random.default_rng(0).normal(-1, 0.6, 10_000)
    assert -0.1 < holm_interval(wide, -1.0, 0.01, 0.04)[1] < 0  # decided: on its side of 0
    assert holm_interval(np.zeros(100), 0.0, 1.0, 1.0) == (0, 0)
    low, high = holm_interval(np.full(100, 0.1), 0.1, 1.0, 1.0)
    assert -0.1 <= low <= 0 < high


def test_p_values_stay_between_0_and_1() -> None:
    """Where all draws lie on one side, however skewed."""
    for bias, acceleration in ((0.0, 0.0), (-2.5, 0.16), (2.5, -0.16)):
        for plain in (np.ones(500), -np.ones(500), np.zeros(500)):
            draws = moved(plain, bias=bias, acceleration=acceleration)
            for bound in (-0.5, 0.0, 0.5):
                assert 0 <= p_not_above(draws, bound) <= 1
                assert 0 <= p_not_below(draws, bound) <= 1


def plain_intervals(predictions: Predictions) -> dict[str, tuple[float, float]]:
    """95% intervals of scores over many rows, each row drawn by itself: normal for means over rows;
    for scores of the confusion matrix from draws of its cells, which rows drawn with replacement
    fill as a multinomial."""
    rows, p, targets = len(predictions.ids), predictions.probabilities, predictions.targets
    means = {
        "accuracy": (predictions.predicted == targets).astype(float),
        "nll": -np.log(p[np.arange(rows), targets]),
        "brier": ((p - np.eye(3)[targets]) ** 2).sum(axis=1),
    }
    half = {name: 1.96 * v.std(ddof=1) / rows**0.5 for name, v in means.items()}
    found = {name: (v.mean() - half[name], v.mean() + half[name]) for name, v in means.items()}
    cells = np.bincount(3 * targets + predictions.predicted, minlength=9) / rows
    drawn = np.random.default_rng(0).multinomial(rows, cells, 20_000).reshape(-1, 3, 3)
    hit, true, given = drawn.diagonal(0, 1, 2), drawn.sum(axis=2), drawn.sum(axis=1)
    f1 = 2 * hit / (true + given)
    spread = (rows**2 - (true**2.0).sum(axis=1)) * (rows**2 - (given**2.0).sum(axis=1))
    scores = {
        "macro_f1": f1.mean(axis=1),
        "weighted_f1": (f1 * true).sum(axis=1) / rows,
        "mcc": (hit.sum(axis=1) * rows - (true * given).sum(axis=1)) / np.sqrt(spread),
    }
    return found | {k: tuple(np.quantile(v, [0.025, 0.975])) for k, v in scores.items()}


@pytest.mark.parametrize("rows", [20_000, 20_001, 25_000, 30_000, 100_000])
@pytest.mark.parametrize("skill", [4.5, pytest.param(1.8, marks=pytest.mark.slow)])
def test_intervals_over_many_rows_are_those_of_a_plain_bootstrap(rows: int, skill: float) -> None:
    """Rows are put into groups above 20,000, of which some may have one row more."""
    predictions = drawn(rows, skill, rows)
    found = compare({"a": once(predictions)}, resamples=2000).estimates["a"]
    for metric, (low, high) in plain_intervals(predictions).items():
        one = found[metric]
        assert (one.low, one.high) == pytest.approx((low, high), abs=0.2 * (high - low)), metric
    fifth = predictions.take(np.flatnonzero(np.arange(rows) % 5 == 0))
    wider, one = compare({"a": once(fifth)}, resamples=1000).estimates["a"]["ece"], found["ece"]
    assert (one.high - one.low) / (wider.high - wider.low) == pytest.approx(5**-0.5, rel=0.3)


def test_one_test_row_has_a_score_and_no_error() -> None:
    one = A.take([0])
    found = compare({"a": once(one), "b": once(B.take([0]))}, resamples=1000)
    assert found.rows == 1 and found.differences[0].p_value == 1
    for estimate in found.estimates["a"].values():
        assert np.isfinite([estimate.low, estimate.high]).all()


def test_no_interval_leaves_the_range_of_its_score() -> None:
    """Seeds of unlike skill near the upper end of macro-F1 and the lower of NLL."""
    targets = A.targets
    unlike = [
        Tested(fold=0, seed=s, predictions=replace(drawn(400, k, s, targets=targets), ids=A.ids))
        for s, k in enumerate((3.0, 7.0, 9.0))
    ]
    found = compare({"a": unlike, "b": unlike[:1]}, resamples=2000)
    for metric, (low, high) in BOUNDS.items():
        one = found.estimates["a"][metric]
        assert low <= one.low < one.value < one.high <= high, metric
    of_several = found.estimates["a"]["macro_f1"]
    assert of_several.high - of_several.low > 1.5 * (
        of_several.sampling_high - of_several.sampling_low
    )
