"""Many tests at once: p values, and intervals that agree with them (Holm 1979)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from llmclf.evaluate.resample import Interval

ALPHA = 0.05
"""Level of every test."""


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of a family of tests (Holm 1979), in the order they are given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()


def holm_interval(draws: np.ndarray, value: float, p_value: float, p_holm: float) -> Interval:
    """Interval of a difference ``value``, from draws of it, that agrees with its corrected p value.

    Holm (1979) compares the p value not with 0.05 but with 0.05 ``p_value`` / ``p_holm``, from 0.05
    divided by the number of pairs up to 0.05; that is the share outside of the interval. Draws and
    exchanges of rows are two ways to the error: where they disagree on 0, the end towards it is
    that of the normal error whose two-sided p is ``p_value``.
    """
    outside = ALPHA * (p_value / p_holm if p_holm > 0 else 1)
    low, high = map(float, np.quantile(draws, [outside / 2, 1 - outside / 2]))
    if (p_holm >= ALPHA) == (low <= 0 <= high):
        return low, high
    errors = float(norm.isf(p_value / 2))  # how many standard errors from 0
    end = value * (1 - float(norm.isf(outside / 2)) / errors) if errors > 0 else 0.0
    return (max(end, -high), high) if value > 0 else (low, min(end, -low))
