"""Cost against score, and the methods that nothing cheaper beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from llmclf.report.analysis import Analysis
from llmclf.report.figures.draw import Drawn, axis_labels, canvas, finish, logarithmic, say, style
from llmclf.report.figures.svg import MUTED
from llmclf.report.grid import CONFIDENCE, RUN, Column, Grid
from llmclf.report.texts import cut
from llmclf.report.words import AMOUNT, SCORE, amount, metric_name, score


@dataclass(frozen=True)
class Measure:
    """A cost, and what it is called."""

    key: str
    """Name of the field of MethodCost."""
    words: str


def measures(analysis: Analysis) -> tuple[Measure | None, Measure | None, Measure | None]:
    """What training and prediction cost, the price where all methods have one, else time; and what
    one text takes that comes alone. None where no method was measured.
    """
    currency = analysis.config.currency.strip()
    unit = f" in {currency}" if currency else ""
    training = (
        Measure("train_price", f"price of training{unit}"),
        Measure("device_hours", "device-hours of training"),
        Measure("train_seconds", "seconds of training"),
    )
    prediction = (
        Measure("price_per_1000", f"price of 1,000 texts{unit}"),
        Measure("predict_seconds_per_1000", "seconds for 1,000 texts"),
    )
    alone = (Measure("p50_milliseconds", "milliseconds for one text alone (median)"),)
    return _known(analysis, training), _known(analysis, prediction), _known(analysis, alone)


def _known(analysis: Analysis, choices: Sequence[Measure]) -> Measure | None:
    """The first choice that most methods have, by the number of methods that have it."""
    counts = [
        sum(getattr(m.cost, choice.key) is not None for m in analysis.methods) for choice in choices
    ]
    return choices[int(np.argmax(counts))] if max(counts) else None


def front(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Places of the points that no other beats: none is as cheap and better, or as good and
    cheaper. The cheapest first."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i]))
    best, kept = -np.inf, []
    for i in order:
        if scores[i] > best:
            best = scores[i]
            kept.append(i)
    return kept


def pareto(analysis: Analysis, measure: Measure, key: str) -> Drawn:
    """Score over cost with intervals; the front is a line, its methods are filled."""
    stats = analysis.statistics
    methods = [
        (i, m, getattr(m.cost, measure.key), stats.estimates[m.name][stats.metric])
        for i, m in enumerate(analysis.methods)
        if getattr(m.cost, measure.key) is not None
    ]
    costs, scores = [c for _, _, c, _ in methods], [e.value for *_, e in methods]
    on = front(costs, scores)
    figure, axes = canvas(320, right=16, top=28)
    _scale(axes, costs)
    axes.plot([costs[i] for i in on], [scores[i] for i in on], color=MUTED, lw=1,
              drawstyle="steps-post")  # fmt: skip
    for place, (i, _, cost, e) in enumerate(methods):
        how, face = style(i), style(i).colour if place in on else "none"
        axes.plot([cost, cost], [e.low, e.high], color=how.colour, lw=1, alpha=0.6)
        axes.plot([cost], [e.value], how.marker, color=how.colour, mfc=face, ms=8)
    metric = metric_name(stats.metric)
    axis_labels(axes, x=measure.words, y=metric)
    _names(axes, [m.name for _, m, *_ in methods], costs, scores, on)
    names = [methods[i][1].name for i in on]
    return finish(
        figure,
        key,
        f"{metric} against {measure.words}",
        "Methods that nothing cheaper beats: "
        + "; ".join(f"{methods[i][1].name}, {score(scores[i])} at {amount(costs[i])}" for i in on)
        + ".",
        caption="Filled and joined: no method is both cheaper and better. Upright lines: 95% "
        "intervals." + _missing(analysis, len(methods), measure),
        numbers=Grid(
            key,
            f"{metric} and {measure.words}",
            (RUN, Column(measure.words, AMOUNT), Column(metric, SCORE), CONFIDENCE,
             Column("on the front")),
            tuple(
                (m.name, c, e.value, (e.low, e.high), "yes" if m.name in names else "no")
                for _, m, c, e in methods
            ),
        ),
    )  # fmt: skip


def _missing(analysis: Analysis, shown: int, measure: Measure) -> str:
    absent = len(analysis.methods) - shown
    return f" Without {absent} methods whose {measure.words} is not known." if absent else ""


def _scale(axes: Axes, costs: Sequence[float]) -> None:
    """Scale the axis of costs, logarithmic where they span a decade; a cost of nothing has its
    place on the left."""
    positive = [c for c in costs if c > 0]
    low, high = (min(positive), max(positive)) if positive else (0.0, 1.0)
    number = FuncFormatter(lambda x, _: amount(float(f"{x:.3g}")))
    if not positive or high / low < 10:
        axes.set_xlim(min(0.0, min(costs)), high * 1.3)
        axes.margins(y=0.15)
    else:
        logarithmic(axes, costs, zero=1 / 4, sides=(2, 2.5))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(number)


def _names(
    axes: Axes, names: Sequence[str], costs: Sequence[float], scores: Sequence[float], on: list[int]
) -> None:
    """Write each name where it covers no other and no point: right, left, above or below its
    point."""
    axes.autoscale_view()
    points = axes.transData.transform(np.column_stack([costs, scores]))
    frame = axes.get_window_extent()
    taken = [(x - 7, y - 6, x + 7, y + 6) for x, y in points]
    for (x, y), (x_next, y_next) in pairwise(points[on]):
        taken += [(x, y - 2, x_next, y + 2), (x_next - 2, y, x_next + 2, y_next)]
    for i in [*on, *(k for k in range(len(names)) if k not in on)]:
        text = cut(names[i], 20)
        wide, (x, y) = 6.0 * len(text), points[i]
        choices = [(x + 9, y), (x - 9 - wide, y), (x + 7, y + 13), (x - 7 - wide, y + 13)]
        choices += [(x - wide / 2, y + 14), (x - wide / 2, y - 14), (x + 7, y - 13)]
        choices += [(x + k, y + up) for up in (12, -12, 24, -24) for k in (9, -9 - wide)]
        inside = [
            (a, b) for a, b in choices
            if frame.x0 - 4 <= a and a + wide <= frame.x1 + 14 and frame.y0 <= b <= frame.y1 + 4
        ] or choices[:1]  # fmt: skip
        a, b = min(inside, key=lambda at: _covered((at[0], at[1] - 6, at[0] + wide, at[1] + 6),
                                                   taken))  # fmt: skip
        taken.append((a, b - 6, a + wide, b + 6))
        at_x, at_y = axes.transAxes.inverted().transform((a, b))
        weight = "bold" if i in on else "normal"
        say(axes, at_x, at_y, text, transform=axes.transAxes, weight=weight)


def _covered(box: tuple[float, ...], taken: Sequence[tuple[float, ...]]) -> float:
    """Area of ``box`` that others cover."""
    area = 0.0
    for other in taken:
        wide = min(box[2], other[2]) - max(box[0], other[0])
        high = min(box[3], other[3]) - max(box[1], other[1])
        area += max(wide, 0) * max(high, 0)
    return area
