"""Whether two methods differ at all: a paired test by exchanging them row by row.

Were both equally good, it would be chance which of the two got which row's answer. So the answers
of both are exchanged in random rows, and p is the share of exchanges that make a difference as
large as the real one (Fisher 1935; on F1, Yeh 2000); on accuracy that is McNemar's exact test.

A score is not a sum over rows. For the exchanges it is taken as one by its gradient at the mean of
both methods, near which they stay. The real difference of two methods may lie far from there, so it
is taken as it is, and is divided by a standard error of its own, as the exchanges are by theirs
(studentised, Chung and Romano 2013). So p holds for methods of unlike kind, too, that have the same
score, such as one that never gives the rare label. On accuracy both errors are the same.
P: pairs of methods, N: rows of all folds, K: columns of sums, R: resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from llmclf.evaluate.columns import ScoreColumns
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.resample import BLOCK, Runs, StudentT, grouped

MOST_EXACT = 14
"""Up to so many rows that differ, all exchanges are gone through: 16,384."""
LARGER_THAN_NORMAL = 1 / (4 * norm.sf(2**0.5))
"""A weighted sum of random signs exceeds any bound at most so many times (3.18) as often as a
normal variable of its variance (Bentkus and Dzindzalieta 2015)."""
STEP = 0.01
"""Rows; of the gradient's central differences."""
TINY = 1e-300
TIE = 1e-3
"""Exchanges closer to the real difference than this, in standard deviations, are as large."""


@dataclass(frozen=True, eq=False)
class Effects:
    """What each row adds to the difference of each pair of methods, and could add at most."""

    rows_PN: np.ndarray
    """float32; the sum over all rows is the difference of methods that are near each other."""
    largest_P: np.ndarray
    """Effect of one more row that the first method has right and the second wrong, of the label
    where that weighs most: what the data cannot exclude where no row of it was seen, float64."""


def effects(runs: Mapping[str, Runs], pairs: Sequence[tuple[str, str]], metric: str) -> Effects:
    """The effects of all folds, each fold a part of the mean; seeds of a method are averaged."""
    runs = {name: runs[name] for pair in pairs for name in pair}
    folds = list(next(iter(runs.values())))
    parts, largest = [], np.zeros(len(pairs))
    for fold in folds:
        first = ScoreColumns.of(next(iter(next(iter(runs.values()))[fold].values())))
        lines = {name: _mean_lines(list(of[fold].values())) for name, of in runs.items()}
        totals = {name: of.sum(axis=0, dtype=np.float64) for name, of in lines.items()}
        part = np.empty((len(pairs), len(next(iter(lines.values())))), np.float32)
        for i, (a, b) in enumerate(pairs):
            sums = (totals[a] + totals[b]) / 2
            slope = gradient(first, sums, metric, len(part[i])) / len(folds)
            # The difference first: rows that both have alike are then exactly 0.
            part[i] = (lines[a] - lines[b]) @ slope.astype(np.float32)
            most = _largest(first, slope, sums, metric, part[i])
            largest[i] = max(largest[i], most)
        parts.append(_in_groups(part))
    return Effects(np.concatenate(parts, axis=1), largest)


def _mean_lines(seeds: Sequence[Predictions]) -> np.ndarray:
    """Mean over seeds of what each row adds to the sums, float32 (N, K)."""
    return np.asarray(np.mean([ScoreColumns.of(p).lines_NK for p in seeds], axis=0))


def _in_groups(part_PN: np.ndarray) -> np.ndarray:
    """The rows of one fold, or groups of them where they are many: these are exchanged together."""
    units_NP, _ = grouped(np.ascontiguousarray(part_PN.T), np.random.default_rng(0))
    return units_NP.T


def gradient(columns: ScoreColumns, sums_K: np.ndarray, metric: str, rows: int) -> np.ndarray:
    """Slope of a score in each of its sums, float64 (K,)."""
    steps = STEP * np.eye(len(sums_K))
    ahead, behind = (columns.scores(sums_K + sign * steps, rows)[metric] for sign in (1, -1))
    return np.asarray((ahead - behind) / (2 * STEP))


