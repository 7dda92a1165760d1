"""The tables of a report on labels, single rows, trust and budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmclf.evaluate.calibration import Coverage
from llmclf.report.analysis import Analysis, MethodReport
from llmclf.report.grid import CONFIDENCE, RUN, Column, Grid
from llmclf.report.words import METRICS, PROSE, SCORE, WHOLE, WHOLE_INTERVAL

SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Shares of the rows answered at which accuracy is shown."""


def per_label(analysis: Analysis) -> Grid:
    """Precision, recall and F1 of each label."""
    measures = (Column(title, SCORE) for title in ("precision", "recall", "F1"))
    columns = (RUN, Column("label"), *measures, Column("test rows", WHOLE))
    rows = tuple(
        (m.name, row.label, row.precision, row.recall, row.f1, row.support)
        for m in analysis.methods
        for row in m.labels
    )
    return Grid("per_label", "Labels", columns, rows)


def confusion(analysis: Analysis) -> Grid:
    """Rows of each true label by predicted label, all runs together."""
    columns = (RUN, Column("true"), Column("predicted"), Column("rows", WHOLE))
    rows = tuple(
        (m.name, true, predicted, int(m.confusion[i, j]))
        for m in analysis.methods
        if m.confusion is not None
        for i, true in enumerate(analysis.labels)
        for j, predicted in enumerate(analysis.labels)
    )
    return Grid("confusion", "Confusion", columns, rows, "All runs of a method together.")


def calibration(analysis: Analysis) -> Grid:
    """Scores of the probabilities before and after the temperature."""
    keys = ("nll", "brier", "ece")
    columns = [RUN, Column("temperature", SCORE), Column("smoothing", SCORE)]
    for key in keys:
        columns += [Column(f"{METRICS[key]} {when}", SCORE) for when in ("before", "after")]
    rows = tuple(
        (
            m.name,
            m.calibration.temperature,
            m.calibration.smoothing,
            *(value for key in keys for value in m.calibration.scores[key]),
        )
        for m in analysis.methods
        if m.calibration is not None
    )
    note = "Before and after temperature and smoothing, which were fitted on validation rows."
    return Grid("calibration", "Calibration", tuple(columns), rows, note)


def coverage(analysis: Analysis) -> Grid:
    """Accuracy where the least certain rows are left to people."""
    at = (Column(f"accuracy at {share:.0%}", SCORE, max) for share in SHARES)
    rows = tuple(
        (m.name, *(accuracy_at(m.coverage, share) for share in SHARES), m.coverage.area)
        for m in analysis.methods
        if m.coverage is not None and len(m.coverage.share)
    )
    note = (
        "Accuracy where at least that share of the rows is answered, the least certain left out. "
        "Area: mean error over all shares, lower is better."
    )
    return Grid("coverage", "Abstaining", (RUN, *at, Column("area", SCORE, min)), rows, note)


def accuracy_at(curve: Coverage, share: float) -> float:
    """Accuracy at the smallest share that can be answered and is not below ``share``.

    Rows of equal confidence are answered together. The nearest share, or the largest one below,
    would state the accuracy of fewer rows than were asked for.
    """
    place = int(np.searchsorted(curve.share, share - 1e-9))
    return float(curve.accuracy[min(place, len(curve.accuracy) - 1)])


def length_unit(methods: Sequence[MethodReport]) -> str:
    """What the lengths are counted in: words, characters, or either where runs do not agree."""
    return (
        " or ".join(sorted({m.length_unit for m in methods if m.lengths}, reverse=True)) or "words"
    )


def lengths(analysis: Analysis) -> Grid:
    """Scores by length of text."""
    columns = (
        RUN, Column(f"{length_unit(analysis.methods)} from", WHOLE), Column("to", WHOLE),
        Column("rows", WHOLE),
        Column("accuracy", SCORE), Column("macro-F1", SCORE),
    )  # fmt: skip
    rows = tuple(
        (m.name, b.low, b.high, b.rows, b.accuracy, b.macro_f1)
        for m in analysis.methods
        for b in m.lengths
    )
    return Grid("lengths", "Lengths", columns, rows)


