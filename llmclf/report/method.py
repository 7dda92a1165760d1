"""All that a report says of one method, from its runs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from llmclf.data.scripts import lengths as lengths_of
from llmclf.evaluate.calibration import reliability, risk_coverage, summary
from llmclf.evaluate.errors import confident_errors, length_buckets, seen_rows, suspect_labels
from llmclf.evaluate.predictions import Predictions
from llmclf.report.align import pooled
from llmclf.report.analysis import CalibrationReport, Curve, LabelScore, MethodReport
from llmclf.report.command import command, settings
from llmclf.report.config import ReportConfig
from llmclf.report.costs import mean_cost
from llmclf.report.group import MethodRuns
from llmclf.run_folder.read import Finished

MOST = 20
"""Errors and suspect labels shown at most."""


def method_report(method: MethodRuns, config: ReportConfig) -> MethodReport:
    """Costs, label scores and calibration over all runs; errors over the first run of each test
    set."""
    runs = [repeat.run for repeat in method.repeats]
    firsts = method.first_of_units
    everything = pooled([run.test for run in runs])
    shown = _shown(firsts)
    texts, words, seen = (_of_rows(firsts, name) for name in ("texts", "words", "seen"))
    in_order = None if texts is None else [texts[id_] for id_ in shown.ids]
    unit, lengths = _lengths(in_order, words, shown.ids)
    judged = np.ptp(shown.probabilities, axis=0).any()  # else all rows alike: no word on one
    return MethodReport(
        name=method.name,
        method=method.first.method,
        model=method.first.model,
        folders=tuple(run.folder for run in runs),
        predict_precision=method.first.results["cost"].get("predict_precision"),
        cost=mean_cost(runs, config),
        labels=label_scores(method),
        confusion=None
        if everything.multilabel
        else np.array([run.scores["confusion"] for run in runs], dtype=np.int64).sum(axis=0),
        calibration=calibration_report(runs, everything),
        coverage=risk_coverage(everything),
        lengths=() if lengths is None else length_buckets(shown, lengths),
        length_unit=unit,
        errors=confident_errors(shown, in_order, most=MOST) if judged else (),
        suspects=suspect_labels(shown, in_order, most=MOST) if judged else (),
        seen=None if seen is None else seen_rows(shown, seen, config.metric),
        curves=tuple(filter(None, (curve(run, config.metric) for run in runs))),
        settings=settings(method.first),
        environment=method.first.environment,
        command=command(method.first),
    )


def _shown(firsts: Sequence[Finished]) -> Predictions:
    """The test rows of all folds in one, with their own ids."""
    whole = pooled([run.test for run in firsts])
    if len(firsts) > 1:
        whole.ids[:] = [id_ for run in firsts for id_ in run.test.ids]
    return whole


def _of_rows(runs: Sequence[Finished], name: str) -> dict | None:
    """Values that splits.parquet has of the test rows of all runs, by id; None where one does not
    say, or lacks a row."""
    by_id: dict = {}
    for run in runs:
        values = getattr(run.rows, name)
        if values is None or (name != "seen" and not values.keys() >= set(run.test.ids)):
            return None
        by_id |= values
    return by_id


def _lengths(
    texts: list[str] | None, words: dict | None, ids: list[str]
) -> tuple[str, list[int] | None]:
    """What lengths are counted in, and the length of each row; None where it is not known."""
    unit, counted = ("words", None) if texts is None else lengths_of(texts)
    if unit == "words":  # splits.parquet has them, of a text and its pair each
        counted = None if words is None else [int(words[id_]) for id_ in ids]
    return unit, counted


def label_scores(method: MethodRuns) -> tuple[LabelScore, ...]:
    """Precision, recall and F1 of each label: mean over test sets of the mean over seeds."""
    by_label = []
    for label in method.first.labels:
        rows = [(r.unit, r.run.scores["per_label"][label]) for r in method.repeats]
        support = {unit: row["support"] for unit, row in rows}
        means = {
            key: fmean(fmean(row[key] for u, row in rows if u == unit) for unit in support)
            for key in ("precision", "recall", "f1")
        }
        by_label.append(LabelScore(label=label, support=sum(support.values()), **means))
    return tuple(by_label)


def calibration_report(runs: Sequence[Finished], after: Predictions) -> CalibrationReport:
    """Calibration of the rows of all runs together, with and without each run's calibration."""
    before = pooled([run.calibration.undo(run.test) for run in runs])
    scores_before, scores_after = summary(before), summary(after)
    return CalibrationReport(
        temperature=fmean(run.calibration.temperature for run in runs),
        smoothing=fmean(run.calibration.smoothing for run in runs),
        scores={key: (scores_before[key], scores_after[key]) for key in scores_after},
        before=reliability(before),
        after=reliability(after),
    )


def curve(run: Finished, metric: str) -> Curve | None:
    """Validation scores over what was learnt from; None where nothing was recorded.

    Device-hours are shared out by step, since metrics.jsonl has no clock.
    """
    records = [r for r in run.metrics if r["split"] == "validation" and "epoch" in r]
    key = metric if all(metric in r for r in records) else "macro_f1"
    if not records or not all(key in r for r in records):
        return None
    last = max(r["step"] for r in run.metrics)
    hours = run.cost("device_hours")
    return Curve(
        examples=tuple(r["epoch"] * run.rows.sizes["train"] for r in records),
        device_hours=()
        if hours is None
        else tuple(hours * r["step"] / max(last, 1) for r in records),
        score=tuple(r[key] for r in records),
    )
