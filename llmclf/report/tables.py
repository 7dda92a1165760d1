"""The tables of a report, as values. Markdown, CSV files and terminal show the same ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmclf.evaluate.paired import Difference
from llmclf.report.analysis import Analysis, MethodReport
from llmclf.report.grid import Column, Grid
from llmclf.report.verdict import against
from llmclf.report.words import (
    METRICS,
    amount,
    count,
    difference,
    gibibytes,
    interval,
    score,
    short,
    significant,
)

NAMES = (Column("run"), Column("method"), Column("model"))
_LOWER_IS_BETTER = ("nll", "brier", "ece")
_SHOWN = ("macro_f1", "accuracy", "mcc", "nll", "ece")
_COSTS: tuple[tuple[Column, Callable[[MethodReport], float | None]], ...] = (
    (Column("trainable parameters", count), lambda m: m.cost.trainable_parameters),
    (Column("train s", amount, min), lambda m: m.cost.train_seconds),
    (Column("rows/s", amount, max), lambda m: m.cost.rows_per_second),
    (Column("peak GiB", gibibytes, min), lambda m: m.cost.peak_memory_bytes),
)
COST_TITLES = tuple(column.title for column, _ in _COSTS)
DECISIVE = 3
"""Columns after the names that decide: score, interval, standing."""
SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Of the rows answered, at which accuracy is shown."""


def _pair(values: tuple[float, float]) -> str:
    return interval(*values)


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else short(value)


def integer(value: float) -> str:
    return f"{value:,.0f}"


INTERVAL = Column("95% interval", _pair, parts=("low", "high"))


def scores(analysis: Analysis) -> Grid:
    """Scores, how sure they are, and costs: a row per method."""
    metric = analysis.config.metric
    shown = [metric, *(key for key in _SHOWN if key != metric)]
    columns = [*NAMES, *map(_score_column, shown)]
    columns[len(NAMES) + 1 : len(NAMES) + 1] = [INTERVAL, Column("against best")]
    prior = analysis.prior.get("macro_f1")
    rows = []
    for method in analysis.methods:
        found = analysis.statistics.estimates[method.name]
        values: list[Any] = [found[key].value for key in shown]
        values[1:1] = [(found[metric].low, found[metric].high), standing(analysis, method.name)]
        lift = None if prior is None else found["macro_f1"].value - prior
        costs = [of(method) for _, of in _COSTS]
        rows.append((method.name, method.method, method.model, *values, lift, *costs))
    columns += [Column("lift", difference, max), *(column for column, _ in _COSTS)]
    note = (
        f"Scores on the test rows. Lift: macro-F1 above that of the majority class. Against best: "
        f"worse if p < .05 after Holm's correction, equal if shown to be within "
        f"{analysis.config.margin:g}, else undecided."
    )
    return Grid("scores", "Scores", tuple(columns), tuple(rows), note)


def _score_column(key: str) -> Column:
    return Column(METRICS[key], score, min if key in _LOWER_IS_BETTER else max)


def standing(analysis: Analysis, name: str) -> str:
    """How a method stands to the best one, in a word."""
    best = analysis.verdict.best
    if name == best:
        return "best"
    return judged(against(analysis.statistics, best, name))


def judged(found: Difference) -> str:
    """worse, equal, worse but equal (significantly, within the margin), or undecided."""
    if significant(found):
        return "worse, within margin" if found.equivalent else "worse"
    return "equal" if found.equivalent else "undecided"


def intervals(analysis: Analysis) -> Grid:
    """Every score of every method with its interval and spread."""
    columns = (
        NAMES[0],
        Column("score"),
        Column("value", score),
        INTERVAL,
        Column("95% interval of the rows alone", _pair, parts=("low", "high")),
        Column("sd over seeds", score),
        Column("sd over folds", score),
    )
    rows = tuple(
        (
            method.name,
            METRICS[key],
            e.value,
            (e.low, e.high),
            (e.sampling_low, e.sampling_high),
            e.seed_sd,
            e.fold_sd,
        )
        for method in analysis.methods
        for key, e in analysis.statistics.estimates[method.name].items()
        if key in METRICS
    )
    return Grid("intervals", "Intervals", columns, rows)


def differences(analysis: Analysis) -> Grid:
    """Every pair of methods."""
    statistics = analysis.statistics
    columns = (
        Column("a"),
        Column("b"),
        Column("a - b", difference),
        INTERVAL,
        Column("p", _p),
        Column("p (Holm)", _p),
        Column("p of non-equivalence", _p),
        Column("b is"),
        Column("only a right", integer),
        Column("only b right", integer),
        Column("McNemar p", _p),
    )
    rows = []
    for d in statistics.differences:
        m = d.mcnemar
        exact = (None, None, None) if m is None else (m.only_a, m.only_b, m.p_value)
        tests = (d.p_value, d.p_holm, d.p_equivalent)
        rows.append((d.a, d.b, d.value, (d.low, d.high), *tests, judged(d), *exact))
    note = (
        f"Differences of {METRICS[statistics.metric]}, paired by row, from "
        f"{statistics.resamples:,} bootstrap resamples. Margin of equivalence: "
        f"{statistics.margin:g}. McNemar: rows that one of the two alone has right, first seed of "
        "each fold."
    )
    return Grid("differences", "Differences", columns, tuple(rows), note)


def costs(analysis: Analysis) -> Grid:
    """Time, memory, energy and price: a row per method."""
    money = f" {analysis.config.currency}".rstrip()
    of_cost = {
        "train_seconds": Column("train s", amount, min),
        "device_hours": Column("device-hours", amount, min),
        "predict_seconds_per_1000": Column("s per 1,000 texts", amount, min),
        "rows_per_second": Column("rows/s", amount, max),
        "p50_milliseconds": Column("ms for one text, p50", amount, min),
        "p99_milliseconds": Column("ms, p99", amount, min),
        "peak_memory_bytes": Column("peak GiB", gibibytes, min),
        "total_parameters": Column("parameters", count),
        "trainable_parameters": Column("trainable parameters", count),
        "train_watt_hours": Column("training Wh", amount, min),
        "predict_watt_hours_per_1000": Column("Wh per 1,000 texts", amount, min),
        "train_price": Column(f"training price{money}", amount, min),
        "price_per_1000": Column(f"price per 1,000 texts{money}", amount, min),
    }
    rows = tuple((m.name, *(getattr(m.cost, key) for key in of_cost)) for m in analysis.methods)
    return Grid("costs", "Costs", (NAMES[0], *of_cost.values()), rows, "Means over the runs.")


def per_label(analysis: Analysis) -> Grid:
    """Precision, recall and F1 of each label."""
    columns = (
        NAMES[0],
        Column("label"),
        *(Column(title, score) for title in ("precision", "recall", "F1")),
        Column("test rows", integer),
    )
    rows = tuple(
        (m.name, row.label, row.precision, row.recall, row.f1, row.support)
        for m in analysis.methods
        for row in m.labels
    )
    return Grid("per_label", "Labels", columns, rows)


def confusion(analysis: Analysis) -> Grid:
    """Rows of each true label by predicted label, all runs together."""
    columns = (NAMES[0], Column("true"), Column("predicted"), Column("rows", integer))
    rows = tuple(
        (m.name, true, predicted, int(m.confusion[i, j]))
        for m in analysis.methods
        if m.confusion is not None
        for i, true in enumerate(analysis.labels)
        for j, predicted in enumerate(analysis.labels)
    )
    return Grid("confusion", "Confusion", columns, rows, "All runs of a method together.")
