"""Small multiples: confusion matrices and reliability diagrams, one panel a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from llmclf.evaluate.calibration import ReliabilityBin
from llmclf.report.analysis import CalibrationReport
from llmclf.report.figures.draw import Drawn, axis_labels, canvas, finish, panel, say
from llmclf.report.figures.svg import COOL, HEAT, MUTED, PAPER, RULE, SERIES
from llmclf.report.grid import Column, Grid
from llmclf.report.words import SCORE, SHARE, WHOLE, percent, score

MOST_CELLS = 12
"""Labels of a matrix that can be read; of more, the most confused are shown."""
MOST_PAIRS = 15
"""Confusions in the table of a matrix that is cut."""


def shares(confusion: np.ndarray) -> np.ndarray:
    """Each row of counts as shares of it, float64 (C, C); rows without cases are 0."""
    return confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)


def most_confused(confusions: Sequence[np.ndarray]) -> np.ndarray:
    """Places of the labels to show, in class order: all, or the MOST_CELLS with most mistakes.

    Mistakes are counted by row and by column, as shares, over all methods: one choice for all.
    """
    wrong = np.zeros(len(confusions[0]))
    for confusion in confusions:
        off = shares(confusion)
        np.fill_diagonal(off, 0)
        wrong += off.sum(axis=1) + off.sum(axis=0)
    chosen = np.argsort(-wrong, kind="stable")[:MOST_CELLS]
    return np.sort(chosen)


def confusion_matrix(
    name: str, confusion: np.ndarray, labels: Sequence[str], chosen: np.ndarray, key: str
) -> Drawn:
    """Shares of each true label's rows by predicted label. ``confusion``: counts (C, C);
    ``chosen``: places of the labels to show; ``key``: what makes the figure's ids unique in the
    page."""
    part = shares(confusion)
    texts = np.array([[f"{v:.0%}" if v >= 0.005 else "" for v in row] for row in part])
    told = _pairs(confusion, labels)
    true, predicted, share, rows = told[0]
    worst = f"Most confused: {true} taken for {predicted}, {percent(share)} of its rows."
    right = np.trace(confusion) / max(confusion.sum(), 1)
    return _matrix(
        part[np.ix_(chosen, chosen)],
        texts[np.ix_(chosen, chosen)],
        [labels[i] for i in chosen],
        key,
        name,
        f"Confusion matrix of {name}: {percent(right)} of the rows on the diagonal. "
        + (worst if rows else "No row is confused."),
        _commonest(name, told) if len(labels) > MOST_CELLS else None,
    )


def confusion_difference(
    names: tuple[str, str],
    confusions: tuple[np.ndarray, np.ndarray],
    labels: Sequence[str],
    chosen: np.ndarray,
) -> Drawn:
    """Shares of the first method minus those of the second, in percentage points. ``confusions``:
    counts (C, C) of each; ``chosen``: places of the labels to show."""
    part = shares(confusions[0]) - shares(confusions[1])
    texts = np.array([[_points(v) for v in row] for row in part])
    i, j = np.unravel_index(np.abs(part).argmax(), part.shape)
    return _matrix(
        part[np.ix_(chosen, chosen)] / max(np.abs(part).max(), 1e-9),
        texts[np.ix_(chosen, chosen)],
        [labels[k] for k in chosen],
        "confusion-difference",
        f"{names[0]} minus {names[1]}",
        f"Difference of the confusion matrices of {names[0]} and {names[1]}. The largest: "
        f"{labels[i]} taken for {labels[j]}, {_points(part[i, j])} percentage points.",
        None,
        "Percentage points of the true label's rows. On the diagonal plus is better, beside it "
        "minus is.",
    )


def _points(value: float) -> str:
    rounded = round(100 * value)
    return f"{rounded:+d}".replace("-", "\u2212") if rounded else "0"


def _matrix(
    part: np.ndarray,
    texts: np.ndarray,
    labels: Sequence[str],
    key: str,
    title: str,
    description: str,
    numbers: Grid | None,
    caption: str = "",
) -> Drawn:
    """Cells shaded by share: blue above 0, orange below; the number says it, too."""
    size, few = len(labels), len(labels) <= 4
    width = 300.0 if few else 420.0
    left = 84.0 if few else 100.0
    right = 8.0 if few else 36.0
    side = width - left - right
    # The names above stand aslant where they would touch.
    above = 34.0 if few else 84.0
    figure, axes = canvas(
        side * (0.62 if few else 0.8) + above + 8, width=width, left=left, right=right, top=above,
        bottom=8,
    )  # fmt: skip
    axes.grid(False)
    axes.set(xlim=(0, size), ylim=(size, 0), xticks=[], yticks=[])
    axes.spines["bottom"].set_visible(False)
    axes.add_artist(Rectangle((0, 0), size, size, facecolor=HEAT, alpha=0.05, lw=0))
    for i, j in np.argwhere(texts != ""):
        colour = HEAT if part[i, j] >= 0 else COOL
        # add_artist: the limits stand, and keeping track of them takes most of the time.
        axes.add_artist(Rectangle((j, i), 1, 1, fc=colour, alpha=0.7 * abs(part[i, j]), lw=0))
        say(axes, j + 0.5, i + 0.52, texts[i, j], ha="center", fontsize=11 if few else 9,
            weight="bold" if i == j else "normal")  # fmt: skip
    axes.hlines(range(size + 1), 0, size, color=PAPER, lw=1.5)
    axes.vlines(range(size + 1), 0, size, color=PAPER, lw=1.5)
    for i in range(size):
        _label(axes, i, labels[i], few, size)
    say(axes, -left / side, -0.04, "true ↓", transform=axes.get_yaxis_transform(), color=MUTED,
        fontsize=9, va="bottom")  # fmt: skip
    if few:
        say(axes, 0, -0.34 if size < 3 else -0.5, "predicted →", color=MUTED, fontsize=9)
    return finish(figure, key, title, description, caption=caption, numbers=numbers)


def _label(axes: Axes, i: int, label: str, few: bool, size: int) -> None:
    across = axes.get_yaxis_transform()
    say(axes, -0.02, i + 0.52, label, most=13 if few else 16, transform=across, ha="right")
    if few:
        say(axes, i + 0.5, -0.05, label, most=max(36 // size, 7), ha="center", va="bottom")
    else:
        say(axes, i + 0.4, -0.15, label, most=14, rotation=45, va="bottom", ha="left",
            rotation_mode="anchor")  # fmt: skip


def _pairs(confusion: np.ndarray, labels: Sequence[str]) -> list[tuple[str, str, float, int]]:
    """True, predicted, share and rows of the commonest mistakes."""
    off = shares(confusion)
    np.fill_diagonal(off, -1)
    order = np.argsort(-off, axis=None, kind="stable")[:MOST_PAIRS]
    places = [np.unravel_index(k, off.shape) for k in order]
    return [
        (labels[i], labels[j], float(off[i, j]), int(confusion[i, j]))
        for i, j in places
        if off[i, j] >= 0
    ] or [(labels[0], labels[0], 0.0, 0)]


def _commonest(name: str, pairs: list[tuple[str, str, float, int]]) -> Grid:
    columns = (Column("true"), Column("predicted"), Column("of its rows", SHARE))
    title = f"The {len(pairs)} commonest confusions of {name}"
    return Grid("commonest", title, (*columns, Column("rows", WHOLE)), tuple(pairs))


def reliability(name: str, report: CalibrationReport, key: str) -> Drawn:
    """Accuracy over confidence before and after the temperature, with the rows of each bin."""
    figure, axes = canvas(310, width=300, left=40, right=10, top=48, bottom=92)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (2, 3)))
    kinds = ((report.before, SERIES[1], "s", "none"), (report.after, SERIES[0], "o", SERIES[0]))
    for (bins, colour, marker, face), dashes in zip(kinds, ((0, (4, 2)), "-"), strict=True):
        firm = [b for b in bins if not _thin(b, bins)]
        for part, look in ((firm, dashes), (bins, "none")):
            x, y = [b.confidence for b in part], [b.accuracy for b in part]
            axes.plot(x, y, color=colour, ls=look, lw=1.5, marker=marker, ms=5, mfc=face,
                      clip_on=False)  # fmt: skip
    for k, text in enumerate(("before", "after")):  # above the panel, where no curve passes
        left, up, (_, colour, marker, face) = 0.02 + 0.5 * k, 1.2, kinds[k]
        axes.plot([left], [up], marker, color=colour, mfc=face, ms=5, clip_on=False)
        say(axes, left + 0.04, up, f"{text}: ECE {score(report.scores['ece'][k])}")
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[])
    axis_labels(axes, y="share right")
    _bin_counts(figure, report)
    ece = report.scores["ece"]
    told = f"temperature {report.temperature:.2f}"
    thin = any(_thin(b, bins) for bins in (report.before, report.after) for b in bins)
    return finish(
        figure,
        key,
        name,
        f"Reliability of {name}: expected calibration error {score(ece[0])} before and "
        f"{score(ece[1])} after a {told}.",
        caption=f"T = {report.temperature:.2f}"
        + (". Apart from the line: fewer than 1% of the decisions." if thin else ""),
        numbers=_bins(name, report),
    )


def _thin(one: ReliabilityBin, bins: Sequence[ReliabilityBin]) -> bool:
    """Whether a bin holds too few decisions to tell a share by."""
    return one.count < 0.01 * sum(b.count for b in bins)


def _bin_counts(figure: Figure, report: CalibrationReport) -> None:
    bars = panel(figure, 40, 40, 250, 44)
    total = max(sum(b.count for b in report.after), 1)
    for bins, colour, filled in (
        (report.before, SERIES[1], False),
        (report.after, SERIES[0], True),
    ):
        for b in bins:
            look: dict[str, Any] = {"fill": False, "edgecolor": colour, "lw": 0.9}
            if filled:
                look = {"facecolor": colour, "alpha": 0.5, "lw": 0}
            width = b.high - b.low - 0.008
            bars.add_patch(Rectangle((b.low + 0.004, 0), width, b.count / total, **look))
    top = max([b.count for b in report.before + report.after], default=1) / total
    bars.set(xlim=(0, 1), ylim=(0, top * 1.05), yticks=[0, top])
    bars.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0%}"))
    bars.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    bars.grid(axis="y", color=RULE)
    axis_labels(bars, x="confidence; bars: share of decisions")


def _bins(name: str, report: CalibrationReport) -> Grid:
    columns = (
        Column("when"), Column("bin"), Column("decisions", WHOLE),
        Column("mean confidence", SCORE), Column("share right", SCORE),
    )  # fmt: skip
    rows = tuple(
        (when, f"{b.low:.2f}\u2013{b.high:.2f}", b.count, b.confidence, b.accuracy)
        for when, bins in (("before", report.before), ("after", report.after))
        for b in bins
    )
    return Grid("bins", f"Bins of confidence, {name}", columns, rows)
