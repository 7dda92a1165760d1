"""What all figures share: canvas, colours, markers, labels that do not overlap.

Lengths are in points; a figure of WIDTH fills a telephone's screen or half of a desk's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from llmclf.report.figures.svg import INK, MUTED, RULE, SERIES, svg
from llmclf.report.grid import Grid
from llmclf.report.texts import cut, visible

WIDTH = 420.0
FONT, SMALL = 11.0, 10.0
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 2)))


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure of the page."""

    svg: str
    title: str
    caption: str
    """How to read the figure."""
    numbers: Grid | None = None
    """Numbers that the figure shows; None where they stand in a table next to it."""
    wide: bool = False
    """Whether the figure needs the page's whole width."""


@dataclass(frozen=True)
class Style:
    """How a method is told apart: by colour, marker and dashes together."""

    colour: str
    marker: str
    dashes: Any


def style(place: int) -> Style:
    """Style of the method at ``place``; all three repeat only after hundreds of methods."""
    return Style(
        SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)]
    )


def canvas(
    height: float,
    *,
    width: float = WIDTH,
    left: float = 44,
    right: float = 12,
    top: float = 14,
    bottom: float = 40,
) -> tuple[Figure, Axes]:
    """One panel with fixed margins, so that figures of one kind line up. All lengths are in points;
    ``left`` to ``bottom`` are the margins."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    return figure, panel(figure, left, bottom, width - left - right, height - top - bottom)


def panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in points, without a frame, with faint horizontal lines."""
    across, up = figure.get_size_inches() * 72
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(MUTED)
        spine.set_linewidth(0.8)
    axes.tick_params(labelsize=SMALL, labelcolor=MUTED, color=MUTED, length=3, width=0.8, pad=4)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(which="minor", length=0, labelsize=0.1, labelcolor="none")
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def say(axes: Axes, x: float, y: float, text: str, *, most: int | None = None, **how: Any) -> Any:
    """Write text at x and y as it is: matplotlib would take two dollar signs for a formula.

    ``most``: letters it may take; a longer text is cut, and whole where a reader points at it.
    ``how``: options of matplotlib's text.
    """
    how = {"fontsize": SMALL, "color": INK, "va": "center", "parse_math": False, **how}
    shown = text if most is None else cut(text, most)
    return axes.text(x, y, shown, label=text if shown != text else "", **how)


def axis_labels(axes: Axes, x: str = "", y: str = "") -> None:
    """Name the axes: x below, y level above the top left corner."""
    x, y = visible(x, 90), visible(y, 60)
    axes.set_xlabel(x, fontsize=SMALL, color=MUTED, labelpad=5, parse_math=False)
    if y:
        at: dict[str, Any] = {
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "xytext": (0, 8),
        }
        axes.annotate(y, (0, 1), fontsize=SMALL, color=MUTED, parse_math=False, **at)


def logarithmic(
    axes: Axes, values: Sequence[float], *, zero: float, sides: tuple[float, float]
) -> None:
    """Scale x by powers of ten, from the lowest value over ``sides[0]`` to the highest one times
    ``sides[1]``. A value of nothing has its place on the left, ``zero`` of the lowest other one
    from the edge."""
    positive = [value for value in values if value > 0]
    low, high = min(positive), max(positive) * sides[1]
    if min(values) > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / sides[0], high)
    else:
        axes.set_xscale("symlog", linthresh=low)
        axes.set_xlim(-low * zero, high)
    axes.xaxis.set_major_locator(FixedLocator(decades(values)))


def decades(values: Sequence[float]) -> list[float]:
    """Ticks of a logarithmic axis: at most eight powers of ten around the values, not all of which
    may be 0, and 0 itself where it is among them."""
    positive = np.log10([value for value in values if value > 0])
    powers = np.arange(np.floor(positive.min()), np.ceil(positive.max()) + 1)
    kept = [float(10.0**p) for p in powers[:: len(powers) // 8 + 1]]
    return [0.0] * (min(values) <= 0) + kept


def finish(
    figure: Figure,
    key: str,
    title: str,
    description: str,
    *,
    caption: str = "",
    numbers: Grid | None = None,
    wide: bool = False,
) -> Drawn:
    """The figure as text, with its alternative in words and its numbers. ``key``: what makes its
    ids unique in the page; ``description``: what a reader is told who does not see it."""
    text = svg(figure, key, visible(title, 200), visible(description, 2000))
    return Drawn(svg=text, title=title, caption=caption, numbers=numbers, wide=wide)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Places moved as little as needed to lie ``gap`` apart within low and high, order kept."""
    order = np.argsort(places, kind="stable")
    gap = min(gap, (high - low) / max(len(order) - 1, 1))
    moved = np.asarray(places, dtype=np.float64)[order]
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    moved -= max(moved[-1] - high, 0) if len(moved) else 0
    for i in range(len(moved) - 2, -1, -1):
        moved[i] = min(moved[i], moved[i + 1] - gap)
    if len(moved) and moved[0] < low:
        moved[0] = low
        for i in range(1, len(moved)):
            moved[i] = max(moved[i], moved[i - 1] + gap)
    result = np.empty_like(moved)
    result[order] = moved
    return result


def label_ends(
    axes: Axes, names: Sequence[str], ends: Sequence[tuple[float, float]], styles: Sequence[Style]
) -> None:
    """Name each line to the right of the panel, with a thin line to where it ends. ``ends``: x and
    y of the last point of each line."""
    if not names:
        return
    bottom, top = axes.get_ylim()
    height = axes.get_window_extent().height
    y = spread([end[1] for end in ends], 13.0 * (top - bottom) / height, bottom, top)
    to_axes = axes.transAxes.inverted()
    for name, end, at, how in zip(names, ends, y, styles, strict=True):
        x_end, y_end = to_axes.transform(axes.transData.transform(end))
        up = (at - bottom) / (top - bottom)
        whole: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        axes.plot([x_end, 1.03], [y_end, up], color=how.colour, lw=0.7, alpha=0.6, **whole)
        axes.plot([1.045], [up], how.marker, color=how.colour, ms=5, **whole)
        say(axes, 1.07, up, name, most=17, transform=axes.transAxes)


def key_rows(figure: Figure, names: Sequence[str], styles: Sequence[Style], top: float) -> None:
    """Marker and name of each method in rows of two, below ``top`` points from the upper edge."""
    across, up = figure.get_size_inches() * 72
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, across), ylim=(0, up))
    axes.axis("off")
    for i, (name, how) in enumerate(zip(names, styles, strict=True)):
        x, y = 8 + (i % 2) * across / 2, up - top - 15 * (i // 2)
        axes.plot([x], [y], how.marker, color=how.colour, ms=6, clip_on=False)
        say(axes, x + 9, y, name, most=28)
