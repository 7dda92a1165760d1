"""The tables of a report: each is made here or in ``detail_tables``, once, for all renderings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmclf.evaluate.paired import Difference, Estimate
from llmclf.report import data_tables as data
from llmclf.report import detail_tables as details
from llmclf.report.analysis import Analysis, MethodReport
from llmclf.report.grid import CONFIDENCE, RUN, Column, Grid
from llmclf.report.verdict import against
from llmclf.report.words import (
    AMOUNT,
    COUNT,
    DIFFERENCE,
    GIBIBYTES,
    INTERVAL,
    MEAN,
    METRICS,
    P_VALUE,
    SCORE,
    WHOLE,
    significant,
    times,
)

_LOWER_IS_BETTER = ("nll", "brier", "ece")
_SHOWN = ("macro_f1", "accuracy", "mcc", "nll", "brier", "ece")
_IN_PAPERS = ("macro_f1", "accuracy", "mcc", "nll")
_COSTS = {
    "train_seconds": Column("train s", AMOUNT, min),
    "device_hours": Column("device-hours", AMOUNT, min),
    "predict_seconds_per_1000": Column("s per 1,000 texts", AMOUNT, min),
    "rows_per_second": Column("rows/s", AMOUNT, max),
    "p50_milliseconds": Column("ms for one text, p50", AMOUNT, min),
    "p99_milliseconds": Column("ms, p99", AMOUNT, min),
    "peak_memory_bytes": Column("peak GiB", GIBIBYTES, min),
    "total_parameters": Column("parameters", COUNT),
    "trainable_parameters": Column("trainable parameters", COUNT),
    "train_watt_hours": Column("training Wh", AMOUNT, min),
    "predict_watt_hours_per_1000": Column("Wh per 1,000 texts", AMOUNT, min),
}
_COSTS_BESIDE_SCORES = (
    "trainable_parameters",
    "train_seconds",
    "rows_per_second",
    "peak_memory_bytes",
)
COST_TITLES = tuple(_COSTS[key].title for key in _COSTS_BESIDE_SCORES)
"""Columns of the scores that the table of costs has, too."""
DECISIVE = ("95% interval", "against best", "lift")
"""Columns of the scores that decide, beside the score itself."""


def scores(analysis: Analysis) -> Grid:
    """Scores, how sure they are, and costs: a row per method."""
    metric, absent = analysis.config.metric, _absent(analysis)
    shown = [_SHOWN[0], *(["macro_f1_present"] if absent else []), *_SHOWN[1:]]
    first, *others = _metrics_first(metric, shown)
    columns = (
        RUN, Column("method"), Column("model"),
        _score_column(first), CONFIDENCE, Column("against best"), *map(_score_column, others),
        Column("lift", DIFFERENCE, max), Column("seeds", WHOLE),
        *(_COSTS[key] for key in _COSTS_BESIDE_SCORES),
    )  # fmt: skip
    note = (
        f"Scores on the test rows, means over runs. Lift: macro-F1 above that of the majority "
        "class. Against best: worse if p < 0.05 after Holm's correction, equal if shown to be "
        f"within {analysis.config.margin:g}, else undecided. Bold: the best of its column."
    )
    if absent:
        note += (
            " Present labels: those that test rows have or are given, as scikit-learn has it by "
            "default; in macro-F1 the others count 0."
        )
    rows = tuple(_score_row(analysis, method, [first, *others]) for method in analysis.methods)
    return Grid("scores", "Scores", columns, rows, note, _recommended(analysis))


def _absent(analysis: Analysis) -> bool:
    """Whether a label counts 0 in macro-F1 as no test row has it or is given it, by some method."""
    return any(
        of["macro_f1"].value != of.get("macro_f1_present", of["macro_f1"]).value
        for of in analysis.statistics.estimates.values()
    )


def _score_row(analysis: Analysis, method: MethodReport, metrics: list[str]) -> tuple[Any, ...]:
    estimates = analysis.statistics.estimates[method.name]
    value, *others = (estimates[key].value for key in metrics)
    prior = analysis.prior.get("macro_f1")
    return (
        method.name, method.method, method.model or None,
        value, _ends(estimates[metrics[0]]), standing(analysis, method.name), *others,
        None if prior is None else estimates["macro_f1"].value - prior,
        analysis.statistics.seeds[method.name],
        *(_cost(method, key) for key in _COSTS_BESIDE_SCORES),
    )  # fmt: skip


def _metrics_first(metric: str, shown: Sequence[str]) -> list[str]:
    return list(dict.fromkeys((metric, *shown)))


def _score_column(key: str) -> Column:
    return Column(METRICS[key], SCORE, min if key in _LOWER_IS_BETTER else max)


def _ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def _cost(method: MethodReport, key: str) -> float | None:
    """A figure of a method's cost in the unit that the column names."""
    value = getattr(method.cost, key)
    return value / 2**30 if value is not None and key == "peak_memory_bytes" else value


def _recommended(analysis: Analysis) -> dict[str, str]:
    recommended = analysis.verdict.recommended
    return {} if recommended is None else {recommended: "recommended"}


def standing(analysis: Analysis, name: str) -> str:
    """How a method stands to the best one, in a word."""
    best = analysis.verdict.best
    if name == best:
        return "best"
    return judged(against(analysis.statistics, best, name))


def judged(pair: Difference) -> str:
    """What a difference comes to: worse, equal, worse but equal (significantly, within the margin),
    or undecided."""
    if significant(pair):
        return "worse, within margin" if pair.equivalent else "worse"
    return "equal" if pair.equivalent else "undecided"


