"""Methods side by side on the same test rows: intervals, paired differences, equivalence.

A score is a mean over the runs of a method, which may have several folds and seeds. Rows are
resampled together for all methods, so a difference is judged row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

import numpy as np
from scipy.stats import binomtest

from llmclf.config import DataError
from llmclf.evaluate.align import aligned
from llmclf.evaluate.columns import METRICS
from llmclf.evaluate.flips import Effects, effects, no_difference
from llmclf.evaluate.holm import ALPHA, holm, holm_interval
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.resample import (
    BOUNDS,
    Interval,
    Runs,
    Sampled,
    StudentT,
    beyond_rows,
    corrected,
    of_seeds,
    p_not_above,
    p_not_below,
    resample,
    stream,
    with_error,
)
from llmclf.evaluate.shape import variance

PRIOR = "prior"
"""What always gives the commonest training label, as the other side of a difference."""
_PRIOR_RUNS = "\0prior"
"""Its name among methods, of which none can be called so."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """The test predictions of one run."""

    fold: int
    """Fold that was the test set; 0 where there is one test set."""
    seed: int
    predictions: Predictions


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score of one method, with what is known of its error."""

    value: float
    """Mean over folds of the mean over seeds, on the rows as they are."""
    low: float
    high: float
    """95% interval, its lower end ``low``: rows, and where there are several, folds and seeds,
    resampled."""
    sampling_low: float
    sampling_high: float
    """95% interval of the rows alone: how much other test rows would change the score."""
    seed_sd: float | None
    """Standard deviation (n - 1) over seeds, root mean square over folds; None for one seed."""
    fold_sd: float | None
    """Standard deviation (n - 1) over folds of the mean over seeds; None for one fold."""


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Rows that only one of two methods classified rightly, and the exact test on them."""

    only_a: int
    only_b: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Score of method a minus that of method b, in the comparison's metric."""

    a: str
    b: str
    value: float
    low: float
    high: float
    """95% interval, its lower end ``low``, paired by row."""
    p_value: float
    """Two-sided p value of no difference, by exchanging the two row by row; the interval holds 0
    where it is 0.05 or more."""
    p_holm: float
    """The p value of no difference, corrected over all pairs of methods (Holm 1979)."""
    holm_low: float
    holm_high: float
    """Interval at the level at which Holm's method judges the pair, 1 - 0.05 ``p_value`` /
    ``p_holm``, its lower end ``holm_low``: it holds 0 just where ``p_holm`` is 0.05 or more."""
    p_equivalent: float
    """p value of a difference of the margin or more (two one-sided tests, Schuirmann 1987)."""
    equivalent: bool
    """Whether ``p_equivalent`` is below 0.05: the methods are within the margin of each other."""
    mcnemar: McNemar | None
    """McNemar's test on accuracy, first seed of each fold."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """All methods of a comparison."""

    metric: str
    """Score that differences are taken of, such as macro_f1."""
    margin: float
    """Largest difference that does not matter."""
    resamples: int
    rows: int
    """Distinct test rows over all folds."""
    folds: int
    seeds: dict[str, int]
    """Method -> number of seeds."""
    estimates: dict[str, dict[str, Estimate]]
    """Method -> metric -> score."""
    differences: tuple[Difference, ...]
    """Differences of every pair of methods, the better one first."""
    above_prior: dict[str, Difference] = field(default_factory=dict)
    """Method -> its score minus that of the prior, corrected over methods; none where it is not
    known."""


def compare(
    methods: Mapping[str, Sequence[Tested]],
    *,
    prior: Sequence[Tested] = (),
    metric: str = "macro_f1",
    margin: float = 0.01,
    resamples: int = 10_000,
    seed: int = 0,
) -> Statistics:
    """Score all methods and compare each pair on the same test rows.

    Intervals of scores that count right and wrong rows are those of :mod:`.shape`, of the others,
    and of differences, those of draws, on one test set BCa (Efron 1987); the errors of seeds and
    folds are added. Raises DataError unless all methods have the same rows, labels and folds, in
    whatever order.

    ``prior``: what always gives the commonest label, compared with each method in a family of tests
    of its own; ``metric``: the score that differences are taken of; ``margin``: the largest
    difference that does not matter; ``resamples``, ``seed``: how many times rows are drawn again,
    and by which seed.
    """
    assert metric in METRICS, metric
    runs = align({**methods, **({_PRIOR_RUNS: prior} if prior else {})})
    sampled = resample(runs, resamples=resamples, seed=seed)
    estimates = {
        name: {m: _estimate(sampled[name], m, stream(seed, name)) for m in METRICS}
        for name in methods
    }
    against_prior = [(name, _PRIOR_RUNS) for name in methods] if prior else []
    of_pairs = partial(_differences, runs, sampled, metric=metric, margin=margin, seed=seed)
    first = next(iter(runs.values()))
    return Statistics(
        metric=metric,
        margin=margin,
        resamples=resamples,
        rows=len({id_ for seeds in first.values() for id_ in next(iter(seeds.values())).ids}),
        folds=len(first),
        seeds={name: max(map(len, runs[name].values())) for name in methods},
        estimates=estimates,
        differences=of_pairs(_pairs(sampled, methods, metric)),
        above_prior={d.a: replace(d, b=PRIOR) for d in of_pairs(against_prior)},
    )


def _estimate(one: Sampled, metric: str, rng: np.random.Generator) -> Estimate:
    values, value = one.values[metric], one.value(metric)
    sampling, (low, high) = one.intervals(metric, rng)
    variances = [v.var(ddof=1) for v in values if len(v) > 1]
    means = [v.mean() for v in values]
    return Estimate(
        value=value,
        low=low,
        high=high,
        sampling_low=sampling[0],
        sampling_high=sampling[1],
        seed_sd=float(np.sqrt(np.mean(variances))) if variances else None,
        fold_sd=float(np.std(means, ddof=1)) if len(means) > 1 else None,
    )


def _pairs(
    sampled: Mapping[str, Sampled], methods: Mapping[str, Sequence[Tested]], metric: str
) -> list[tuple[str, str]]:
    """Every pair of methods, the better one first."""
    lower_is_better = metric in ("nll", "brier", "ece")
    order = sorted(
        methods, key=lambda name: (-sampled[name].value(metric) * (-1) ** lower_is_better, name)
    )
    return list(combinations(order, 2))


def _differences(
    runs: dict[str, Runs],
    sampled: dict[str, Sampled],
    pairs: list[tuple[str, str]],
    *,
    metric: str,
    margin: float,
    seed: int,
) -> tuple[Difference, ...]:
    """Differences of the pairs, the p values corrected over all of them."""
    if not pairs:
        return ()
    of_rows = effects(runs, pairs, metric)
    p_values = p_no_difference(sampled, pairs, of_rows, metric, seed)
    return tuple(
        _difference(
            pair,
            sampled,
            runs,
            metric=metric,
            margin=margin,
            seed=seed,
            p_values=both,
            largest=float(largest),
        )
        for pair, both, largest in zip(
            pairs, zip(p_values, holm(p_values), strict=True), of_rows.largest_P, strict=True
        )
    )


def p_no_difference(
    sampled: Mapping[str, Sampled],
    pairs: Sequence[tuple[str, str]],
    of_rows: Effects,
    metric: str,
    seed: int,
) -> list[float]:
    """Two-sided p value of no difference of each pair, with the error of rows, folds and seeds."""
    resamples = len(next(iter(sampled.values())).rows[metric][0])
    return no_difference(
        of_rows,
        [sampled[a].value(metric) - sampled[b].value(metric) for a, b in pairs],
        [_standard_error(sampled, pair, metric) for pair in pairs],
        [_beyond_rows(sampled, pair, metric) for pair in pairs],
        resamples=resamples,
        rng=stream(seed, "exchanged"),
    )


def _standard_error(sampled: Mapping[str, Sampled], pair: tuple[str, str], metric: str) -> float:
    """What rows give the difference of two methods, were there none: as exchanges have it, in which
    each row has its effect or the opposite, so about 0 and not about the mean."""
    a, b = (sampled[name] for name in pair)
    folds = [x - y for x, y in zip(a.jackknife[metric], b.jackknife[metric], strict=True)]
    values = [x.mean() - y.mean() for x, y in zip(a.values[metric], b.values[metric], strict=True)]
    about_mean = sum(v**2 / len(j) for v, j in zip(values, folds, strict=True)) / len(folds) ** 2
    return float(np.sqrt(variance(folds) + about_mean))


def _difference(
    pair: tuple[str, str],
    sampled: dict[str, Sampled],
    runs: dict[str, Runs],
    *,
    metric: str,
    margin: float,
    seed: int,
    p_values: tuple[float, float],
    largest: float,
) -> Difference:
    a, b = (sampled[name] for name in pair)
    value, draws = a.value(metric) - b.value(metric), paired_draws(sampled, pair, metric, seed)
    unseen = _with_unseen(draws, largest, stream(seed, "\0".join(pair)))
    p_equivalent = max(p_not_above(unseen[0], -margin), p_not_below(unseen[1], margin))
    low, high = _not_empty(holm_interval(draws, value, p_values[0], p_values[0]), unseen)
    wider = _not_empty(holm_interval(draws, value, *p_values), unseen)
    corrected_ends = min(low, wider[0]), max(high, wider[1])
    return Difference(
        a=pair[0],
        b=pair[1],
        value=value,
        low=low,
        high=high,
        p_value=p_values[0],
        p_holm=p_values[1],
        holm_low=corrected_ends[0],
        holm_high=corrected_ends[1],
        p_equivalent=p_equivalent,
        equivalent=p_equivalent < ALPHA,
        mcnemar=mcnemar(runs[pair[0]], runs[pair[1]]),
    )


def _with_unseen(
    draws: np.ndarray, largest: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws of a difference with a row that was not seen, against the first method and for it.

    Rows that were not drawn may differ though none was seen that does, so one row more is added on
    the side in question, of the ``largest`` effect and with an exponential weight: where one method
    alone is ever wrong that is the bound of Clopper and Pearson (1934), for rows of uneven weight
    that of Fay and Feuer (1997).
    """
    unseen = largest * rng.standard_exponential(len(draws))
    return draws - unseen, draws + unseen


