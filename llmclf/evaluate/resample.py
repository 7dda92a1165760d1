"""Bootstrap draws of every score of every method, paired by row.

The test rows of each fold are resampled with replacement (Efron 1979), the same rows for all
methods and seeds. What folds and seeds add is put on top of the rows' error, so that it is not
counted twice: see :func:`combine`.
R: resamples, K: folds, S: seeds.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from llmclf.evaluate.columns import METRICS, ScoreColumns
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.shape import COUNTED, Unseen, shape, unseen

BLOCK = 500
"""Resamples at once: bounds memory."""
MOST_UNITS = 20_000
"""More rows than this are put into so many random groups, and groups are resampled: the error of a
score over many rows is the same, and the time is bounded."""
TINY = 1e-9
BOUNDS = dict.fromkeys(METRICS, (0.0, 1.0)) | {
    "mcc": (-1.0, 1.0),
    "nll": (0.0, np.inf),
    "brier": (0.0, np.inf),  # up to 2, or to the number of labels where a row may have several
}
"""Between what each score lies."""

Runs = Mapping[int, Mapping[int, Predictions]]
"""Fold -> seed -> aligned predictions."""
Interval = tuple[float, float]
"""Lower and upper end."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """Scores of one method: as they are, and under resampling of the rows."""

    values: dict[str, list[np.ndarray]]
    """Metric -> for each fold the scores of its seeds, (S,)."""
    rows: dict[str, list[np.ndarray]]
    """Metric -> for each fold the mean over seeds under each resample, (R,)."""
    jackknife: dict[str, list[np.ndarray]]
    """Metric -> for each fold the mean over seeds without each row (or group of rows), (N,)."""
    unseen: dict[str, list[Unseen]]
    """Metric -> for each fold what rows that were not seen would do, in the mean over seeds."""

    def value(self, metric: str) -> float:
        """The metric's mean over folds of the mean over seeds."""
        return float(np.mean([seeds.mean() for seeds in self.values[metric]]))

    def intervals(self, metric: str, rng: np.random.Generator) -> tuple[Interval, Interval]:
        """95% intervals of :meth:`value`: of the rows alone, and with what folds and seeds add."""
        rows, value, bounds = self.rows[metric], self.value(metric), BOUNDS[metric]
        error = beyond_rows(self.values[metric], rows)
        if metric not in COUNTED:
            drawn = corrected(np.mean(rows, axis=0), value, self.only_jackknife(metric))
            both = with_error(drawn, error, value, bounds, rng)
            return _around(value, interval(drawn)), _around(value, interval(both))
        means = [seeds.mean() for seeds in self.values[metric]]
        of_rows = shape(means, self.jackknife[metric], self.unseen[metric], bounds)
        alone = _around(value, of_rows.quantiles(0.025, 0.975))
        if error.squared == 0:
            return alone, alone
        drawn = of_rows.draws(len(rows[0]), rng)
        return alone, _around(value, interval(with_error(drawn, error, value, bounds, rng)))

    def only_jackknife(self, metric: str) -> np.ndarray | None:
        """The score without each row, (N,), where there is one fold."""
        return self.jackknife[metric][0] if len(self.jackknife[metric]) == 1 else None


def _around(value: float, ends: Sequence[float] | np.ndarray) -> Interval:
    """The interval, with the value in it: rows that are all right allow that all are."""
    low, high = (float(end) for end in ends)
    return min(low, value), max(high, value)


def resample(methods: Mapping[str, Runs], *, resamples: int, seed: int) -> dict[str, Sampled]:
    """Score all methods under the same resamples of the rows of each fold."""
    folds = list(next(iter(methods.values())))
    samples = {
        name: Sampled(
            values={metric: [] for metric in METRICS},
            rows={metric: [] for metric in METRICS},
            jackknife={metric: [] for metric in METRICS},
            unseen={metric: [] for metric in COUNTED},
        )
        for name in methods
    }
    for fold in folds:
        rng = np.random.default_rng([seed, fold])
        columns = {
            (name, s): ScoreColumns.of(predictions)
            for name, runs in methods.items()
            for s, predictions in runs[fold].items()
        }
        _resample_fold(columns, samples, resamples, rng)
    return samples