def intervals(analysis: Analysis) -> Grid:
    """Every score of every method with its interval and spread."""
    columns = (
        RUN, Column("score"), Column("value", SCORE), CONFIDENCE,
        Column("95% interval of the rows alone", INTERVAL),
        Column("sd over seeds", SCORE), Column("sd over folds", SCORE),
    )  # fmt: skip
    left_out = () if _absent(analysis) else ("macro_f1_present",)  # the same as macro-F1
    rows = tuple(
        (
            method.name, METRICS[key], e.value, _ends(e), (e.sampling_low, e.sampling_high),
            e.seed_sd, e.fold_sd,
        )
        for method in analysis.methods
        for key, e in analysis.statistics.estimates[method.name].items()
        if key in METRICS and (key not in left_out or key == analysis.config.metric)
    )  # fmt: skip
    return Grid("intervals", "Intervals", columns, rows)


OF_ONE_PAIR = ("95% interval", "p")
"""Columns of the differences that are corrected for no other pair."""


def differences(analysis: Analysis) -> Grid:
    """Every pair of methods, the better one first."""
    statistics = analysis.statistics
    columns = (
        Column("a"), Column("b"), Column("a - b", DIFFERENCE), CONFIDENCE, Column("p", P_VALUE),
        Column("interval (Holm)", INTERVAL), Column("p (Holm)", P_VALUE),
        Column("p of non-equivalence", P_VALUE), Column("b is"),
        Column("only a right", WHOLE), Column("only b right", WHOLE), Column("McNemar p", P_VALUE),
    )  # fmt: skip
    rows = []
    for d in statistics.differences:
        m = d.mcnemar
        exact = (None, None, None) if m is None else (m.only_a, m.only_b, m.p_value)
        alone, all_pairs = (d.low, d.high), (d.holm_low, d.holm_high)
        tests = (alone, d.p_value, all_pairs, d.p_holm, d.p_equivalent)
        rows.append((d.a, d.b, d.value, *tests, judged(d), *exact))
    note = (
        f"Differences of {METRICS[statistics.metric]}, paired by row, from "
        f"{statistics.resamples:,} bootstrap resamples. Margin of equivalence: "
        f"{statistics.margin:g}. a: the better one. Holm: corrected over all pairs; that interval "
        "holds 0 just where that p is 0.05 or more (differences.csv has both of each pair alone, "
        "too). McNemar: rows that one of the two alone has "
        "right, first seed of each fold."
    )
    return Grid("differences", "Differences", columns, tuple(rows), note)


def costs(analysis: Analysis) -> Grid:
    """Time, memory, energy and price: a row per method."""
    money = f" {analysis.config.currency}".rstrip()
    columns = _COSTS | {
        "train_price": Column(f"training price{money}", AMOUNT, min),
        "price_per_1000": Column(f"price per 1,000 texts{money}", AMOUNT, min),
    }
    rows = tuple((m.name, *(_cost(m, key) for key in columns)) for m in analysis.methods)
    note, styles = "Means over the runs.", _recommended(analysis)
    return Grid("costs", "Costs", (RUN, *columns.values()), rows, note, styles)


def published(analysis: Analysis) -> Grid:
    """What others published, beside what was measured here."""
    columns = (Column("published, not measured here"), Column("score", SCORE))
    ordered = sorted(analysis.published.items(), key=lambda pair: -pair[1])
    return Grid("published", "Published scores", columns, tuple(ordered))


def paper(analysis: Analysis) -> Grid:
    """Scores with their spread over seeds: what a publication prints of a comparison."""
    statistics = analysis.statistics
    first, *others = _metrics_first(statistics.metric, _IN_PAPERS)

    def column(key: str) -> Column:
        return Column(METRICS[key], MEAN, min if key in _LOWER_IS_BETTER else max)

    def mean(name: str, key: str) -> tuple[float, float | None]:
        estimate = statistics.estimates[name][key]
        return estimate.value, estimate.seed_sd

    rows = tuple(
        (
            m.name, mean(m.name, first), _ends(statistics.estimates[m.name][first]),
            *(mean(m.name, key) for key in others),
            statistics.folds * statistics.seeds[m.name],
        )
        for m in analysis.methods
    )  # fmt: skip
    columns = (RUN, column(first), CONFIDENCE, *map(column, others), Column("n", WHOLE))
    several = times(statistics.folds, "fold") if statistics.folds > 1 else "one test set"
    note = (
        f"{times(statistics.rows, 'test row')} of {analysis.source or 'the data'}, {several}. "
        f"Mean ± standard deviation over seeds, where there are several; 95% interval of "
        f"{METRICS[first]} over rows, seeds and folds; n: runs."
    )
    return Grid("scores", analysis.title, columns, rows, note)


TABLES: dict[str, Callable[[Analysis], Grid]] = {
    "scores": scores,
    "differences": differences,
    "intervals": intervals,
    "costs": costs,
    "published": published,
    "rows": data.rows,
    "classes": data.classes,
    "crossings": details.crossings,
    "budgets": details.budgets,
    "per_label": details.per_label,
    "confusion": details.confusion,
    "calibration": details.calibration,
    "coverage": details.coverage,
    "lengths": details.lengths,
    "seen": details.seen,
    "repeats": details.repeats,
    "errors": details.errors,
    "suspects": details.suspects,
}
"""All tables by the name of the CSV file, in the order in which they are shown."""


def tables(analysis: Analysis) -> list[Grid]:
    """Tables of a report that hold a row."""
    return [grid for grid in (make(analysis) for make in TABLES.values()) if grid.rows]