def _not_empty(ends: Interval, unseen: tuple[np.ndarray, np.ndarray]) -> Interval:
    """An interval of one point, that of methods with the same answers, made as wide as the test of
    equivalence has it, for which rows that were not seen count."""
    if ends[0] < ends[1]:
        return ends
    return float(np.quantile(unseen[0], ALPHA)), float(np.quantile(unseen[1], 1 - ALPHA))


def paired_draws(
    sampled: Mapping[str, Sampled], pair: tuple[str, str], metric: str, seed: int
) -> np.ndarray:
    """Draws of the first method's score less the second's, (R,): rows and folds are theirs in
    common, seeds are not. ``sampled``: by method; ``pair``: the names of the two."""
    a, b = (sampled[name] for name in pair)
    value, x, y = a.value(metric) - b.value(metric), *(s.only_jackknife(metric) for s in (a, b))
    without = None if x is None or y is None else x - y
    drawn = corrected(np.mean(_paired_rows(sampled, pair, metric), axis=0), value, without)
    rng = stream(seed, "\0".join(sorted(pair)))
    low, high = BOUNDS[metric]
    bounds = (low - high, high - low)
    return with_error(drawn, _beyond_rows(sampled, pair, metric), value, bounds, rng)


def _paired_rows(
    sampled: Mapping[str, Sampled], pair: tuple[str, str], metric: str
) -> list[np.ndarray]:
    a, b = (sampled[name].rows[metric] for name in pair)
    return [x - y for x, y in zip(a, b, strict=True)]