def _largest(
    columns: ScoreColumns, slope: np.ndarray, sums: np.ndarray, metric: str, seen: np.ndarray
) -> float:
    """The largest effect of one row more, from the slopes of a score; of scores that have no right
    and wrong, the largest that was ``seen``."""
    if metric in ("nll", "brier", "ece"):
        return float(np.abs(seen).max())
    labels = len(columns.absent_C)
    hit, given, _ = (slope[i * labels : (i + 1) * labels] for i in range(3))
    support = sums[2 * labels : 3 * labels]
    right, known = slope[3 * labels], support > 0
    if columns.multilabel:
        one = np.concatenate([(hit + given)[known], given[known]])  # a label left out, one too many
        return float(np.abs(one).max(initial=0.0) + right)
    return float((hit + given)[known].max() - given[known].min() + right)


def no_difference(
    effects: Effects,
    differences: Sequence[float],
    standard_errors: Sequence[float],
    beyond: Sequence[StudentT],
    *,
    resamples: int,
    rng: np.random.Generator,
) -> list[float]:
    """Two-sided p value of no difference of each pair.

    ``differences``: the real ones, with the ``standard_errors`` that rows give them where there is
    no difference; ``beyond``: what folds and seeds add. Exact where few rows differ and nothing is
    added. Else from random exchanges, one added to both counts; where these are too few to tell how
    small p is, from a bound on its tail.
    """
    spread = np.sqrt((effects.rows_PN.astype(np.float64) ** 2).sum(axis=1))
    scaled = effects.rows_PN / np.maximum(spread, TINY)[:, None]
    unit = np.maximum(standard_errors, TINY)
    observed = np.abs(differences) / unit
    counts = _as_large(scaled.astype(np.float32), observed, unit, beyond, resamples, rng)
    p_values = []
    for pair, error in enumerate(beyond):
        differing = scaled[pair][scaled[pair] != 0]
        if len(differing) <= MOST_EXACT and error.squared == 0:
            p_values.append(_exact(differing))
            continue
        drawn = (counts[pair] + 1) / (resamples + 1)
        bound = _bound(observed[pair], error, unit[pair])
        p_values.append(float(min(1.0, drawn, bound)))
    return p_values


def _as_large(
    scaled_PN: np.ndarray,
    observed_P: np.ndarray,
    unit_P: np.ndarray,
    beyond: Sequence[StudentT],
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """How many of the exchanges give a difference as large as the real one, of each pair."""
    totals, counts = scaled_PN.sum(axis=1), np.zeros(len(scaled_PN), np.int64)
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        kept = rng.integers(0, 2, (size, scaled_PN.shape[1]), dtype=np.int8).astype(np.float32)
        exchanged = 2 * (kept @ scaled_PN.T) - totals
        for pair, error in enumerate(beyond):
            if error.squared:
                exchanged[:, pair] += error.draws(size, rng) / unit_P[pair]
        counts += (np.abs(exchanged) >= observed_P - TIE).sum(axis=0)
    return counts


def _exact(differing: np.ndarray) -> float:
    """Share of all exchanges with a sum of effects as large."""
    if len(differing) == 0:
        return 1.0
    signs = 1 - 2 * ((np.arange(2 ** len(differing))[:, None] >> np.arange(len(differing))) & 1)
    return float((np.abs(signs @ differing) >= abs(differing.sum()) - TIE).mean())


def _bound(observed: float, error: StudentT, unit: float) -> float:
    """Bound on p: either the rows' part is larger than a share of the difference, or the part of
    folds and seeds is larger than the rest."""
    if error.squared == 0:
        return float(2 * LARGER_THAN_NORMAL * norm.sf(observed))
    rows = np.linspace(0, observed, 200)
    rest = error.beyond((observed - rows) * unit)
    return float((2 * LARGER_THAN_NORMAL * norm.sf(rows) + rest).min())
