"""Predictions of several runs in one."""

from __future__ import annotations

import numpy as np
import pytest

from llmclf.evaluate.calibration import risk_coverage
from llmclf.evaluate.predictions import Predictions
from llmclf.report.align import pooled


def run(seed: int, thresholds: tuple[float, ...] | None) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        ids=[str(i) for i in range(30)],
        labels=("a", "b"),
        targets=(rng.random((30, 2)) < 0.4).astype(np.float32),
        probabilities=rng.random((30, 2)),
        scored_by="sigmoid",
        multilabel=True,
        thresholds=thresholds,
    )


@pytest.mark.parametrize("second", [(0.3, 0.8), None])
def test_each_run_keeps_the_decisions_of_its_own_thresholds(
    second: tuple[float, ...] | None,
) -> None:
    parts = [run(0, (0.7, 0.2)), run(1, second)]
    whole = pooled(parts)
    expected = np.concatenate([p.predicted for p in parts])
    np.testing.assert_array_equal(whole.predicted, expected)
    rows = np.array([40, 3, 59])
    np.testing.assert_array_equal(whole.take(rows).predicted, expected[rows])
    turned = whole.with_labels(("b", "a"))
    np.testing.assert_array_equal(turned.predicted, expected[:, ::-1])
    right = np.concatenate([(p.predicted == p.targets).all(axis=1) for p in parts])
    assert risk_coverage(whole).accuracy[-1] == right.mean()
