"""Scores as dots: of the methods with intervals, of each label, of texts of different length."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from llmclf.report.analysis import Analysis, LabelScore, MethodReport
from llmclf.report.detail_tables import length_unit
from llmclf.report.figures.draw import (
    Drawn,
    axis_labels,
    canvas,
    finish,
    key_rows,
    label_ends,
    say,
    style,
)
from llmclf.report.figures.svg import MUTED, RULE, SERIES
from llmclf.report.texts import cut
from llmclf.report.words import interval, metric_name, score

MOST_LABELS = 20
"""Labels in the figure at most; the table has all."""
MOST_METHODS = 6
"""Methods at most of which the dots of one label can still be told apart."""


def score_intervals(analysis: Analysis) -> Drawn:
    """Score of each method with both intervals, published scores without any, the margin."""
    stats, metric = analysis.statistics, metric_name(analysis.statistics.metric)
    rows = [(m.name, stats.estimates[m.name][stats.metric]) for m in analysis.methods]
    published = sorted(analysis.published.items(), key=lambda pair: -pair[1])
    count = len(rows) + len(published)
    figure, axes = canvas(36 * count + 56, left=10, right=52)
    best = rows[0][1].value
    axes.axvspan(best - stats.margin, best, color=SERIES[0], alpha=0.12, lw=0)
    for i, (name, e) in enumerate(rows):
        how = style(i)
        axes.plot([e.low, e.high], [i, i], color=how.colour, lw=1.4, solid_capstyle="butt")
        axes.plot([e.sampling_low, e.sampling_high], [i, i], color=how.colour, lw=5, alpha=0.45)
        axes.plot([e.value], [i], how.marker, color=how.colour, ms=8)
        _row(axes, i, name, score(e.value))
    for i, (name, value) in enumerate(published, len(rows)):
        axes.plot([value], [i], "D", mfc="none", mec=MUTED, ms=6)
        _row(axes, i, f"{cut(name, 34)} (published)", score(value), color=MUTED)
    axes.set_ylim(count - 0.4, -0.8)
    axes.set_yticks([])
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    low = min([e.low for _, e in rows] + [value for _, value in published])
    high = max([e.high for _, e in rows] + [value for _, value in published])
    room = max(high - low, 2 * stats.margin) * 0.05
    axes.set_xlim(low - room, high + room)
    axis_labels(axes, x=f"{metric} on the test rows")
    told = "; ".join(f"{n} {score(e.value)}, {interval(e.low, e.high)}" for n, e in rows)
    return finish(
        figure,
        "scores",
        f"{metric} of each method, with 95% intervals",
        f"{metric} and its 95% interval: {told}.",
        caption="Thin line: 95% interval over rows, seeds and folds. Thick line: over the test "
        f"rows alone. Shaded: within the margin of {stats.margin:g} of the best."
        + (" Hollow: published, not measured here." if published else ""),
    )


def _row(axes: Axes, i: int, name: str, value: str, **how: Any) -> None:
    across = axes.get_yaxis_transform()
    say(axes, 0, i - 0.4, name, most=48, transform=across, **how)
    say(axes, 1.03, i, value, transform=across, **how)


def label_scores(analysis: Analysis) -> Drawn:
    """F1 of each label by method; with many labels the hardest for the best method."""
    methods = analysis.methods[:MOST_METHODS]
    first = {row.label: row for row in methods[0].labels}
    hardest = sorted(first.values(), key=lambda row: (row.f1, row.label))[:MOST_LABELS]
    cut = len(hardest) < len(first)
    names = [m.name for m in methods]
    keys = 15 * ((len(names) + 1) // 2)
    figure, axes = canvas(30 * len(hardest) + 60 + keys, left=10, right=52, top=20 + keys)
    styles = [style(i) for i in range(len(methods))]
    key_rows(figure, names, styles, 10)
    of = [{row.label: row for row in m.labels} for m in methods]
    for i, row in enumerate(hardest):
        values = [scores[row.label].f1 for scores in of if row.label in scores]
        axes.plot([min(values), max(values)], [i, i], color=MUTED, lw=1, alpha=0.6)
        for scores, how in reversed(list(zip(of, styles, strict=True))):
            if row.label in scores:
                axes.plot([scores[row.label].f1], [i], how.marker, color=how.colour, ms=6.5)
        _row(axes, i, row.label, f"n {row.support:,}")
    axes.set_ylim(len(hardest) - 0.4, -0.8)
    axes.set_yticks([])
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    low = min(s[row.label].f1 for s in of for row in hardest if row.label in s)
    axes.set_xlim(max(low - 0.05, -0.02), 1.01)
    axis_labels(axes, x="F1 of the label; n: test rows with it")
    worst = hardest[0]
    return finish(
        figure,
        "labels",
        "F1 by label" + (f": the {len(hardest)} hardest of {len(first)} labels" if cut else ""),
        f"Hardest label for {names[0]}: {worst.label}, F1 {score(worst.f1)}, {worst.support} rows. "
        f"Easiest: {_easiest(first)}.",
        caption=_label_caption(analysis, cut),
    )


def _easiest(rows: dict[str, LabelScore]) -> str:
    row = max(rows.values(), key=lambda row: row.f1)
    return f"{row.label}, {score(row.f1)}"


def _label_caption(analysis: Analysis, cut: bool) -> str:
    parts = ["Labels with the lowest F1 of the best method first."]
    if cut:
        parts.append("The table has all labels.")
    if len(analysis.methods) > MOST_METHODS:
        rest = len(analysis.methods) - MOST_METHODS
        which = (
            "method with the lowest score stands"
            if rest == 1
            else f"{rest} methods with the lowest scores stand"
        )
        parts.append(f"The {which} in the table only.")
    return " ".join(parts)


def length_scores(methods: tuple[MethodReport, ...]) -> Drawn:
    """Macro-F1 by words, or characters, of the text."""
    shown = [(i, m) for i, m in enumerate(methods) if m.lengths]
    buckets = shown[0][1].lengths
    figure, axes = canvas(270, right=130, top=28, bottom=54)
    ends, styles = [], []
    for i, m in shown:
        how, y = style(i), [bucket.macro_f1 for bucket in m.lengths]
        axes.plot(range(len(y)), y, color=how.colour, marker=how.marker, ls=how.dashes, lw=1.6)
        ends.append((len(y) - 1, y[-1]))
        styles.append(how)
    ticks = [f"{b.low}\u2013{b.high}\n{b.rows:,} rows" for b in buckets]
    axes.set_xticks(range(len(buckets)), ticks, fontsize=8.5)
    axes.margins(x=0.08)
    label_ends(axes, [m.name for _, m in shown], ends, styles)
    axis_labels(axes, x=f"{length_unit(methods)} in the text", y="macro-F1")
    best = shown[0][1]
    told = "; ".join(
        f"{b.low} to {b.high} {best.length_unit} {score(b.macro_f1)}" for b in best.lengths
    )
    return finish(
        figure,
        "lengths",
        "Macro-F1 by length of the text",
        f"{best.name}: {told}.",
        caption="Labels without rows of a length are left out there, so compare methods, not "
        "lengths, where a bucket is small.",
    )
