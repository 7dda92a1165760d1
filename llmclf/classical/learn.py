"""From training texts to a fitted scikit-learn pipeline: terms, their weights, a classifier.

Only training rows are seen; settings are chosen by cross-validation on those. N: rows, C: labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import joblib
import numpy as np
from scipy.special import expit, softmax
from sklearn import config_context
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from llmclf.classical.config import BaselineConfig
from llmclf.config import DataError
from llmclf.data.corpus import Split

VOCABULARY_ROWS = 100_000
VOCABULARY_TERMS = 100_000
"""Bounds on memory: a linear model has a weight for every term and class."""
SLOW = ("nearest_neighbours", "random_forest")
SLOW_ROWS = 50_000
"""Rows that neighbours and forests learn from at most: their cost outgrows the number of rows."""
PAIR = " pairseparator "
"""Between text and pair: a word of its own, so that no n-gram joins both unmarked."""
BELOW_HALF = float(np.nextafter(0.5, 0))


def prior(targets: np.ndarray) -> Pipeline:
    """The shares of the labels among the training rows, int64 (N) or 0/1 (N, C)."""
    prior: Any = DummyClassifier(strategy="prior")
    model = OneVsRestClassifier(prior) if targets.ndim == 2 else prior
    with _quiet():
        model.fit(np.zeros((len(targets), 1)), targets)
    return Pipeline([("classifier", model)])


def learn(config: BaselineConfig, train: Split, seed: int) -> tuple[Pipeline, dict[str, Any]]:
    """Terms, weighting and classifier, fitted, and the settings that the search chose."""
    assert config.features is not None
    documents, random = train.joined(PAIR), np.random.default_rng(seed)
    vectorizer = _vectorizer(config.features, documents, random)
    counts = vectorizer.transform(documents)
    slow = config.classifier in SLOW
    rows = random.permutation(len(train))[: SLOW_ROWS if slow else None]
    # Only while learning: threads that add up predictions in any order change their last bits.
    threads = -1 if config.classifier == "random_forest" else 1
    with joblib.parallel_config("threading", n_jobs=threads), _little_memory():
        learner, chosen = _search(config, counts, train, rows[: config.search_rows], seed)
        chosen |= fit_quietly(learner, counts[rows], train.targets[rows])
    chosen |= {"rows": len(rows), "terms": counts.shape[1]}
    return Pipeline([("count", vectorizer), *learner.steps]), chosen


def fit_quietly(learner: Pipeline, inputs: Any, targets: np.ndarray) -> dict[str, Any]:
    """Fit the learner; ``converged``: False, where it did not come to its end, else nothing."""
    with _quiet():
        learner.fit(inputs, targets)
    return {} if _converged(learner[-1]) else {"converged": False}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what scikit-learn warns of by the number of a label (one that all training rows have,
    or none): the audit names it. What did not converge is told by ``chosen``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Label .* is present in all training examples")
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _converged(model: Any) -> bool:
    """Whether a linear model ended before its last step; the others make none."""
    return all(
        np.max(getattr(part, "n_iter_", 0)) < getattr(part, "max_iter", 1)
        for part in getattr(model, "estimators_", [model])
    )


def _little_memory() -> AbstractContextManager[None]:
    """Distances between rows come in blocks; scikit-learn's of 1 GiB take 4 GiB in truth."""
    return config_context(working_memory=64)  # MiB


def _vectorizer(
    features: str, documents: list[str], random: np.random.Generator
) -> CountVectorizer:
    """Collect the terms (no labels) of 100,000 documents at most."""
    drawn = [documents[i] for i in random.permutation(len(documents))[:VOCABULARY_ROWS]]
    words = features == "words"
    vectorizer = CountVectorizer(
        analyzer="word" if words else "char_wb",
        # scikit-learn's own pattern drops words of one letter.
        token_pattern=r"(?u)\b\w+\b" if words else None,
        ngram_range=(1, 3) if words else (3, 5),
        min_df=2 if len(drawn) >= 1000 else 1,
        max_features=VOCABULARY_TERMS,
        dtype=np.float64,  # spares the classifiers a conversion
    )
    try:
        vectorizer.fit(drawn)
    except ValueError as error:
        raise DataError(
            f"the training texts hold no term to learn from ({error}); features={features!r}, "
            "allowed are 'words' and 'characters'."
        ) from error
    # Saved in a twentieth of the time of NumPy's integers, which take a file each.
    vectorizer.vocabulary_ = {term: int(i) for term, i in vectorizer.vocabulary_.items()}
    return vectorizer