def _beyond_rows(sampled: Mapping[str, Sampled], pair: tuple[str, str], metric: str) -> StudentT:
    """What folds or seeds add to the error of a difference."""
    a, b = (sampled[name].values[metric] for name in pair)
    if len(a) == 1:
        return of_seeds([a[0], b[0]])
    differences = [np.array([x.mean() - y.mean()]) for x, y in zip(a, b, strict=True)]
    return beyond_rows(differences, _paired_rows(sampled, pair, metric))


def mcnemar(a: Runs, b: Runs) -> McNemar:
    """Exact test on the rows that one method alone has right, all folds together, with the lowest
    seed of each (McNemar 1947, by the binomial distribution)."""
    only_a = only_b = 0
    for fold in a:
        right = []
        for runs in (a, b):
            predictions = runs[fold][min(runs[fold])]
            hits = predictions.predicted == predictions.targets
            right.append(hits.reshape(len(hits), -1).all(axis=1))
        only_a += int((right[0] & ~right[1]).sum())
        only_b += int((right[1] & ~right[0]).sum())
    discordant = only_a + only_b
    p_value = float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p_value=p_value)


def align(methods: Mapping[str, Sequence[Tested]]) -> dict[str, Runs]:
    """Each method's predictions by fold and seed, rows and labels in the order of the first
    method's. Raises DataError, naming method and fold, where they are not the same."""
    if not methods:
        raise DataError("there are no methods to compare.")
    by_method: dict[str, dict[int, dict[int, Predictions]]] = {}
    for name, tested in methods.items():
        runs = by_method.setdefault(name, {})
        for one in sorted(tested, key=lambda t: (t.fold, t.seed)):
            seeds = runs.setdefault(one.fold, {})
            if one.seed in seeds:
                raise DataError(f"{name}: two runs of fold {one.fold} with seed {one.seed}.")
            seeds[one.seed] = one.predictions
    first_name, first = next(iter(by_method.items()))
    for name, runs in by_method.items():
        if runs.keys() != first.keys() or not runs:
            raise DataError(
                f"{name} has the folds {sorted(runs)}, {first_name} {sorted(first)}: give both the "
                "same."
            )
        for fold, seeds in runs.items():
            reference = next(iter(first[fold].values()))
            for s in seeds:
                seeds[s] = aligned(reference, seeds[s], f"{name}, fold {fold}")
    return dict(by_method)
