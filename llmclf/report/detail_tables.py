"""The tables of a report on single rows and on trust: calibration, lengths, errors, budgets."""

from __future__ import annotations

import numpy as np

from llmclf.evaluate.calibration import Coverage
from llmclf.report.analysis import Analysis
from llmclf.report.grid import Column, Grid
from llmclf.report.tables import INTERVAL, NAMES, SHARES, integer
from llmclf.report.words import METRICS, score


def calibration(analysis: Analysis) -> Grid:
    """Scores of the probabilities before and after the temperature."""
    keys = ("nll", "brier", "ece")
    columns = [NAMES[0], Column("temperature", score)]
    for key in keys:
        columns += [Column(f"{METRICS[key]} {when}", score) for when in ("before", "after")]
    rows = tuple(
        (
            m.name,
            m.calibration.temperature,
            *(value for key in keys for value in m.calibration.scores[key]),
        )
        for m in analysis.methods
        if m.calibration is not None
    )
    note = "Before and after the temperature that was fitted on validation rows."
    return Grid("calibration", "Calibration", tuple(columns), rows, note)


def coverage(analysis: Analysis) -> Grid:
    """Accuracy where the least certain rows are left to people."""
    columns = [NAMES[0], *(Column(f"accuracy at {share:.0%}", score, max) for share in SHARES)]
    rows = tuple(
        (m.name, *(accuracy_at(m.coverage, share) for share in SHARES), m.coverage.area)
        for m in analysis.methods
        if m.coverage is not None
    )
    note = (
        "Accuracy on the share of rows that is answered, the least certain left out. Area: mean "
        "error over all shares, lower is better."
    )
    return Grid("coverage", "Abstaining", (*columns, Column("area", score, min)), rows, note)


def accuracy_at(found: Coverage, share: float) -> float:
    """Accuracy at the nearest share that can be answered: rows of equal confidence go together."""
    return float(found.accuracy[np.abs(found.share - share).argmin()])


def lengths(analysis: Analysis) -> Grid:
    """Scores by length of text."""
    columns = (
        NAMES[0],
        Column("words from", integer),
        Column("to", integer),
        Column("rows", integer),
        Column("accuracy", score),
        Column("macro-F1", score),
    )
    rows = tuple(
        (m.name, b.low, b.high, b.rows, b.accuracy, b.macro_f1)
        for m in analysis.methods
        for b in m.lengths
    )
    return Grid("lengths", "Lengths", columns, rows)


def errors(analysis: Analysis) -> Grid:
    """The most confident errors of each method."""
    columns = (
        NAMES[0],
        Column("id"),
        Column("label"),
        Column("predicted"),
        Column("confidence", score),
        Column("text"),
    )
    rows = tuple(
        (m.name, e.id, e.label, e.predicted, e.confidence, e.text)
        for m in analysis.methods
        for e in m.errors
    )
    return Grid("errors", "Most confident errors", columns, rows)


def suspects(analysis: Analysis) -> Grid:
    """Test rows whose given label may be wrong."""
    columns = (
        NAMES[0],
        Column("id"),
        Column("label"),
        Column("suggested"),
        Column("p of suggested", score),
        Column("p of label", score),
        Column("text"),
    )
    rows = tuple(
        (m.name, s.id, s.label, s.suggested, s.confidence, s.given, s.text)
        for m in analysis.methods
        for s in m.suspects
    )
    note = "Labels that the method contradicts with confidence; a person must decide."
    return Grid("suspects", "Suspected labels", columns, rows, note)


def seen(analysis: Analysis) -> Grid:
    """Scores with and without the test rows that training has seen."""
    columns = (
        NAMES[0],
        *(Column(kind, integer) for kind in ("rows", "exact", "normalised", "near")),
        Column("score", score),
        Column("score without", score),
    )
    rows = tuple(
        (
            m.name,
            m.seen.rows,
            *(m.seen.kinds.get(kind, 0) for kind in ("exact", "normalised", "near")),
            m.seen.score,
            m.seen.score_without,
        )
        for m in analysis.methods
        if m.seen is not None
    )
    note = f"{METRICS[analysis.config.metric]} on all test rows, and without those seen before."
    return Grid("seen", "Test rows seen in training", columns, rows, note)


def budgets(analysis: Analysis) -> Grid:
    """Scores over the number of labelled rows."""
    columns = (
        NAMES[0],
        Column("labelled rows", integer),
        Column("of each class"),
        Column(METRICS[analysis.config.metric], score),
        INTERVAL,
        Column("seeds", integer),
    )
    curves = analysis.break_even.curves if analysis.break_even else {}
    rows = tuple(
        (
            name,
            p.budget,
            "all" if p.per_class is None else str(p.per_class),
            p.value,
            (p.low, p.high),
            p.seeds,
        )
        for name, points in curves.items()
        for p in points
    )
    return Grid("budgets", "Labelled rows", columns, rows)


def crossings(analysis: Analysis) -> Grid:
    """Where methods begin to beat the references."""
    columns = (
        NAMES[0],
        Column("reference"),
        Column("first significantly better with", integer),
        Column("95% interval of the crossing", _rows_pair, parts=("low", "high")),
    )
    found = analysis.break_even.crossings if analysis.break_even else ()
    rows = tuple((c.method, c.reference, c.budget, (c.low, c.high)) for c in found)
    note = "In labelled rows. n/a: at none of the numbers tested, or beyond them."
    return Grid("crossings", "Break-even", columns, rows, note)


def _rows_pair(pair: tuple[float | None, float | None]) -> str:
    low, high = pair
    if low is None or high is None:
        return "n/a" if low == high else f"up to {high:,.0f}" if low is None else f"from {low:,.0f}"
    return f"[{low:,.0f}, {high:,.0f}]"


def published(analysis: Analysis) -> Grid:
    """What others published, beside what was measured here."""
    columns = (Column("published, not measured here"), Column("score", score))
    rows = tuple(analysis.published.items())
    return Grid("published", "Published scores", columns, rows)
