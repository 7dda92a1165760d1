"""How many labels until a method pays: scores over budgets, and where one curve crosses another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llmclf.evaluate.flips import effects
from llmclf.evaluate.holm import ALPHA, holm
from llmclf.evaluate.paired import Tested, align, p_no_difference, paired_draws
from llmclf.evaluate.resample import Runs, Sampled, resample, stream
from llmclf.report.analysis import BreakEven, BudgetPoint, Crossing


def break_even(
    curves: Mapping[str, Mapping[int, Sequence[Tested]]],
    *,
    per_class: Mapping[int, int | None],
    references: Sequence[str],
    metric: str,
    resamples: int,
    seed: int = 0,
) -> BreakEven:
    """Score each method at each budget of labels, and find where it first beats each reference.

    ``curves``: method -> labelled rows -> runs, all on the same test rows. A method with one budget
    is a level line: no further label would change it. A crossing is the smallest budget with a
    significantly higher score, by the paired test of :mod:`llmclf.evaluate.paired`, corrected over
    the budgets of the pair (Holm 1979); its interval is that of the budget at which the curves,
    straight between budgets on a logarithmic scale, first cross in each resample.

    ``per_class``: labelled rows in all -> of each class; ``references``: methods that others are to
    beat.
    """
    cells = {
        cell_name(method, budget): runs
        for method, budgets in curves.items()
        for budget, runs in budgets.items()
    }
    runs = align(cells)
    sampled = resample(runs, resamples=resamples, seed=seed)
    points = {
        method: tuple(
            _point(sampled[cell_name(method, budget)], method, budget, per_class, metric, seed)
            for budget in sorted(budgets)
        )
        for method, budgets in curves.items()
    }
    crossings = [
        crossing
        for method, budgets in curves.items()
        for reference in references
        if len(budgets) > 1 and reference != method and reference in curves
        for crossing in [_crossing(method, reference, curves, runs, sampled, metric, seed)]
    ]
    return BreakEven(curves=points, crossings=tuple(crossings))


def cell_name(method: str, budget: int) -> str:
    """Name of one method at one budget."""
    return f"{method} with {budget:,} labels"


def _point(
    one: Sampled,
    method: str,
    budget: int,
    per_class: Mapping[int, int | None],
    metric: str,
    seed: int,
) -> BudgetPoint:
    rng = stream(seed, cell_name(method, budget))
    _, (low, high) = one.intervals(metric, rng)
    return BudgetPoint(
        budget=budget,
        per_class=per_class.get(budget),
        value=one.value(metric),
        low=low,
        high=high,
        seeds=max(map(len, one.values[metric])),
    )


def _crossing(
    method: str,
    reference: str,
    curves: Mapping[str, Mapping[int, Sequence[Tested]]],
    runs: Mapping[str, Runs],
    sampled: Mapping[str, Sampled],
    metric: str,
    seed: int,
) -> Crossing:
    level = min(curves[reference]) if len(curves[reference]) == 1 else None
    budgets = sorted(b for b in curves[method] if level is not None or b in curves[reference])
    pairs = [(cell_name(method, b), cell_name(reference, level or b)) for b in budgets]
    draws = [paired_draws(sampled, pair, metric, seed) for pair in pairs]
    ahead = {
        budget: sampled[cell_name(method, budget)].value(metric)
        > sampled[cell_name(reference, level or budget)].value(metric)
        for budget in budgets
    }
    p_values = holm(p_no_difference(sampled, pairs, effects(runs, pairs, metric), metric, seed))
    first = [b for b, p in zip(budgets, p_values, strict=True) if p < ALPHA and ahead[b]]
    low, high = crossing_interval(budgets, np.stack(draws))
    return Crossing(
        method=method,
        reference=reference,
        budget=first[0] if first else None,
        low=low,
        high=high,
    )


def crossing_interval(
    budgets: Sequence[int], draws_BR: np.ndarray
) -> tuple[float | None, float | None]:
    """95% interval of the budget at which the difference first becomes positive.

    ``draws_BR``: differences at each budget under each resample. None where the interval's end lies
    below the smallest or above the largest budget.
    """
    logs = np.log(budgets)
    ahead = draws_BR > 0
    first = np.where(ahead.any(axis=0), ahead.argmax(axis=0), len(budgets))
    crossings = np.full(draws_BR.shape[1], np.inf)
    crossings[first == 0] = -np.inf
    between = np.flatnonzero((first > 0) & (first < len(budgets)))
    right = first[between]
    low, high = draws_BR[right - 1, between], draws_BR[right, between]
    weight = -low / (high - low)
    crossings[between] = logs[right - 1] + weight * (logs[right] - logs[right - 1])
    # Not interpolated: the mean of a number and infinity is infinity.
    ends = np.quantile(crossings, [0.025, 0.975], method="inverted_cdf")
    low_end, high_end = (float(np.exp(e)) if np.isfinite(e) else None for e in ends)
    return low_end, high_end
