"""Classical baselines: the majority class, and TF-IDF with five scikit-learn classifiers.

They see training rows only, and choose their settings by cross-validation on those.
N: rows, C: labels.
"""

from __future__ import annotations

import json
import time
import warnings
import zipfile
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import skops.io
from scipy.special import expit, softmax
from sklearn import config_context
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
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

from llmclf.atomic import replaced, write_text
from llmclf.config import ConfigError, DataError, dump_json
from llmclf.data.corpus import Split, Splits
from llmclf.evaluate import calibration
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.cost import Cost, PeakMemory
from llmclf.evaluate.energy import EnergyMeter
from llmclf.evaluate.latency import one_by_one, percentiles
from llmclf.evaluate.predictions import Predictions

VOCABULARY_ROWS = 100_000
VOCABULARY_TERMS = 100_000
"""Bounds on memory: a linear model has a weight for every term and class."""
SLOW = ("nearest_neighbours", "random_forest")
SLOW_ROWS = 50_000
"""Rows that neighbours and forests learn from at most: their cost outgrows the number of rows."""
PAIR = " pairseparator "
"""Between text and pair: a word of its own, so that no n-gram joins both unmarked."""
TRUSTED = ["scipy.sparse._csr.csr_matrix", "sklearn.tree._tree.Tree"]
"""Kept by neighbours and forests. Reading them runs no code; forged ones may crash a prediction."""
BELOW_HALF = float(np.nextafter(0.5, 0))


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """A classical classifier."""

    classifier: Literal[
        "majority",
        "logistic_regression",
        "linear_svm",
        "naive_bayes",
        "nearest_neighbours",
        "random_forest",
    ] = "linear_svm"
    """"majority" gives every row the label shares of the training rows; the others read TF-IDF."""
    features: Literal["words", "characters"] = "words"
    """Terms: runs of 1 to 3 words, or of 3 to 5 characters (slower; for text without spaces)."""
    search_folds: int = 3
    """Cross-validation folds that choose the settings by macro-F1; 0: the default settings."""
    search_rows: int = 20_000
    """Training rows that the cross-validation uses at most, drawn at random."""

    def __post_init__(self) -> None:
        if self.search_folds < 0 or self.search_folds == 1:
            raise ConfigError(
                f"search_folds={self.search_folds}: allowed are 0 (no search) and 2 or more."
            )
        if self.search_rows < 1:
            raise ConfigError(f"search_rows={self.search_rows}: must be at least 1.")


