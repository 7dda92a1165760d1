"""A fitted classical classifier: what it answers, how it is saved and read again.

N: rows, C: labels.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.pipeline import Pipeline

from llmclf.atomic import replaced, write_text
from llmclf.classical import learn
from llmclf.classical.config import BaselineConfig
from llmclf.classical.features import with_features
from llmclf.config import DataError, dump_json
from llmclf.data.corpus import Split, joined
from llmclf.evaluate import calibration
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.predictions import Predictions

TRUSTED = [
    "scipy.sparse._csr.csr_matrix",
    "sklearn.tree._tree.Tree",
    "sklearn.multiclass._ConstantPredictor",
]
"""Kept by neighbours, by forests, and for a label that all training rows have, or none. Reading
them runs no code; forged ones may crash a prediction."""


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
    """How the probabilities were calibrated on validation rows."""

    def predict(self, split: Split) -> Predictions:
        """Classify the rows of a split."""
        return Predictions(
            ids=split.ids,
            labels=self.labels,
            targets=split.targets,
            probabilities=self.probabilities(split.texts, split.pairs),
            scored_by=self.scored_by,
            multilabel=self.multilabel,
            thresholds=self.calibration.thresholds,
        )

    def probabilities(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Return float64 (N, C), in the order of ``labels``, calibrated."""
        documents = joined(texts, pairs, learn.PAIR)
        raw_NC = learn.probabilities(
            self.pipeline, documents, len(self.labels), multilabel=self.multilabel
        )
        return self.calibration.probabilities(raw_NC, multilabel=self.multilabel)

    @property
    def parameters(self) -> int | None:
        """Numbers learnt by a linear model, naive Bayes or the prior; None for the other two."""
        model = self.pipeline[-1]
        names = ("coef_", "intercept_", "feature_log_prob_", "class_log_prior_", "class_prior_")
        parts = getattr(model, "estimators_", [model])
        return sum(np.size(getattr(part, name, ())) for part in parts for name in names) or None

    def save(self, folder: Path) -> None:
        """Write ``baseline.skops`` and ``baseline.json``: no pickle, so loading runs no code. The
        calibration is not in them: see :mod:`llmclf.evaluate.calibration`."""
        with replaced(folder / "baseline.skops") as temporary:
            skops.io.dump(self.pipeline, temporary, compression=zipfile.ZIP_DEFLATED)
        facts = {
            "labels": self.labels,
            "multilabel": self.multilabel,
            "chosen": self.chosen,
            "scored_by": self.scored_by,
        }
        write_text(folder / "baseline.json", dump_json(facts))

    @classmethod
    def load(cls, folder: Path) -> Baseline:
        """Read what :meth:`save` wrote, and the calibration beside it, if there is one.

        Raises DataError, naming the folder, if it is not that.
        """
        try:
            facts = json.loads((folder / "baseline.json").read_text(encoding="utf-8"))
            pipeline = skops.io.load(folder / "baseline.skops", trusted=TRUSTED)
            facts["labels"] = labels = tuple(facts["labels"])
            return cls(pipeline=pipeline, calibration=calibration.read(folder, labels), **facts)
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

    ``labels``: names in the order of the targets (C).
    """
    chosen: dict[str, Any] = {}
    if config.classifier == "majority":
        pipeline = learn.prior(train.targets)
    else:
        pipeline, chosen = learn.learn(with_features(config, train)[0], train, seed)
    return Baseline(
        pipeline=pipeline,
        labels=labels,
        multilabel=multilabel,
        scored_by=learn.scored_by(config.classifier, multilabel),
        chosen=chosen,
    )
