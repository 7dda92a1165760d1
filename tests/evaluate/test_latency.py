"""Rows that come alone are timed one by one, spread over all, within a bound."""

from __future__ import annotations

import time

import numpy as np
import pytest

from llmclf.evaluate import latency
from llmclf.evaluate.latency import LEAST_FOR_P99, ROWS, WARM_UP, one_by_one, percentiles


def test_few_rows_are_each_timed_once() -> None:
    asked: list[int] = []
    assert len(one_by_one(asked.append, 5)) == 5
    assert asked[WARM_UP:] == [0, 1, 2, 3, 4]


def test_of_many_rows_some_are_timed_from_first_to_last() -> None:
    asked: list[int] = []
    assert len(one_by_one(asked.append, 10_000)) == ROWS
    timed = np.array(asked[WARM_UP:])
    assert timed[0] == 0 and timed[-1] == 9_999 and len(set(timed)) == ROWS
    assert np.diff(timed).max() <= 10_000 // ROWS + 2


def test_slow_rows_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.05)
    seconds = one_by_one(lambda row: time.sleep(0.02), 100)
    assert 1 <= len(seconds) <= 3
    assert all(s >= 0.02 for s in seconds)


def test_percentiles_need_rows() -> None:
    found = percentiles([0.1] * (LEAST_FOR_P99 - 1))
    assert found == {"latency_p50_seconds": 0.1, "latency_p99_seconds": None}
    assert percentiles([]) == {"latency_p50_seconds": None, "latency_p99_seconds": None}
    values = np.random.default_rng(0).random(1000)
    found = percentiles(values.tolist())
    assert found["latency_p50_seconds"] == pytest.approx(np.percentile(values, 50))
    assert found["latency_p99_seconds"] == pytest.approx(np.percentile(values, 99))
