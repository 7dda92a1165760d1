"""From a run folder back to what it holds: settings, results, predictions, and a classifier."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmclf.config import ConfigError, DataError
from llmclf.evaluate.predictions import Predictions
from llmclf.invisible import quoted
from llmclf.methods.method import Classifier, Experiment
from llmclf.run_folder import read_results, read_settings
from llmclf.terminal import quieten

if TYPE_CHECKING:
    import pandas as pd

METHODS = Path(__file__).parent / "methods"


def load_experiment(folder: str | Path) -> Experiment:
    """The experiment of a run folder, finished or not.

    Raises ConfigError where experiment.json is missing, damaged or of another version.
    """
    folder = Path(folder)
    for module in pkgutil.iter_modules([str(METHODS)], "llmclf.methods."):
        importlib.import_module(module.name)  # from_json knows the approaches that are imported
    try:
        return Experiment.from_json(read_settings(folder))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}/experiment.json cannot be read ({error}). Is this a run folder?"
        ) from error
    except ConfigError as error:
        raise ConfigError(
            f"{folder}/experiment.json: {error} If another version of llmclf wrote it, run the "
            "experiment again; llmclf compare reads its results all the same."
        ) from error


def load_run(folder: str | Path) -> LoadedRun:
    """A finished run. Raises ConfigError for a folder that is none, DataError for one that has not
    come to its end."""
    folder = Path(folder)
    experiment = load_experiment(folder)
    try:
        results = read_results(folder)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}: not finished ({error}). Go on with it: its recipe with --resume."
        ) from error
    return LoadedRun(folder=folder, experiment=experiment, results=results)


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedRun:
    """A finished run, read back. The model is loaded when it first classifies. N: texts, C:
    labels."""

    folder: Path
    experiment: Experiment
    results: dict[str, Any]
    """results.json."""

    @cached_property
    def classifier(self) -> Classifier:
        """What was learnt. Raises ConfigError where the run saved none, such as of prompts."""
        quieten()
        return self.experiment.load(self.folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the probabilities, (C)."""
        return self.classifier.labels

    def predictions(self, split: Literal["validation", "test"] = "test") -> pd.DataFrame:
        """The rows of a split: ``id``, ``label`` (the true one), ``p_<label>`` for each label,
        ``predicted`` (None where an answer was none), ``row`` and, of test rows, ``text``.

        ``row`` is the row's number in the file it comes from, counted from 0 as pandas does; an id
        that was not given is a number counted from 1. Folders of older versions have no ``row``.
        """
        import pandas as pd

        if split not in ("validation", "test"):
            raise DataError(
                f"predictions of {quoted(split)}: there are those of validation and test."
            )
        path = self.folder / "predictions" / f"{split}.parquet"
        frame = pd.read_parquet(path).assign(predicted=pd.Series(_answers(path), dtype=object))
        rows = pd.read_parquet(self.folder / "splits.parquet")
        rows = rows[rows["split"] == split].set_index("id")
        for name in ("row", "text") if split == "test" else ("row",):
            if name in rows:
                frame[name] = frame["id"].map(rows[name])
        return frame.astype({"row": "Int64"}) if "row" in frame else frame

    def probabilities(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Calibrated probabilities of new texts, float64 (N, C), in the order of ``labels``.

        Raises DataError for what is no text, and where pairs are missing or more or fewer.
        """
        texts = self._checked("texts", texts)
        if (pairs is None) != (self.experiment.data.pair is None):
            wanted = "pairs, too" if pairs is None else "texts alone"
            raise DataError(f"this run was trained on rows with another form: give it {wanted}.")
        if pairs is not None:
            pairs = self._checked("pairs", pairs)
            if len(pairs) != len(texts):
                raise DataError(f"{len(texts)} texts, but {len(pairs)} pairs: each has one.")
        if not texts:
            return np.zeros((0, len(self.labels)))
        return self.classifier.probabilities(list(texts), None if pairs is None else list(pairs))

    def classify(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> list[str] | list[list[str]]:
        """The label of each new text; the labels, maybe none, where a text may have several."""
        probabilities_NC = self.probabilities(texts, pairs)
        if not self.classifier.multilabel:
            return [self.labels[c] for c in probabilities_NC.argmax(axis=1)]
        thresholds = self.classifier.calibration.thresholds or (0.5,) * len(self.labels)
        given_NC = probabilities_NC >= np.array(thresholds)
        return [[self.labels[c] for c in np.flatnonzero(given_C)] for given_C in given_NC]

    @staticmethod
    def _checked(name: str, values: Sequence[str]) -> list[str]:
        if isinstance(values, str):
            raise DataError(f"{name}: a single text; give a list: [{quoted(values[:40])}].")
        for i, value in enumerate(values):
            if not isinstance(value, str):
                kind = type(value).__name__
                raise DataError(f"{name}[{i}] is {quoted(value)} ({kind}): expected a text.")
        return list(values)


def _answers(path: Path) -> list[str | list[str] | None]:
    """What was answered for each row: its label; its labels, maybe none, where it may have several;
    None where an answer was none of the labels."""
    stored = Predictions.read(path)
    if stored.multilabel:
        return [[stored.labels[c] for c in np.flatnonzero(row)] for row in stored.predicted]
    return [None if c < 0 else stored.labels[c] for c in stored.predicted]
