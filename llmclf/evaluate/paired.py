"""Methods side by side on the same test rows: intervals, paired differences, equivalence.

A score is a mean over the runs of a method, which may have several folds and seeds. Rows are
resampled together for all methods, so a difference is judged row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmclf.evaluate.predictions import Predictions


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
    """95% interval: rows, and where there are several, folds and seeds, resampled."""
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
    """95% interval, paired by row."""
    p_value: float
    """Two-sided, of no difference, from the resamples."""
    p_holm: float
    """The same, corrected over all pairs of methods (Holm 1979)."""
    p_equivalent: float
    """Of a difference of the margin or more (two one-sided tests, Schuirmann 1987)."""
    equivalent: bool
    """Whether ``p_equivalent`` is below 0.05: the methods are within the margin of each other."""
    mcnemar: McNemar | None
    """On accuracy, first seed of each fold."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """All methods of a comparison."""

    metric: str
    """What differences are taken of, such as macro_f1."""
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
    """Of every pair of methods, the better one first."""