@dataclass(frozen=True, eq=False)
class Baseline:
    """A fitted baseline."""

    pipeline: Pipeline
    labels: tuple[str, ...]
    """Label names in the order of the probabilities (C)."""
    multilabel: bool
    scored_by: str
    """How the probabilities come about."""
    chosen: dict[str, Any]
    """The settings found and their cross-validated macro-F1, as JSON values."""
    calibration: Calibration = field(default_factory=Calibration)
    """Of the probabilities, fitted on validation rows."""

    def predict(self, split: Split) -> Predictions:
        """Classify the rows of a split."""
        raw = Predictions(
            ids=split.ids,
            labels=self.labels,
            targets=split.targets,
            probabilities=self.probabilities(split.texts, split.pairs),
            scored_by=self.scored_by,
            multilabel=self.multilabel,
        )
        return self.calibration.apply(raw)

    def probabilities(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Return float64 (N, C), in the order of ``labels``, not yet calibrated."""
        found = _probabilities(self.pipeline, _documents(texts, pairs), self.multilabel)
        if self.multilabel:
            return found
        spread = np.zeros((len(texts), len(self.labels)))
        spread[:, self.pipeline.classes_] = found  # a label may be missing from the training rows
        return spread

    @property
    def parameters(self) -> int | None:
        """Numbers learnt by a linear model, naive Bayes or the prior; None for the other two."""
        model = self.pipeline[-1]
        names = ("coef_", "intercept_", "feature_log_prob_", "class_log_prior_", "class_prior_")
        parts = getattr(model, "estimators_", [model])
        return sum(np.size(getattr(part, name, ())) for part in parts for name in names) or None

    def save(self, folder: Path) -> None:
        """Write ``baseline.skops`` and ``baseline.json``: no pickle, so loading runs no code."""
        with replaced(folder / "baseline.skops") as temporary:
            skops.io.dump(self.pipeline, temporary, compression=zipfile.ZIP_DEFLATED)
        facts = {
            "labels": self.labels,
            "multilabel": self.multilabel,
            "chosen": self.chosen,
            "scored_by": self.scored_by,
            "calibration": self.calibration.to_json(self.labels),
        }
        write_text(folder / "baseline.json", dump_json(facts))

    @classmethod
    def load(cls, folder: Path) -> Baseline:
        """Read what :meth:`save` wrote. Raises DataError, naming the folder, if it is not that."""
        try:
            facts = json.loads((folder / "baseline.json").read_text(encoding="utf-8"))
            pipeline = skops.io.load(folder / "baseline.skops", trusted=TRUSTED)
            facts["labels"] = labels = tuple(facts["labels"])
            facts["calibration"] = Calibration.from_json(facts["calibration"], labels)
            return cls(pipeline=pipeline, **facts)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{folder}: no saved baseline ({error}). Expected baseline.json and "
                "baseline.skops; train it again."
            ) from error


def fit(
    config: BaselineConfig, train: Split, *, labels: tuple[str, ...], multilabel: bool, seed: int
) -> Baseline:
    """Choose the settings on the training rows, then learn from them; ``seed`` fixes all of it.

    ``chosen["rows"]`` says how many rows were learnt from: 50,000 at most, drawn at random, for
    neighbours and forests. Raises DataError if the texts hold no usable term.
    """
    chosen: dict[str, Any] = {}
    if config.classifier == "majority":
        pipeline = _prior(train.targets)
    else:
        pipeline, chosen = _learn(config, train, seed)
    return Baseline(
        pipeline=pipeline,
        labels=labels,
        multilabel=multilabel,
        scored_by=_scored_by(config.classifier, multilabel),
        chosen=chosen,
    )


def run(
    config: BaselineConfig, splits: Splits, *, seed: int
) -> tuple[Baseline, Predictions | None, Predictions, Cost]:
    """Fit on the training rows and predict the others: baseline, validation, test, cost."""
    with PeakMemory() as memory:
        started = time.perf_counter()
        with EnergyMeter() as train_energy:
            fitted = fit(
                config, splits.train, labels=splits.labels, multilabel=splits.multilabel, seed=seed
            )
        train_seconds = time.perf_counter() - started
        validation = fitted.predict(splits.validation) if len(splits.validation) else None
        fitted = replace(fitted, calibration=calibration.fit(validation))
        validation = None if validation is None else fitted.calibration.apply(validation)
        started = time.perf_counter()
        with EnergyMeter() as predict_energy:
            test = fitted.predict(splits.test)
        predict_seconds = time.perf_counter() - started
    cost = Cost(
        train_seconds=train_seconds,
        predict_seconds=predict_seconds,
        predict_examples_per_second=len(splits.test) / predict_seconds,
        peak_memory_bytes=memory.peak_bytes,
        total_parameters=fitted.parameters,
        trainable_parameters=fitted.parameters,
        devices=1,
        device_hours=train_seconds / 3600,
        **percentiles(one_by_one(lambda i: fitted.predict(splits.test.take([i])), len(test.ids))),
        train_energy_joules=train_energy.joules,
        predict_energy_joules=predict_energy.joules,
        energy_meters=predict_energy.meters or None,
    )
    return fitted, validation, test, cost


def _prior(targets: np.ndarray) -> Pipeline:
    prior: Any = DummyClassifier(strategy="prior")
    model = OneVsRestClassifier(prior) if targets.ndim == 2 else prior
    return Pipeline([("classifier", model.fit(np.zeros((len(targets), 1)), targets))])


def _learn(config: BaselineConfig, train: Split, seed: int) -> tuple[Pipeline, dict[str, Any]]:
    documents, random = _documents(train.texts, train.pairs), np.random.default_rng(seed)
    vectorizer = _vectorizer(config.features, documents, random)
    counts = vectorizer.transform(documents)
    slow = config.classifier in SLOW
    rows = random.permutation(len(train))[: SLOW_ROWS if slow else None]
    # Only while learning: threads that add up predictions in any order change their last bits.
    threads = -1 if config.classifier == "random_forest" else 1
    with joblib.parallel_config("threading", n_jobs=threads), _little_memory():
        learner, chosen = _search(config, counts, train, rows[: config.search_rows], seed)
        learner.fit(counts[rows], train.targets[rows])
    chosen |= {"rows": len(rows), "terms": counts.shape[1]}
    return Pipeline([("count", vectorizer), *learner.steps]), chosen


def _little_memory() -> AbstractContextManager[None]:
    """Distances between rows come in blocks; scikit-learn's of 1 GiB take 4 GiB in truth."""
    return config_context(working_memory=64)  # MiB


def _documents(texts: list[str], pairs: list[str] | None) -> list[str]:
    if pairs is None:
        return texts
    return [text + PAIR + pair for text, pair in zip(texts, pairs, strict=True)]


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
    folds = _folds(config.search_folds, targets, groups, seed)
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
    best: dict[str, Any] = {name: values[0] for name, values in grid.items()}
    macro_f1 = None
    if folds:
        search = GridSearchCV(
            learner, grid, scoring="f1_macro", cv=folds, refit=False, error_score="raise"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a rare label may be absent from a fold
            search.fit(counts[rows], targets)
        best, macro_f1 = search.best_params_, float(search.best_score_)
    chosen = {name.rpartition("__")[2]: value for name, value in best.items()}
    return learner.set_params(**best), {**chosen, "cv_macro_f1": macro_f1}


def _folds(
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


def _scored_by(classifier: str, multilabel: bool) -> str:
    link = "sigmoid" if multilabel else "softmax"
    known = {"majority": "prior", "logistic_regression": link, "linear_svm": f"{link} of margins"}
    return known.get(classifier, "predict_proba")


def _probabilities(pipeline: Pipeline, documents: list[str], multilabel: bool) -> np.ndarray:
    """Return (N, classes seen in training).

    Margins become probabilities without a fit, so that the likeliest label stays the one the
    margins decide for. They are not calibrated.
    """
    if hasattr(pipeline, "predict_proba"):
        with _little_memory():
            return pipeline.predict_proba(documents)
    margins = pipeline.decision_function(documents)
    if multilabel:
        # A margin of 0 is a no to scikit-learn, and what it gives a label never seen in training.
        return np.where(margins > 0, expit(margins), np.minimum(expit(margins), BELOW_HALF))
    if margins.ndim == 1:
        margins = np.stack([-margins / 2, margins / 2], axis=1)
    return softmax(margins, axis=1)
