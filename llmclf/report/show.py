"""Numbers and foreign texts as a reader sees them."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

from llmclf.report import words

MISSING = "\u2013"
"""An en dash: not known."""
_STEERING = re.compile("[\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff\x00-\x1f\x7f-\x9f]")
_SPACE = re.compile(r"\s+")


def visible(text: object, most: int = 400) -> str:
    """One line of text that neither XML refuses nor that turns the direction of what follows.

    White space becomes a space, other control characters become U+FFFD; beyond ``most``
    characters the text is cut, and how long it was is said.
    """
    line = _STEERING.sub("\ufffd", _SPACE.sub(" ", str(text)))
    if len(line) <= most:
        return line
    return f"{line[:most]}… ({len(line):,} characters)"


def short(text: object, most: int) -> str:
    """The same for a figure: cut to the width of ``most`` usual letters, then an ellipsis."""
    line = visible(text, 10 * most)
    widths = list(accumulate(map(_width, line)))
    if not line or widths[-1] <= most:
        return line
    return line[: bisect_right(widths, most - 1)].rstrip() + "\u2026"


def _width(character: str) -> float:
    """In usual letters, roughly."""
    if unicodedata.east_asian_width(character) in "WF":
        return 1.9
    return 1.6 if character in "MW@%\ufffd" else 1.25 if character.isupper() else 1.0


def known(value: float | None, show: Callable[[float], str]) -> str:
    """``show(value)``, or a dash for None."""
    return MISSING if value is None else show(value)


def score(value: float | None) -> str:
    """Three decimals: 0.912."""
    return known(value, words.score)


def signed(value: float | None) -> str:
    """A difference of scores, with a real minus sign."""
    return known(value, words.difference).replace("-", "\u2212")


def percent(value: float | None) -> str:
    """A share as a whole percentage; one decimal below 1% and above 99%."""
    if value is None:
        return MISSING
    return f"{value:.0%}" if 0.01 <= value <= 0.99 or value in (0, 1) else f"{value:.1%}"


def amount(value: float | None) -> str:
    """Three digits, thousands separated, no exponent: 1,230, 45.6, 0.00123."""
    if value is None:
        return MISSING
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if "e" in text else text


def count(value: float | None) -> str:
    """Three digits and a unit: 22.7M."""
    return known(value, words.count)


def duration(seconds: float | None) -> str:
    """In the unit that suits: 850 ms, 42 s, 12.3 min, 3.4 h."""
    if seconds is None:
        return MISSING
    for limit, factor, unit in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / factor:.3g} {unit}"
    return f"{amount(seconds / 3600)} h"


def memory(value: float | None) -> str:
    """Bytes as GiB."""
    return known(value, words.gibibytes)


def p_value(value: float | None) -> str:
    """Three decimals, or "<0.001"."""
    if value is None:
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """The ends of an interval of scores."""
    return MISSING if low is None or high is None else f"{score(low)} to {score(high)}"


def span(low: object, high: object) -> str:
    """Two ends joined by an en dash."""
    return f"{low}\u2013{high}"


def metric_name(metric: str) -> str:
    """What people call a key of results.json."""
    return words.METRICS.get(metric, visible(metric, 30))
