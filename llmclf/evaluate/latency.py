"""How long one row takes that comes alone, as a service sees it; a batch hides that."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

ROWS = 200
SECONDS = 10.0
"""Seconds after which no further row is timed."""
WARM_UP = 3
LEAST_FOR_P99 = 100
"""Rows without which the 99th percentile is hardly more than the slowest one."""


def one_by_one(classify: Callable[[int], object], rows: int) -> list[float]:
    """Seconds of each of at most ``ROWS`` rows, spread evenly over all.

    ``classify``: takes a row's index, and returns when its probabilities are there.
    """
    chosen = np.linspace(0, rows - 1, min(rows, ROWS)).astype(int).tolist()
    for row in chosen[:WARM_UP]:
        classify(row)
    seconds: list[float] = []
    while len(seconds) < len(chosen) and sum(seconds) < SECONDS:
        started = time.perf_counter()
        classify(chosen[len(seconds)])
        seconds.append(time.perf_counter() - started)
    return seconds


def percentiles(seconds: Sequence[float]) -> dict[str, Any]:
    """The latencies of :class:`llmclf.evaluate.cost.Cost`; None where too few rows were timed."""
    return {
        "latency_p50_seconds": float(np.median(seconds)) if len(seconds) else None,
        "latency_p99_seconds": float(np.quantile(seconds, 0.99))
        if len(seconds) >= LEAST_FOR_P99
        else None,
    }
