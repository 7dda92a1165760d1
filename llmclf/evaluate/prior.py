"""The prior, which says nothing of the text: every row gets the label shares of the training
rows."""

from __future__ import annotations

import numpy as np

from llmclf.evaluate.predictions import Predictions


def prior(train_targets: np.ndarray, test: Predictions) -> Predictions:
    """Predictions of the test rows that have the shares of the training labels as probabilities.

    ``train_targets``: int64 (N,), or 0/1 (N, C) for a multilabel task.
    """
    if test.multilabel:
        shares_C = train_targets.mean(axis=0, dtype=np.float64)
    else:
        counts_C = np.bincount(train_targets, minlength=len(test.labels))
        shares_C = counts_C / len(train_targets)
    return of_shares(shares_C, test)


def of_shares(shares_C: np.ndarray, test: Predictions) -> Predictions:
    """Predictions of the test rows that have these shares of the training rows, float64 (C,), as
    probabilities."""
    return Predictions(
        ids=test.ids,
        labels=test.labels,
        targets=test.targets,
        probabilities=np.tile(shares_C, (len(test.ids), 1)),
        scored_by="prior",
        multilabel=test.multilabel,
    )
