"""Finished run folders, checked: the only reader of what a report is made of."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from llmclf.config import DataError, flatten, plain
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.cost import Cost
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score
from llmclf.run_folder import SCHEMA, is_finished
from llmclf.run_folder.metrics import read_metrics
from llmclf.run_folder.rows import SplitRows, read_rows

EXPECTED = "A run folder holds experiment.json and, once finished, results.json."
_NUMBERS = {
    "test": ("n", "accuracy", "macro_f1", "weighted_f1", "mcc", "nll", "brier", "ece"),
    "prior": ("accuracy", "macro_f1", "nll"),
}
_COSTS = {f.name for f in fields(Cost)} - {"energy_meters", "predict_precision"}
_COMPARED = ("accuracy", "macro_f1", "nll")


@dataclass(frozen=True, eq=False, kw_only=True)
class Finished:
    """A finished run. N: test rows, C: labels."""

    folder: Path
    results: dict[str, Any]
    """Content of results.json."""
    experiment: dict[str, Any]
    """Settings of experiment.json, flattened: ``{"train.epochs": 3, ...}``."""
    environment: dict[str, Any]
    audit: dict[str, Any]
    test: Predictions
    validation: Predictions | None
    metrics: tuple[dict[str, Any], ...]
    """Records of metrics.jsonl; none where nothing was trained step by step."""
    rows: SplitRows
    """What splits.parquet holds."""

    @property
    def name(self) -> str:
        """What the user called the method."""
        return self.results["name"]

    @property
    def method(self) -> str:
        """Kind of method: full, lora, prompt, classical, ..."""
        return self.results["method"]

    @property
    def model(self) -> str:
        """What was trained or prompted."""
        return self.results["model"]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.test.labels

    @property
    def membership(self) -> str:
        """Hash of the rows of all splits: equal means the same rows."""
        return self.results["membership"]

    @property
    def seed(self) -> int:
        return self.experiment["seed"]

    @property
    def fold(self) -> int:
        """Which fold was the test set; 0 without folds."""
        return self.experiment.get("data.fold") or 0

    @property
    def labels_per_class(self) -> int | None:
        """Labelled rows of each class that it could learn from; None: all there were."""
        return self.experiment.get("data.labels_per_class")

    @cached_property
    def scores(self) -> dict[str, Any]:
        """Scores of the test rows, as :func:`..evaluate.scores.score` has them."""
        return score(self.test)

    @property
    def calibration(self) -> Calibration:
        """What made the probabilities of the logits; none in runs that did not record it."""
        stored = self.results.get("calibration")
        return Calibration.from_json(stored, self.labels) if stored else Calibration()

    def cost(self, key: str) -> float | None:
        """A figure of the run's cost; None where it was not measured."""
        return self.results["cost"].get(key)


def read(folder: Path) -> Finished:
    """Read a finished run and check that its files agree.

    Raises DataError, naming the folder, what is wrong with it, and the cure.
    """
    if not folder.is_dir():
        raise DataError(plain(f"{folder}: no such folder. {EXPECTED}"))
    if not is_finished(folder):
        raise DataError(plain(f"{folder}: not finished (no results.json). {EXPECTED}"))
    try:
        return _read(folder)
    except DataError as error:
        raise DataError(plain(f"{folder}: cannot be used. {error}")) from error
    except (OSError, ValueError) as error:
        raise DataError(
            plain(f"{folder}: cannot be used ({error}). ") + "Leave this run out, or run it again."
        ) from error


