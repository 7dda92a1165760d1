"""A linear classifier on states: layer and settings by cross-validation on training rows.

N: rows, D: numbers of a state, C: labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from llmclf.classical.learn import best_settings, cross_validation, fit_quietly
from llmclf.data.corpus import Split
from llmclf.features.config import FeaturesConfig

SEARCH_ROWS = 20_000
"""Rows that the search looks at."""


def learn(
    config: FeaturesConfig, states: Mapping[int, np.ndarray], train: Split, seed: int
) -> tuple[Pipeline, int, dict[str, Any]]:
    """The classifier, fitted; the layer that it reads; and what the search chose, as JSON values.

    ``states``: layer -> states of the training rows, float32 (N, D), the default layer first.
    """
    rows = np.random.default_rng(seed).permutation(len(train))[:SEARCH_ROWS]
    targets = train.targets[rows]
    groups = None if train.groups is None else np.array(train.groups)[rows]
    folds = cross_validation(config.search_folds, targets, groups, seed)
    smallest = min((len(learnt) for learnt, _ in folds), default=len(rows))
    several = targets.ndim == 2
    labels = 2 if several else len(np.unique(targets))
    if config.classifier == "nearest_centroid" and smallest <= labels:
        folds, smallest = [], len(rows)  # the spread within labels would be unknown
    learner, grid = _learner(config, smallest, labels, seed, several=several)
    searched = {
        layer: best_settings(learner, grid, states_ND[rows], targets, folds)
        for layer, states_ND in states.items()
    }
    layer = max(searched, key=lambda layer: searched[layer][1] or 0.0)  # of equals the first
    best, macro_f1 = searched[layer]
    chosen = {name.rpartition("__")[2]: value for name, value in best.items()}
    chosen |= fit_quietly(learner.set_params(**best), states[layer], train.targets)
    return learner, layer, {**chosen, "layer": layer, "cv_macro_f1": macro_f1, "rows": len(train)}


def _learner(
    config: FeaturesConfig, rows: int, labels: int, seed: int, *, several: bool
) -> tuple[Pipeline, dict[str, list[Any]]]:
    """Scaling and classifier, unfitted, and its grid, whose first values are the default.

    ``rows``: what the smallest fold holds: there cannot be more neighbours; ``labels``: in them.
    """
    model, settings = _classifier(config.classifier, rows, labels, seed)
    prefix = "classifier__estimator__" if several else "classifier__"
    steps = [("scale", StandardScaler())]
    if config.classifier.startswith("nearest"):
        steps.append(("unit", Normalizer()))  # so that distances are those of angles
    steps.append(("classifier", OneVsRestClassifier(model) if several else model))
    return Pipeline(steps), {prefix + name: values for name, values in settings.items()}


def _classifier(name: str, rows: int, labels: int, seed: int) -> tuple[Any, dict[str, list[Any]]]:
    if name == "logistic_regression":
        strengths = [0.01, 0.001, 0.003, 0.03, 0.1]
        return LogisticRegression(tol=1e-3, max_iter=1000), {"C": strengths}
    if name == "linear_svm":
        return LinearSVC(random_state=seed), {"C": [0.001, 0.00003, 0.0003, 0.01, 0.1]}
    if name == "nearest_centroid" and rows > labels:
        return NearestCentroid(), {"shrink_threshold": [None, 0.5]}
    assert name in ("nearest_neighbours", "nearest_centroid"), name
    model = KNeighborsClassifier(metric="cosine", algorithm="brute", weights="distance")
    return model, {
        "n_neighbors": [k for k in (15, 5, 1, 45) if k <= rows and name != "nearest_centroid"]
        or [1]
    }
