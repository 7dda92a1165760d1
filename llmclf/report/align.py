"""Runs brought to one order of labels and rows, whatever order each run wrote them in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from llmclf.config import DataError, plain
from llmclf.evaluate.align import aligned
from llmclf.evaluate.predictions import Predictions
from llmclf.run_folder.read import Finished


def require_equal(what: str, runs: Sequence[Finished], of: Callable[[Finished], str]) -> None:
    """Raise DataError, listing values and folders, unless ``of`` is the same for all runs."""
    folders: dict[str, list[str]] = {}
    for run in runs:
        folders.setdefault(of(run), []).append(str(run.folder))
    if len(folders) > 1:
        listing = "\n".join(plain(f"  {key}: {', '.join(f)}") for key, f in folders.items())
        raise DataError(
            f"these runs differ in the {what}, so their scores cannot be compared:\n{listing}\n"
            "Compare runs with the same data settings, seed and fold."
        )


def same_labels(runs: Sequence[Finished]) -> list[Finished]:
    """The runs with the label order of the first. Raises DataError where the labels differ."""
    require_equal("labels", runs, lambda run: ", ".join(sorted(run.labels)))
    require_equal("kind of labels", runs, _kind)
    labels = runs[0].labels
    return [
        run
        if run.labels == labels
        else replace(
            run,
            test=run.test.with_labels(labels),
            validation=run.validation and run.validation.with_labels(labels),
        )
        for run in runs
    ]


def _kind(run: Finished) -> str:
    return "several for a row" if run.test.multilabel else "one for each row"


def test_set(run: Finished) -> str:
    """Hash of the ids and true labels of the test rows, in whatever order; for runs with the same
    order of labels."""
    order = np.argsort(np.array(run.test.ids))
    ids = json.dumps([run.test.ids[i] for i in order])
    targets = np.ascontiguousarray(run.test.targets[order]).astype(np.int64)
    return hashlib.sha256(ids.encode() + targets.tobytes()).hexdigest()


def same_rows(run: Finished, first: Finished) -> Finished:
    """The run with the test rows in the order of another run on the same rows."""
    return replace(run, test=aligned(first.test, run.test, str(run.folder)))


def pooled(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of all parts together; ids get the number of their part where there are
    several."""
    if len(parts) == 1:
        return parts[0]
    invalid = None
    if any(p.invalid is not None for p in parts):
        invalid = np.concatenate(
            [np.zeros(len(p.ids), np.bool_) if p.invalid is None else p.invalid for p in parts]
        )
    own = None
    if any(p.thresholds != parts[0].thresholds for p in parts):  # of each run's validation rows
        own = np.concatenate([np.broadcast_to(p.least, p.probabilities.shape) for p in parts])
    return replace(
        parts[0],
        row_thresholds=own,
        ids=[f"{i}/{id_}" for i, p in enumerate(parts) for id_ in p.ids],
        targets=np.concatenate([p.targets for p in parts]),
        probabilities=np.concatenate([p.probabilities for p in parts]),
        invalid=invalid,
    )
