"""Scores over something: rows seen, device-hours, share answered, labelled rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from llmclf.report.analysis import BreakEven, BudgetPoint, Crossing, Curve, MethodReport
from llmclf.report.detail_tables import accuracy_at
from llmclf.report.figures.draw import (
    Drawn,
    Style,
    axis_labels,
    canvas,
    finish,
    label_ends,
    logarithmic,
    say,
    style,
)
from llmclf.report.figures.svg import INK
from llmclf.report.grid import RUN, Column, Grid
from llmclf.report.words import AMOUNT, SCORE, WHOLE, amount, count, percent, score

LEAST_SHARE = 0.05
"""Smallest part of the rows that is drawn: fewer say little about accuracy."""
AXES = {"examples": "training rows seen", "device_hours": "device-hours of training"}


def learning_curves(methods: tuple[MethodReport, ...], over: str, metric: str) -> Drawn | None:
    """Validation scores while methods learnt: mean over the runs of each, band from the lowest to
    the highest run.

    ``over``: a key of AXES. None where no run has recorded it.
    """
    learnt = []
    for i, m in enumerate(methods):
        if mean := _mean_curve(m.curves, over):
            learnt.append((i, m, mean))
    if not learnt:
        return None
    figure, axes = canvas(300, right=130, top=28)
    ends, styles = [], []
    for i, _, (x, y_RK) in learnt:
        how, y = style(i), y_RK.mean(axis=0)
        _line(axes, x, y, how)
        if len(y_RK) > 1:
            axes.fill_between(x, y_RK.min(axis=0), y_RK.max(axis=0), color=how.colour, alpha=0.15)
        ends.append((x[-1], y[-1]))
        styles.append(how)
    _amounts_below(axes)
    label_ends(axes, [m.name for _, m, _ in learnt], ends, styles)
    axis_labels(axes, x=AXES[over], y=f"{metric} on validation rows")
    told = "; ".join(
        f"{m.name} {score(y[:, -1].mean())} after {amount(x[-1])}" for _, m, (x, y) in learnt
    )
    return finish(
        figure,
        f"curves-{over.replace('_', '-')}",
        f"{metric} over {AXES[over]}",
        f"At the end: {told} {AXES[over]}.",
        caption="Line: mean over the runs of a method. Band: from its lowest to its highest run.",
        numbers=Grid(
            f"curves_{over}",
            f"{metric} over {AXES[over]}",
            (RUN, Column(AXES[over], AMOUNT),
             *(Column(what, SCORE) for what in ("mean", "lowest", "highest")),
             Column("runs", WHOLE)),
            tuple(
                (m.name, float(x[k]), float(y[:, k].mean()), float(y[:, k].min()),
                 float(y[:, k].max()), len(y))
                for _, m, (x, y) in learnt
                for k in _some(len(x))
            ),
        ),
    )  # fmt: skip


def _mean_curve(curves: Sequence[Curve], over: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Places (K) and the runs' scores there (R, K), up to where the shortest run ends."""
    known = [c for c in curves if len(getattr(c, over)) == len(c.score) > 0]
    if not known:
        return None
    runs = [(np.array(getattr(c, over), float), np.array(c.score, float)) for c in known]
    start, end = max(x[0] for x, _ in runs), min(x[-1] for x, _ in runs)
    places = np.unique(np.concatenate([x for x, _ in runs]))
    places = places[(places >= start) & (places <= end)]
    if not len(places):
        places = np.array([end])
    return places, np.array([np.interp(places, x, y) for x, y in runs])


def _line(axes: Axes, x: Sequence[float] | np.ndarray, y: np.ndarray, how: Style) -> None:
    every = max(1, len(x) // 8)
    axes.plot(
        x, y, color=how.colour, ls=how.dashes, lw=1.7, marker=how.marker, ms=4.5, markevery=every
    )


def _amounts_below(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: count(x) if x >= 1000 else f"{x:.4g}")
    )


def _some(length: int) -> list[int]:
    """At most 20 places of ``length``, both ends included."""
    return sorted({round(i) for i in np.linspace(0, length - 1, min(length, 20))})


