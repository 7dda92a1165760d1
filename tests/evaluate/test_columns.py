"""Scores from column sums are the scores of the evaluator, whatever the task."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from llmclf.evaluate.columns import METRICS, ScoreColumns
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score


def random_predictions(seed: int, kind: str, rows: int = 60, labels: int = 4) -> Predictions:
    """``kind``: single, invalid or multilabel. The last label has no row, and may be predicted."""
    rng = np.random.default_rng(seed)
    names, ids = tuple("abcdefgh"[:labels]), [str(i) for i in range(rows)]
    logits = rng.normal(scale=1.5, size=(rows, labels))
    if kind == "multilabel":
        targets = (rng.random((rows, labels)) < 0.4).astype(np.float32)
        targets[:, -1] = 0
        return Predictions(
            ids=ids,
            labels=names,
            targets=targets,
            probabilities=expit(logits + 2 * targets),
            scored_by="sigmoid",
            multilabel=True,
            thresholds=tuple(rng.uniform(0.2, 0.8, labels).tolist()) if seed % 2 else None,
        )
    targets = rng.integers(0, labels - 1, rows)
    p = softmax(logits + 2 * np.eye(labels)[targets], axis=1)
    invalid = None
    if kind == "invalid":
        invalid = rng.random(rows) < 0.2
        p[invalid] = 1 / labels
    return Predictions(
        ids=ids,
        labels=names,
        targets=targets,
        probabilities=p,
        scored_by="softmax",
        invalid=invalid,
    )


@given(st.integers(0, 10_000), st.sampled_from(["single", "invalid", "multilabel"]))
@settings(max_examples=60, deadline=None)
def test_the_whole_sample_has_the_evaluators_scores(seed: int, kind: str) -> None:
    predictions = random_predictions(seed, kind)
    columns = ScoreColumns.of(predictions)
    found = columns.scores(columns.lines_NK.sum(axis=0)[None], len(predictions.ids))
    expected = score(predictions)
    assert found.keys() == set(METRICS)
    for metric in METRICS:
        assert found[metric][0] == pytest.approx(expected[metric], abs=1e-6), metric


@given(st.integers(0, 10_000), st.sampled_from(["single", "invalid", "multilabel"]))
@settings(max_examples=30, deadline=None)
def test_a_resample_has_the_scores_of_its_rows(seed: int, kind: str) -> None:
    predictions = random_predictions(seed, kind)
    drawn = np.random.default_rng(seed).integers(0, 60, 60)
    taken = Predictions(
        ids=[str(i) for i in range(60)],
        labels=predictions.labels,
        targets=predictions.targets[drawn],
        probabilities=predictions.probabilities[drawn],
        scored_by="x",
        multilabel=predictions.multilabel,
        thresholds=predictions.thresholds,
        invalid=None if predictions.invalid is None else predictions.invalid[drawn],
    )
    columns = ScoreColumns.of(predictions)
    found = columns.scores(columns.lines_NK[drawn].sum(axis=0)[None], 60)
    expected = score(taken)
    for metric in set(METRICS) - {"macro_f1"}:
        assert found[metric][0] == pytest.approx(expected[metric], abs=1e-6), metric
    per_label = expected["per_label"].values()
    lacking = sum(
        f["support"] == 0 and f["recall"] == f["precision"] == 0 and not absent
        for f, absent in zip(per_label, columns.absent_C, strict=True)
        if not _predicted(taken, f, per_label)
    )
    sum_of_f1 = expected["macro_f1"] * 4
    assert found["macro_f1"][0] == pytest.approx(sum_of_f1 / (4 - lacking), abs=1e-6)


def _predicted(predictions: Predictions, of: dict, all_of: object) -> bool:
    """Whether any row is given the label of this entry."""
    index = next(i for i, f in enumerate(all_of) if f is of)  # type: ignore[call-overload]
    predicted = predictions.predicted
    if predictions.multilabel:
        return bool(predicted[:, index].any())
    return bool((predicted == index).any())
