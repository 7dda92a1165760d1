"""Run folders as runs leave them, written by our own code, with predictions as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from llmclf.config import dump_json
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score

LABELS = ("advice", "no advice")
MEMBERSHIP = "0f" * 32
COST = {
    "train_seconds": 1234.56,
    "predict_seconds": 2.0,
    "predict_examples_per_second": 98765.4,
    "peak_memory_bytes": 3 * 2**29,
    "total_parameters": 22_713_216,
    "trainable_parameters": 22_713_216,
    "devices": 1,
    "device_hours": 0.343,
}


def predicted(
    right: int, rows: int = 10, *, labels: Sequence[str] = LABELS, first_id: int = 0
) -> Predictions:
    """Predictions that are right in the first ``right`` rows; labels take turns."""
    count = len(labels)
    targets = np.arange(rows) % count
    guess = np.where(np.arange(rows) < right, targets, (targets + 1) % count)
    p = np.full((rows, count), 0.1 / (count - 1))
    p[np.arange(rows), guess] = 0.9
    return Predictions(
        ids=[str(first_id + i) for i in range(rows)],
        labels=tuple(labels),
        targets=targets,
        probabilities=p,
        scored_by="softmax",
    )


def results(test: Predictions, **changes: Any) -> dict[str, Any]:
    """The object of results.json."""
    cost = {**COST, **changes.pop("cost", {})}
    return {
        "schema": 1,
        "name": "full",
        "method": "full",
        "model": "minilm-l6",
        "labels": list(test.labels),
        "membership": MEMBERSHIP,
        "validation": None,
        "test": score(test),
        "prior": {"accuracy": 0.5, "macro_f1": 1 / 3, "nll": 0.7},
        "cost": cost,
        "calibration": Calibration().to_json(test.labels),
        **changes,
    }


def audit(test: Predictions, train_rows: int) -> dict[str, Any]:
    """The object of audit.json, as far as a report reads it; the first label is the commonest."""
    counts = [len(range(i, train_rows, len(test.labels))) for i in range(len(test.labels))]
    return {
        "rows": {"train": train_rows, "validation": 0, "test": len(test.ids)},
        "classes": {label: {"train": n} for label, n in zip(test.labels, counts, strict=True)},
    }


def write_run(
    folder: Path,
    test: Predictions,
    *,
    seed: int = 0,
    fold: int | None = None,
    labels_per_class: int | None = None,
    settings: dict[str, Any] | None = None,
    metrics: Sequence[dict[str, Any]] = (),
    train_rows: int = 40,
    **changes: Any,
) -> Path:
    """A finished run folder; ``changes``: of results.json, ``settings``: of experiment.json."""
    content = results(test, **changes)
    experiment = {
        "name": content["name"],
        "method": "fine_tune",
        "seed": seed,
        "output_dir": str(folder),
        "data": {"source": "s.csv", "fold": fold, "seed": 0, "labels_per_class": labels_per_class},
    }
    # What the approach reads; settings of an experiment hold all of it.
    experiment |= settings or {"model": {"checkpoint": "minilm-l6"}, "train": {"epochs": 3}}
    folder.mkdir(parents=True)
    for name, value in (
        ("experiment.json", experiment),
        ("environment.json", {"git_commit": "a" * 40, "world_size": 1}),
        ("audit.json", audit(test, train_rows)),
        ("results.json", content),
    ):
        (folder / name).write_text(dump_json(value), encoding="utf-8")
    test.write(folder / "predictions" / "test.parquet")
    ids = [f"t{i}" for i in range(train_rows)]
    texts = [f"text {id_} of {content['name']}" for id_ in test.ids]
    pl.DataFrame(
        {
            "id": [*ids, *test.ids],
            "split": ["train"] * train_rows + ["test"] * len(test.ids),
            "words": [3] * (train_rows + len(test.ids)),
            "text": [None] * train_rows + texts,
            "seen": pl.Series([None] * (train_rows + len(test.ids)), dtype=pl.String),
        }
    ).write_parquet(folder / "splits.parquet")
    if metrics:
        lines = "".join(f"{dump_json(m).replace(chr(10), ' ').strip()}\n" for m in metrics)
        (folder / "metrics.jsonl").write_text(lines)
    return folder