def _read(folder: Path) -> Finished:
    """Read a run. Raises ValueError, naming the file or key."""
    results = _object(folder / "results.json")
    _check_results(results)
    experiment = flatten(_object(folder / "experiment.json"))
    for key, kind in (("seed", int), ("data.fold", int), ("data.labels_per_class", int)):
        value = experiment.get(key)
        if not isinstance(value, kind) and (key == "seed" or value is not None):
            raise ValueError(f"experiment.json: {key} is {value!r}, not a whole number")
    if not (folder / "splits.parquet").is_file():
        raise ValueError("splits.parquet is missing")
    run = Finished(
        folder=folder,
        results=results,
        experiment=experiment,
        environment=_object(folder / "environment.json"),
        audit=_object(folder / "audit.json"),
        test=_predictions(folder, "test", results),
        validation=_predictions(folder, "validation", results) if results["validation"] else None,
        metrics=_metrics(folder / "metrics.jsonl"),
        rows=read_rows(folder / "splits.parquet"),
    )
    for key in _COMPARED:
        scored, stated = run.scores[key], results["test"][key]
        if not math.isclose(scored, stated, rel_tol=1e-6, abs_tol=1e-6):
            raise ValueError(
                f"predictions/test.parquet has {key} {scored:.6g}, results.json {stated:.6g}: they "
                "are not of the same run"
            )
    _check_rows(run)
    _check_calibration(run)
    return run


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path.name} is missing")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds {type(value).__name__}, not an object")
    return value


def _metrics(path: Path) -> tuple[dict[str, Any], ...]:
    records = read_metrics(path)
    if not all(isinstance(r, dict) and {"step", "split"} <= r.keys() for r in records):
        raise ValueError(f"{path.name}: a line is no object with step and split")
    return tuple(records)


def _predictions(folder: Path, split: str, results: dict[str, Any]) -> Predictions:
    path = folder / "predictions" / f"{split}.parquet"
    if not path.is_file():
        raise ValueError(f"predictions/{split}.parquet is missing")
    predictions = Predictions.read(path)
    if sorted(predictions.labels) != sorted(results["labels"]):
        raise ValueError(
            f"predictions/{split}.parquet has the labels {', '.join(predictions.labels)}, "
            f"results.json {', '.join(results['labels'])}"
        )
    n = _value(results, f"{split}.n", int)
    if len(predictions.ids) != n:
        raise ValueError(
            f"predictions/{split}.parquet has {len(predictions.ids):,} rows, results.json {n:,}"
        )
    return predictions


def _check_results(results: dict[str, Any]) -> None:
    if results.get("schema") != SCHEMA:
        schema = results.get("schema")
        raise ValueError(f"schema is {schema!r}; this version of llmclf reads schema {SCHEMA}")
    for key in ("name", "method", "model", "membership"):
        _value(results, key, str)
    labels = _value(results, "labels", list)
    if not all(isinstance(label, str) for label in labels):
        raise ValueError(f"labels is {labels!r}")
    for part, keys in _NUMBERS.items():
        for key in keys:
            if _number(results, f"{part}.{key}") is None:
                raise ValueError(f"{part}.{key} is null")
    _value(results, "validation", (dict, type(None)))
    for key in _COSTS & _value(results, "cost", dict).keys():
        _number(results, f"cost.{key}")


def _check_rows(run: Finished) -> None:
    if run.rows.sizes["test"] != len(run.test.ids):
        raise ValueError(
            f"splits.parquet has {run.rows.sizes['test']:,} test rows, predictions/test.parquet "
            f"{len(run.test.ids):,}"
        )
    if run.rows.texts is not None and not run.rows.texts.keys() >= set(run.test.ids):
        raise ValueError("splits.parquet lacks rows of predictions/test.parquet")


def _check_calibration(run: Finished) -> None:
    try:
        temperature, smoothing = run.calibration.temperature, run.calibration.smoothing
        good = 0 < temperature < math.inf and 0 <= smoothing < 1
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"calibration: {type(error).__name__} {error}") from error
    if not good:
        raise ValueError(
            f"calibration: temperature is {temperature!r} and smoothing {smoothing!r}; allowed are "
            "above 0, and from 0 to below 1"
        )


def _number(results: dict, key: str) -> float | None:
    value = _value(results, key, (int, float, type(None)))
    if isinstance(value, bool) or (value is not None and not math.isfinite(value)):
        raise ValueError(f"{key} is {value!r}, not a finite number")
    return value


def _value(results: dict, key: str, kind: type | tuple[type, ...]) -> Any:
    value: Any = results
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ValueError(f"{key} is missing")
        value = value[part]
    if not isinstance(value, kind):
        raise ValueError(f"{key} is {value!r}")
    return value