def errors(analysis: Analysis) -> Grid:
    """The most confident errors of each method."""
    texts = (Column("id"), Column("text", PROSE), Column("label"), Column("predicted"))
    rows = tuple(
        (m.name, e.id, e.text, e.label, e.predicted, e.confidence)
        for m in analysis.methods
        for e in m.errors
    )
    columns = (RUN, *texts, Column("confidence", SCORE))
    return Grid("errors", "Most confident errors", columns, rows)


def suspects(analysis: Analysis) -> Grid:
    """Test rows whose given label may be wrong."""
    texts = (Column("id"), Column("text", PROSE), Column("label"), Column("suggested"))
    columns = (RUN, *texts, Column("p of suggested", SCORE), Column("p of label", SCORE))
    rows = tuple(
        (m.name, s.id, s.text, s.label, s.suggested, s.confidence, s.given)
        for m in analysis.methods
        for s in m.suspects
    )
    note = "Labels that the method contradicts with confidence; a person must decide."
    return Grid("suspects", "Suspected labels", columns, rows, note)


def seen(analysis: Analysis) -> Grid:
    """Scores with and without the test rows that training has seen."""
    kinds = ("exact", "normalised", "near")
    counts = (Column(title, WHOLE) for title in ("rows", *kinds))
    columns = (RUN, *counts, Column("score", SCORE), Column("score without", SCORE))
    rows = tuple(
        (
            m.name,
            m.seen.rows,
            *(m.seen.kinds.get(kind, 0) for kind in kinds),
            m.seen.score,
            m.seen.score_without,
        )
        for m in analysis.methods
        if m.seen is not None
    )
    note = f"{METRICS[analysis.config.metric]} on all test rows, and without those seen before."
    return Grid("seen", "Test rows seen in training", columns, rows, note)


def repeats(analysis: Analysis) -> Grid:
    """Rows that the audit met in two splits."""
    kinds = ("exact", "normalised", "near")
    across = analysis.audit.get("across") or {}
    rows = tuple(
        (pair, *(_rows_of(counts, kind) for kind in kinds)) for pair, counts in across.items()
    )
    columns = (Column("splits"), *(Column(kind, WHOLE) for kind in kinds))
    note = "Rows of the second split that the first one has, before any were dropped."
    return Grid("repeats", "Rows in two splits", columns, rows, note)


def _rows_of(counts: Any, kind: str) -> int | None:
    """Rows of one kind of repeat, which files of other versions may lack."""
    entry = counts.get(kind) if isinstance(counts, dict) else None
    rows = entry.get("rows") if isinstance(entry, dict) else None
    return rows if isinstance(rows, int) else None


def budgets(analysis: Analysis) -> Grid:
    """Scores over the number of labelled rows."""
    columns = (
        RUN, Column("labelled rows", WHOLE), Column("of each class"),
        Column(METRICS[analysis.config.metric], SCORE), CONFIDENCE, Column("seeds", WHOLE),
    )  # fmt: skip
    curves = analysis.break_even.curves if analysis.break_even else {}
    rows = tuple(
        (
            name, p.budget, "all" if p.per_class is None else str(p.per_class), p.value,
            (p.low, p.high), p.seeds,
        )
        for name, points in curves.items()
        for p in points
    )  # fmt: skip
    return Grid("budgets", "Labelled rows", columns, rows)


def crossings(analysis: Analysis) -> Grid:
    """Where methods begin to beat the references."""
    columns = (
        RUN, Column("reference"), Column("first significantly better with", WHOLE),
        Column("95% interval of the crossing", WHOLE_INTERVAL),
    )  # fmt: skip
    crossed = analysis.break_even.crossings if analysis.break_even else ()
    rows = tuple((c.method, c.reference, c.budget, (c.low, c.high)) for c in crossed)
    note = "In labelled rows. n/a: at none of the numbers tested, or beyond them."
    return Grid("crossings", "Break-even", columns, rows, note)
