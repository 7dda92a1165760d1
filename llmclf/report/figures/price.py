"""Cost against score, and the methods that nothing cheaper beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from llmclf.evaluate.paired import Estimate
from llmclf.report.analysis import Analysis
from llmclf.report.figures.draw import Drawn, axis_labels, canvas, finish, logarithmic, say, style
from llmclf.report.figures.svg import MUTED
from llmclf.report.grid import CONFIDENCE, RUN, Column, Grid
from llmclf.report.texts import cut
from llmclf.report.words import AMOUNT, SCORE, amount, metric_name, score

LETTER, MOST_LETTERS = 6.0, 20
"""Width of a letter of a name, and how many are shown."""
FAR, NEARER = 14.0, 3.0
"""Names farther than this from their point, or no more than this nearer to it than to another one,
get a line to it; in points of the page."""
Box = tuple[float, float, float, float]
"""Left, bottom, right and top."""


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
    _names(axes, [m.name for _, m, *_ in methods], costs, [e for *_, e in methods], on)
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
    methods = "a method" if absent == 1 else f"{absent} methods"
    return f" Without {methods} whose {measure.words} is not known." if absent else ""


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
    axes: Axes, names: Sequence[str], costs: Sequence[float], scores: Sequence[Estimate],
    on: list[int],
) -> None:  # fmt: skip
    """Write the name of each point beside it."""
    axes.autoscale_view()
    points, lows, highs = (
        axes.transData.transform(np.column_stack([costs, values]))
        for values in zip(*((e.value, e.low, e.high) for e in scores), strict=True)
    )
    frame, texts = axes.get_window_extent(), [cut(name, MOST_LETTERS) for name in names]
    upright = [(x - 1, low, x + 1, high) for (x, low), (_, high) in zip(lows, highs, strict=True)]
    boxes = places(texts, points, upright, on, (frame.x0, frame.y0, frame.x1, frame.y1))
    for i, (left, bottom, _, top) in enumerate(boxes):
        at_x, at_y = axes.transAxes.inverted().transform((left, (bottom + top) / 2))
        if apart(boxes[i], points[i], np.delete(points, i, axis=0)):
            ends = [points[i], np.clip(points[i], boxes[i][:2], boxes[i][2:])]
            across, up = axes.transAxes.inverted().transform(ends).T
            axes.plot(across, up, color=MUTED, lw=0.6, transform=axes.transAxes)
        weight = "bold" if i in on else "normal"
        say(axes, at_x, at_y, names[i], most=MOST_LETTERS, transform=axes.transAxes, weight=weight)


def places(
    texts: Sequence[str],
    points: np.ndarray,
    upright: Sequence[Box],
    on: Sequence[int],
    frame: Box,
) -> list[Box]:
    """Where each text goes: near its point, where it covers the least of points, lines and other
    texts, and nearer to its own point than to any other.

    ``points``: float64 (N, 2); ``upright``: their intervals; ``on``: those that a line of steps
    joins, in order; all in points of the page.
    """
    taken: list[Box] = [(x - 7, y - 6, x + 7, y + 6) for x, y in points]
    taken += upright
    for (x, y), (x_next, y_next) in pairwise(points[list(on)]):
        taken += [(x, y - 2, x_next, y + 2), (x_next - 2, y, x_next + 2, y_next)]
    boxes: dict[int, Box] = {}
    for i in [*on, *(k for k in range(len(texts)) if k not in on)]:
        around = _around(points[i], LETTER * len(texts[i]))
        inside = [
            box for box in around
            if frame[0] - 4 <= box[0] and box[2] <= frame[2] + 14
            and frame[1] <= box[1] and box[3] <= frame[3] + 8
        ] or around[:1]  # fmt: skip
        others = np.delete(points, i, axis=0)
        boxes[i] = min(inside, key=lambda box: _badness(box, points[i], others, taken))
        taken.append(boxes[i])
    return [boxes[i] for i in range(len(texts))]


def _around(point: np.ndarray, wide: float) -> list[Box]:
    """Boxes of a text around a point, to its right first, the farther ones last."""
    boxes = []
    for far in (9.0, 18.0, 30.0, 44.0):
        for turn in (0, 8, 2, 6, 14, 10, 4, 12, 1, 7, 15, 9, 3, 5, 13, 11):
            across, up = far * np.cos(np.pi * turn / 8), far * np.sin(np.pi * turn / 8)
            left = across - wide / 2 if abs(across) < 4 else across - wide * (across < 0)
            middle = up + np.sign(round(up, 6)) * min(5.0, abs(up))
            x, y = point[0] + left, point[1] + middle
            boxes.append((x, y - 6, x + wide, y + 6))
    return boxes


def _badness(box: Box, own: np.ndarray, others: np.ndarray, taken: Sequence[Box]) -> float:
    """What speaks against a place: what it covers, other points beside it, how far it is."""
    away = distance(box, own)
    nearer = sum(distance(box, other) < away + NEARER for other in others)
    return _covered(box, taken) + 200.0 * nearer + 2.0 * away


def apart(box: Box, own: np.ndarray, others: np.ndarray) -> bool:
    """Whether a text needs a line to its point: it is far, or beside another one."""
    away = distance(box, own)
    return away > FAR or any(distance(box, other) < away + NEARER for other in others)


def distance(box: Box, point: np.ndarray) -> float:
    """From a point to the nearest place of a box."""
    x = max(box[0] - point[0], 0, point[0] - box[2])
    y = max(box[1] - point[1], 0, point[1] - box[3])
    return float(np.hypot(x, y))


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """Area of ``box`` that others cover."""
    area = 0.0
    for other in taken:
        wide = min(box[2], other[2]) - max(box[0], other[0])
        high = min(box[3], other[3]) - max(box[1], other[1])
        area += max(wide, 0) * max(high, 0)
    return area