def _search(
    config: BaselineConfig, counts: Any, train: Split, rows: np.ndarray, seed: int
) -> tuple[Pipeline, dict[str, Any]]:
    """Return weighting and classifier with the best settings, unfitted, and these settings."""
    targets = train.targets[rows]
    groups = None if train.groups is None else np.array(train.groups)[rows]
    folds = cross_validation(config.search_folds, targets, groups, seed)
    smallest = min((len(learnt) for learnt, _ in folds), default=len(rows))
    model, settings = _classifier(config.classifier, smallest, seed)
    several = targets.ndim == 2
    prefix = "classifier__estimator__" if several else "classifier__"
    grid = {prefix + name: values for name, values in settings.items()}
    if config.classifier != "random_forest":  # trees hardly see the scale of a term
        grid["tfidf__use_idf"] = [True, False]
    learner = Pipeline(
        [
            ("tfidf", TfidfTransformer(sublinear_tf=True)),
            ("classifier", OneVsRestClassifier(model) if several else model),
        ]
    )
    best, macro_f1 = best_settings(learner, grid, counts[rows], targets, folds)
    chosen = {name.rpartition("__")[2]: value for name, value in best.items()}
    return learner.set_params(**best), {**chosen, "cv_macro_f1": macro_f1}


def best_settings(
    learner: Pipeline,
    grid: dict[str, list[Any]],
    inputs: Any,
    targets: np.ndarray,
    folds: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[dict[str, Any], float | None]:
    """The settings of the grid with the highest macro-F1 in cross-validation, and that; the first
    ones, and None, where there are no folds."""
    if not folds:
        return {name: values[0] for name, values in grid.items()}, None
    search = GridSearchCV(
        learner, grid, scoring="f1_macro", cv=folds, refit=False, error_score="raise"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a rare label may be absent from a fold
        search.fit(inputs, targets)
    return search.best_params_, float(search.best_score_)


def cross_validation(
    count: int, targets: np.ndarray, groups: np.ndarray | None, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, test) indices, as many as the rows allow; none if they allow no search."""
    single = targets.ndim == 1
    splitter = {
        (True, False): StratifiedKFold,
        (True, True): StratifiedGroupKFold,
        (False, False): KFold,
        (False, True): GroupKFold,
    }[single, groups is not None]
    units = len(targets) if groups is None else len(np.unique(groups))
    count = min(count, units, np.bincount(targets).max() if single else units)
    if count < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class has fewer rows than there are folds
        folds = list(
            splitter(count, shuffle=True, random_state=seed).split(targets, targets, groups)
        )
    return [f for f in folds if len(f[1]) and len(np.unique(targets[f[0]], axis=0)) > 1]


def _classifier(name: str, rows: int, seed: int) -> tuple[Any, dict[str, list]]:
    """Return the classifier and its grid, whose first values are the default.

    ``rows`` is what the smallest fold holds: there cannot be more neighbours.
    """
    weights = [None, "balanced"]
    if name == "logistic_regression":
        model = LogisticRegression(tol=1e-3, max_iter=1000)
        return model, {"C": [10, 1], "class_weight": weights}
    if name == "linear_svm":
        model = LinearSVC(random_state=seed)
        return model, {"C": [1, 0.3, 3], "class_weight": weights}
    if name == "naive_bayes":
        return MultinomialNB(), {"alpha": [0.1, 0.03, 0.3, 1], "fit_prior": [True, False]}
    if name == "nearest_neighbours":
        model = KNeighborsClassifier(metric="cosine", algorithm="brute", weights="distance")
        return model, {"n_neighbors": [k for k in (15, 5, 45) if k <= rows] or [1]}
    assert name == "random_forest", name
    model = RandomForestClassifier(class_weight="balanced_subsample", random_state=seed)
    return model, {"min_samples_leaf": [3, 1]}


def scored_by(classifier: str, multilabel: bool) -> str:
    """How the probabilities come about, for the predictions."""
    link = "sigmoid" if multilabel else "softmax"
    known = {"majority": "prior", "logistic_regression": link, "linear_svm": f"{link} of margins"}
    return known.get(classifier, "predict_proba")


def probabilities(
    pipeline: Pipeline, inputs: list[str] | np.ndarray, labels: int, *, multilabel: bool
) -> np.ndarray:
    """Probabilities of ``labels`` labels, float64 (N, C), from what the pipeline reads; 0 for a
    label that it has never seen."""
    given_NC = _of_seen(pipeline, inputs, multilabel).astype(np.float64)
    if multilabel:
        return given_NC
    wide_NC = np.zeros((len(given_NC), labels))
    wide_NC[:, pipeline.classes_] = given_NC
    return wide_NC


def _of_seen(pipeline: Pipeline, inputs: list[str] | np.ndarray, multilabel: bool) -> np.ndarray:
    """Return (N, classes seen in training).

    Margins become probabilities without a fit, so that the likeliest label stays the one the
    margins decide for. They are not calibrated.
    """
    model = pipeline[-1]
    # Of several labels the first one's would be asked, which may have had no choice.
    if hasattr(getattr(model, "estimator", model) if multilabel else model, "predict_proba"):
        with _little_memory():
            return pipeline.predict_proba(inputs)
    margins = pipeline.decision_function(inputs)
    if multilabel:
        # A margin of 0 is a no to scikit-learn, and what it gives a label never seen in training.
        return np.where(margins > 0, expit(margins), np.minimum(expit(margins), BELOW_HALF))
    if margins.ndim == 1:
        margins = np.stack([-margins / 2, margins / 2], axis=1)
    return softmax(margins, axis=1)
