"""The page's tables: an analysis in, texts out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmclf.evaluate.errors import SeenRows
from llmclf.evaluate.paired import Difference
from llmclf.report.analysis import Analysis, MethodReport
from llmclf.report.show import (
    MISSING,
    amount,
    count,
    duration,
    interval,
    memory,
    metric_name,
    p_value,
    score,
    signed,
    visible,
)
from llmclf.report.table import Row, Table, table

LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
EQUIVALENT = "≈"
LEGEND = (
    "Against the best method, p corrected for all pairs (Holm): * below 0.05, ** below 0.01, "
    f"*** below 0.001. {EQUIVALENT} equivalent: within the margin of {{margin:g}} (two one-sided "
    "tests at 0.05). No mark: undecided."
)


@dataclass(frozen=True)
class Column:
    """A column of the first tables; one without a single value is left out."""

    title: str
    of: Callable[[MethodReport], float | None]
    show: Callable[[float | None], str]
    best: Callable[..., float] | None = None
    """max or min; None where neither end is better."""


def headline(analysis: Analysis) -> tuple[Table, Table, tuple[str, ...]]:
    """Scores of all methods and published ones; what the methods cost; and the names of columns
    that nobody measured."""
    stats = analysis.statistics
    metrics = list(dict.fromkeys((stats.metric, "macro_f1")))
    head = ["Method", "Model", "What learns"]
    for metric in metrics:
        head += [metric_name(metric), "95% interval"]
        head += ["vs best"] if metric == stats.metric else []
    texts = [
        [
            *(visible(t, 80) for t in (m.name, m.model or MISSING, learns(m))),
            *_estimates(analysis, m.name, metrics),
            _runs(analysis, m.name),
        ]
        for m in analysis.methods
    ]
    scores, absent = _with_columns(
        analysis, [*head, "Runs"], texts, _score_columns(analysis), "All methods, means over runs"
    )
    published = _published(analysis, len(scores.head))
    names = [[visible(m.name, 80)] for m in analysis.methods]
    costs, unpaid = _with_columns(
        analysis, ["Method"], names, _cost_columns(analysis), "What they cost, means over runs"
    )
    scores = replace(scores, rows=(*scores.rows, *published), texts=3)
    return scores, costs, absent + unpaid


def _with_columns(
    analysis: Analysis,
    head: Sequence[str],
    texts: Sequence[Sequence[str]],
    columns: Sequence[Column],
    caption: str,
) -> tuple[Table, tuple[str, ...]]:
    """Texts of each method with columns behind them, the best marked; and the titles of columns
    without a value."""
    values = [[column.of(m) for m in analysis.methods] for column in columns]
    kept = [k for k, column in enumerate(values) if any(v is not None for v in column)]
    shown = [_best_marked(columns[k], values[k]) for k in kept]
    rows = tuple(
        Row(
            (*texts[i], *(cells[i][0] for cells in shown)),
            kind=_kind(analysis, m.name),
            strong=frozenset(len(head) + k for k, cells in enumerate(shown) if cells[i][1]),
        )
        for i, m in enumerate(analysis.methods)
    )
    titles = (*head, *(columns[k].title for k in kept))
    absent = tuple(c.title for k, c in enumerate(columns) if k not in kept)
    return Table(head=titles, rows=rows, caption=caption), absent


def _score_columns(analysis: Analysis) -> list[Column]:
    columns = [
        Column("Accuracy", lambda m: _value(analysis, m.name, "accuracy"), score, max),
        Column("ECE", lambda m: _value(analysis, m.name, "ece"), score, min),
    ]
    return columns[analysis.statistics.metric == "accuracy" :]


def _cost_columns(analysis: Analysis) -> list[Column]:
    unit = visible(analysis.config.currency, 12).strip()
    unit = f", {unit}" if unit else ""
    return [
        Column("Training", lambda m: m.cost.train_seconds, duration, None),
        Column("Device-hours", lambda m: m.cost.device_hours, amount, None),
        Column("Training Wh", lambda m: m.cost.train_watt_hours, amount, None),
        Column("Peak GiB", lambda m: m.cost.peak_memory_bytes, memory, min),
        Column(f"Training price{unit}", lambda m: m.cost.train_price, amount, None),
        Column(f"Price of 1,000 texts{unit}", lambda m: m.cost.price_per_1000, amount, min),
        Column("Rows/s", lambda m: m.cost.rows_per_second, amount, max),
        Column("One text, p50 ms", lambda m: m.cost.p50_milliseconds, amount, min),
        Column("p99 ms", lambda m: m.cost.p99_milliseconds, amount, min),
    ]


def _value(analysis: Analysis, name: str, metric: str) -> float | None:
    estimate = analysis.statistics.estimates[name].get(metric)
    return None if estimate is None else estimate.value


def _best_marked(column: Column, values: Sequence[float | None]) -> list[tuple[str, bool]]:
    """Texts, and whether each is the best as far as its digits show."""
    known = [value for value in values if value is not None]
    best = column.show(column.best(known)) if column.best and len(known) > 1 else None
    return [(text, text == best) for text in map(column.show, values)]


def _estimates(analysis: Analysis, name: str, metrics: Sequence[str]) -> list[str]:
    cells: list[str] = []
    for metric in metrics:
        e = analysis.statistics.estimates[name].get(metric)
        cells += [MISSING] * 2 if e is None else [score(e.value), interval(e.low, e.high)]
        cells += [mark(analysis, name)] if metric == analysis.statistics.metric else []
    return cells


def _kind(analysis: Analysis, name: str) -> str:
    return "recommended" if name == analysis.verdict.recommended else ""


def _published(analysis: Analysis, width: int) -> list[Row]:
    place = 3
    rows = []
    for name, value in sorted(analysis.published.items(), key=lambda pair: -pair[1]):
        cells = [visible(name, 80), "published, not measured here", MISSING]
        cells += [""] * (width - len(cells))
        cells[place] = score(value)
        rows.append(Row(tuple(cells), kind="published"))
    return rows


def learns(m: MethodReport) -> str:
    """What training changes, and how many parameters that are."""
    trained = m.cost.trainable_parameters
    kind = visible(m.method, 40)
    if trained is None:
        return kind
    if trained == 0:
        return f"{kind}: nothing"
    whole = m.cost.total_parameters
    of = f" of {count(whole)}" if whole and whole > trained else ""
    return f"{kind}: {count(trained)}{of}"


def _runs(analysis: Analysis, name: str) -> str:
    seeds, folds = analysis.statistics.seeds.get(name, 1), analysis.statistics.folds
    text = f"{seeds} seed{'s' if seeds != 1 else ''}"
    return text if folds == 1 else f"{text} \u00d7 {folds} folds"


def mark(analysis: Analysis, name: str) -> str:
    """Stars of significance against the best, or the sign of equivalence."""
    best = analysis.verdict.best
    if name == best:
        return "best"
    found = next((d for d in analysis.statistics.differences if {d.a, d.b} == {best, name}), None)
    if found is None:
        return MISSING
    stars = next((text for level, text in LEVELS if found.p_holm < level), "")
    return stars + (EQUIVALENT if found.equivalent else "")


def differences(analysis: Analysis) -> Table:
    """Every pair of methods."""
    stats = analysis.statistics
    return table(
        f"Differences in {metric_name(stats.metric)} of every pair of methods",
        ("Better", "Worse", "Difference", "95% interval", "p", "p, Holm", "Equivalent",
         "p, equivalence", "Only better right", "Only worse right", "McNemar p"),
        [(visible(d.a, 80), visible(d.b, 80), *_difference(d)) for d in stats.differences],
        texts=2,
    )  # fmt: skip


def _difference(d: Difference) -> list[str]:
    only = d.mcnemar
    return [
        signed(d.value),
        f"{signed(d.low)} to {signed(d.high)}",
        p_value(d.p_value),
        p_value(d.p_holm),
        "yes" if d.equivalent else "not shown",
        p_value(d.p_equivalent),
        *(
            (MISSING,) * 3
            if only is None
            else (f"{only.only_a:,}", f"{only.only_b:,}", p_value(only.p_value))
        ),
    ]


def spreads(analysis: Analysis) -> Table:
    """How much a score changes between seeds and between folds."""
    stats = analysis.statistics
    rows = [
        (m.name, score(e.value), interval(e.sampling_low, e.sampling_high),
         score(e.seed_sd), score(e.fold_sd))
        for m in analysis.methods
        for e in [stats.estimates[m.name][stats.metric]]
    ]  # fmt: skip
    head = ("Method", metric_name(stats.metric), "95%, rows alone", "SD of seeds", "SD of folds")
    return table("Where the uncertainty comes from", head, rows)


def confident_errors(m: MethodReport) -> Table:
    """The most confident mistakes of a method."""
    return table(
        f"The most confident mistakes of {visible(m.name, 80)}",
        ("Row", "Text", "Given label", "Predicted", "Confidence"),
        [
            (visible(e.id, 60), _text(e.text), visible(e.label, 80), visible(e.predicted, 80),
             score(e.confidence))
            for e in m.errors
        ],
        texts=4,
        long=(1,),
    )  # fmt: skip


def suspect_labels(m: MethodReport) -> Table:
    """Rows whose label the method contradicts."""
    return table(
        f"Labels that {visible(m.name, 80)} contradicts",
        ("Row", "Text", "Given label", "Suggested", "p given", "p suggested"),
        [
            (visible(s.id, 60), _text(s.text), visible(s.label, 80), visible(s.suggested, 80),
             score(s.given), score(s.confidence))
            for s in m.suspects
        ],
        texts=4,
        long=(1,),
    )  # fmt: skip


def _text(text: str | None) -> str:
    return "(not in the run folder)" if text is None else visible(text, 400)


def seen_rows(methods: Sequence[MethodReport], metric: str) -> Table:
    """Scores with and without the test rows that training has seen."""
    return table(
        "Scores with and without test rows that training or validation has seen",
        ("Method", "Seen rows", "Kinds", "All rows", "Without them", "Change"),
        [
            (visible(m.name, 80), f"{m.seen.rows:,}", _kinds(m.seen.kinds), score(m.seen.score),
             score(m.seen.score_without), signed(_change(m.seen)))
            for m in methods
            if m.seen is not None
        ],
    )  # fmt: skip


def _change(seen: SeenRows) -> float | None:
    return None if seen.score_without is None else seen.score_without - seen.score


def _kinds(kinds: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {visible(kind, 30)}" for kind, n in kinds.items() if n) or MISSING


def audit_rows(audit: dict[str, Any]) -> Table | None:
    """What the audit found across splits; None where there is none."""
    rows = []
    for pair, kinds in (audit.get("across") or {}).items():
        counts = [_rows_of(kinds, kind) for kind in ("exact", "normalised", "near")]
        rows.append((visible(pair, 40), *counts))
    head = ("Splits", "Exact", "Normalised", "Near duplicates")
    return table("Rows of the second split found in the first", head, rows) if rows else None


def _rows_of(kinds: Any, kind: str) -> str:
    found = kinds.get(kind) if isinstance(kinds, dict) else None
    rows = found.get("rows") if isinstance(found, dict) else None
    return f"{rows:,}" if isinstance(rows, int) else MISSING


def flat(values: dict[str, Any], caption: str) -> Table:
    """Keys and values, nested ones with dotted keys."""
    return table(
        caption,
        ("Setting", "Value"),
        [(visible(key, 120), visible(value, 400)) for key, value in _leaves(values, "")],
        texts=2,
        long=(1,),
    )


def _leaves(values: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found += _leaves(value, f"{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            found.append((name, MISSING if shown is None or shown == "" else shown))
    return found