def coverage(methods: tuple[MethodReport, ...]) -> Drawn:
    """Accuracy on the rows that are answered over their share."""
    shown = [(i, m, m.coverage) for i, m in enumerate(methods) if m.coverage is not None]
    figure, axes = canvas(300, right=130, top=28)
    ends, styles = [], []
    for i, _, c in shown:
        keep = np.flatnonzero(c.share >= min(LEAST_SHARE, c.share.max()))
        keep = keep[sorted({round(k) for k in np.linspace(0, len(keep) - 1, min(len(keep), 120))})]
        _line(axes, c.share[keep], c.accuracy[keep], style(i))
        ends.append((c.share[keep][-1], c.accuracy[keep][-1]))
        styles.append(style(i))
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0%}"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
    label_ends(axes, [m.name for _, m, _ in shown], ends, styles)
    axis_labels(axes, x="share of rows answered, the surest first", y="accuracy on these rows")
    _, best, curve = shown[0]
    half, everything = (percent(accuracy_at(curve, share)) for share in (0.5, 1.0))
    return finish(
        figure,
        "coverage",
        "Accuracy when unsure rows are left to people",
        f"{best.name}: accuracy {half} on the surest half of the rows, {everything} on all.",
        caption="Right end: every row is answered.",
    )


def break_even(study: BreakEven, order: Sequence[str], metric: str) -> Drawn:
    """Score over labelled rows, with intervals, and where methods cross."""
    names = [n for n in order if n in study.curves] + [n for n in study.curves if n not in order]
    budgets = [point.budget for points in study.curves.values() for point in points]
    figure, axes = canvas(320, right=130, top=28)
    ends, styles = [], []
    for i, name in enumerate(names):
        points, how = study.curves[name], style(i)
        _budgets(axes, points, how, max(budgets))
        ends.append((max(budgets), points[-1].value))
        if len(points) > 1:
            ends[-1] = (points[-1].budget, points[-1].value)
        styles.append(how)
    _budget_axis(axes, budgets)
    for crossing in study.crossings:
        if crossing.budget is not None:
            axes.axvline(crossing.budget, color=INK, lw=0.8, ls=(0, (2, 3)))
            top = axes.get_xaxis_transform()
            say(axes, crossing.budget, 0.03, f" {crossing.budget:,}", transform=top, fontsize=9)
    label_ends(axes, names, ends, styles)
    axis_labels(axes, x="labelled rows (log scale)", y=f"{metric} on test rows")
    told = " ".join(map(crossing_sentence, study.crossings))
    return finish(
        figure,
        "break-even",
        f"{metric} over the number of labelled rows",
        told or "No method passes another.",
        caption="Bands: 95% intervals. Dotted upright lines: the smallest budget at which one "
        "method beats another significantly.",
    )


def _budget_axis(axes: Axes, budgets: Sequence[int]) -> None:
    """A logarithmic axis of labels; a method that needs none at all has its place on the left."""
    if any(budget > 0 for budget in budgets):
        logarithmic(axes, budgets, zero=1 / 8, sides=(1.2, 1.2))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))


def _budgets(axes: Axes, points: tuple[BudgetPoint, ...], how: Style, end: int) -> None:
    x = [p.budget for p in points]
    y, low, high = (np.array([getattr(p, k) for p in points]) for k in ("value", "low", "high"))
    if len(points) == 1:  # it needs no more labels: a level line
        x = [*x, end] if end > x[0] else [x[0], x[0]]
        y, low, high = (np.repeat(v, 2) for v in (y, low, high))
    axes.fill_between(x, low, high, color=how.colour, alpha=0.13, lw=0)
    _line(axes, x, y, how)


def crossing_sentence(crossing: Crossing) -> str:
    """What a crossing says, in words."""
    a, b = crossing.method, crossing.reference
    where = _crossed(crossing.low, crossing.high)
    if crossing.budget is None:
        return f"{a} beats {b} significantly at none of the budgets tested{where}."
    return f"{a} first beats {b} significantly with {crossing.budget:,} labelled rows{where}."


def _crossed(low: float | None, high: float | None) -> str:
    """Where the curves cross; nothing where the interval holds all that was tested."""
    if low is None and high is None:
        return ""
    if low is None:
        between = f"at {high:,.0f} or fewer"
    elif high is None:
        between = f"at {low:,.0f} or more"
    else:
        between = f"between {low:,.0f} and {high:,.0f}"
    return f"; the curves cross {between} (95%)"