def _resample_fold(
    columns: dict[tuple[str, int], ScoreColumns],
    samples: dict[str, Sampled],
    resamples: int,
    rng: np.random.Generator,
) -> None:
    widths = [c.lines_NK.shape[1] for c in columns.values()]
    lines = np.concatenate([c.lines_NK for c in columns.values()], axis=1)
    units, counts = grouped(lines, rng)
    ends = np.cumsum(widths)[:-1]
    draws = {key: {m: np.empty(resamples) for m in METRICS} for key in columns}
    for start in range(0, resamples, BLOCK):
        block = slice(start, min(start + BLOCK, resamples))
        weights = _weights(len(units), block.stop - block.start, rng)
        sums, rows = weights @ units, weights @ counts
        for key, part in zip(columns, np.split(sums, ends, axis=1), strict=True):
            for metric, values in columns[key].scores(part, rows).items():
                draws[key][metric][block] = values
    total = lines.sum(axis=0, dtype=np.float64)
    wholes = dict(zip(columns, np.split(total, ends), strict=True))
    parts = dict(zip(columns, np.split(units, ends, axis=1), strict=True))
    for name, sampled in samples.items():
        mine = [key for key in columns if key[0] == name]
        whole = [columns[key].scores(wholes[key][None], len(lines)) for key in mine]
        left = np.maximum(len(lines) - counts, 1)  # of a single row nothing is left
        without = [columns[key].scores(wholes[key] - parts[key], left) for key in mine]
        more = [unseen(columns[key], wholes[key], len(lines)) for key in mine]
        for metric in METRICS:
            sampled.values[metric].append(np.array([w[metric][0] for w in whole]))
            sampled.rows[metric].append(np.mean([draws[key][metric] for key in mine], axis=0))
            sampled.jackknife[metric].append(np.mean([w[metric] for w in without], axis=0))
        for metric in COUNTED:
            sampled.unseen[metric].append(Unseen.mean([u[metric] for u in more]))


def _weights(units: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each unit is in each resample, float32 (resamples, units)."""
    drawn = rng.integers(0, units, (resamples, units), dtype=np.int32)
    drawn += np.arange(resamples, dtype=np.int32)[:, None] * units
    counts = np.bincount(drawn.ravel(), minlength=resamples * units)
    return counts.reshape(resamples, units).astype(np.float32)


def grouped(lines: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The rows, or sums of random groups where there are too many rows; and how many rows each has,
    float32 (units,): a resample of groups has as many rows as its groups."""
    if len(lines) <= MOST_UNITS:
        return lines, np.ones(len(lines), np.float32)
    order = rng.permutation(len(lines))
    starts = np.linspace(0, len(lines), MOST_UNITS, endpoint=False).astype(np.int64)
    counts = np.diff(starts, append=len(lines)).astype(np.float32)
    return np.add.reduceat(lines[order], starts, axis=0), counts


def stream(seed: int, name: str) -> np.random.Generator:
    """Random numbers of one method's own: seeds of different methods have nothing in common."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


@dataclass(frozen=True)
class StudentT:
    """An error whose square is known with so many degrees of freedom, at least 2 of them: those of
    two values would leave every question open."""

    squared: float = 0.0
    freedom: float = 2.0

    def draws(self, resamples: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of the error, (resamples,)."""
        if self.squared == 0:
            return np.zeros(resamples)
        return rng.standard_t(max(self.freedom, 2), resamples) * np.sqrt(self.squared)

    def beyond(self, sizes: np.ndarray) -> np.ndarray:
        """How likely the error is larger than each size, in either direction."""
        return 2 * np.asarray(student.sf(sizes / np.sqrt(self.squared), max(self.freedom, 2)))


def beyond_rows(values: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> StudentT:
    """What folds and seeds add to the error that the rows of the tests give a mean over both.

    ``values``: for each fold the scores of its seeds; ``rows``: for each fold the draws over rows.

    Several folds: their scores differ by their rows, too, which ``rows`` holds already. So only the
    variance beyond it is added (plain nested resampling counts the rows twice, see Davison and
    Hinkley 1997, section 3.8). Seeds lie within folds, so the folds' variance holds theirs. One
    fold: the variance over seeds is added. What is added follows Student's t, since few folds or
    seeds know their variance badly. In simulations with 5 and 10 folds and 3 and 5 seeds, 95%
    intervals covered in 93 to 98% of 1,500 draws.
    """
    if len(values) == 1:
        return of_seeds([values[0]])
    means = np.array([v.mean() for v in values])
    within = float(np.mean([r.var() for r in rows]))
    return StudentT(max(0.0, means.var(ddof=1) - within) / len(means), len(means) - 1)


def with_error(
    drawn: np.ndarray,
    error: StudentT,
    value: float,
    bounds: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws over rows of a score whose ``value`` lies within ``bounds``, with another error on top,
    (R,).

    It is added to the log odds of the score between its bounds (to its logarithm, where the upper
    one is infinite), so that no draw leaves them; near the middle that is plain addition.
    """
    if error.squared == 0:
        return drawn
    added, (low, high) = error.draws(len(drawn), rng), bounds
    if not np.isfinite(low):
        return drawn + added
    if not np.isfinite(high):
        return low + (drawn - low) * np.exp(added / max(value - low, TINY))
    width = high - low
    share = np.clip((drawn - low) / width, TINY, 1 - TINY)
    middle = float(np.clip((value - low) / width, TINY, 1 - TINY))
    moved = expit(logit(share) + added / width / (middle * (1 - middle)))
    return low + width * moved


def of_seeds(methods: Sequence[np.ndarray]) -> StudentT:
    """The error of a mean over seeds, or of the difference of two.

    ``methods``: scores of the seeds of each, (S,). The degrees of freedom of a difference are those
    of Welch (1947): more than either method has. One seed says nothing of others.
    """
    errors = [(s.var(ddof=1) / len(s), len(s) - 1) for s in methods if len(s) > 1]
    squared = sum(error for error, _ in errors)
    if squared == 0:
        return StudentT()
    return StudentT(float(squared), squared**2 / sum(error**2 / n for error, n in errors))


def corrected(drawn: np.ndarray, value: float, jackknife: np.ndarray | None) -> np.ndarray:
    """Draws of a score corrected for bias and skewness (BCa, Efron 1987), in their order, (R,):
    their plain quantiles are the corrected ends.

    ``jackknife``: the score without each row, (N,). As they are without one, where all draws lie on
    one side of the score, or where no row changes it.
    """
    below = (drawn < value).mean() + (drawn == value).mean() / 2
    if jackknife is None or not 0 < below < 1:
        return drawn
    deviations = jackknife.mean() - jackknife
    squares = (deviations**2).sum()
    if squares == 0:
        return drawn
    acceleration = (deviations**3).sum() / (6 * squares**1.5)
    return moved(drawn, bias=float(norm.ppf(below)), acceleration=float(acceleration))


def moved(drawn: np.ndarray, *, bias: float, acceleration: float) -> np.ndarray:
    """Draws whose quantile at each level is that of ``drawn`` at the level that Efron (1987, 6.8)
    puts in its place, in their order, (R,)."""
    z = bias + norm.ppf((np.arange(len(drawn)) + 0.5) / len(drawn))
    scale = 1 - acceleration * z
    # Beyond the pole, far in the longer tail, there is no more than the last draw.
    levels = np.where(scale > 0, norm.cdf(bias + z / np.where(scale > 0, scale, 1)), z > 0)
    rank = rankdata(drawn, method="ordinal").astype(np.int64) - 1
    return np.asarray(np.quantile(drawn, levels)[rank])


def interval(draws: np.ndarray) -> Interval:
    """The middle 95% of the draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def p_not_above(draws: np.ndarray, bound: float = 0.0) -> float:
    """One-sided p value of no more than ``bound``, from draws of a difference.

    One is added to the draws, so that it is not 0 (Davison and Hinkley 1997, 4.2).
    """
    return _share(draws <= bound)


def p_not_below(draws: np.ndarray, bound: float = 0.0) -> float:
    """One-sided p value of no less than ``bound``."""
    return _share(draws >= bound)


def _share(extreme: np.ndarray) -> float:
    return float((extreme.sum() + 1) / (len(extreme) + 1))
