"""The vocabulary of numbers: one text for each kind of value, in every table and sentence.

None, what was not measured, is "n/a" everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmclf.evaluate.holm import ALPHA
from llmclf.evaluate.paired import Difference, Estimate

MISSING = "n/a"
METRICS = {
    "macro_f1": "macro-F1",
    "macro_f1_present": "macro-F1 (present labels)",
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "mcc": "MCC",
    "nll": "NLL",
    "brier": "Brier score",
    "ece": "ECE",
}
"""Names of the scores."""


def score(value: float) -> str:
    """A score with three decimals: 0.545."""
    return f"{value:z.3f}"


def difference(value: float) -> str:
    """A difference with its sign: +0.065."""
    return f"{value:+z.3f}"


def interval(low: float, high: float) -> str:
    """An interval of scores: [0.510, 0.580]."""
    return f"[{score(low)}, {score(high)}]"


def with_interval(estimate: Estimate) -> str:
    """A score with its interval: 0.545 [0.510, 0.580]."""
    return f"{score(estimate.value)} {interval(estimate.low, estimate.high)}"


def with_deviation(mean: float, deviation: float | None) -> str:
    """A score with its deviation: 0.545 ± 0.012, or the mean alone where no deviation is known."""
    return score(mean) if deviation is None else f"{score(mean)} ± {score(deviation)}"


def p_value(p: float) -> str:
    """A p value: 0.810, 0.004, <0.001."""
    return "<0.001" if p < 0.001 else score(p)


def p_is(p: float) -> str:
    """A p value in a sentence: p = 0.810, p < 0.001."""
    return f"p {p_value(p).replace('<', '< ')}" if p < 0.001 else f"p = {p_value(p)}"


def amount(value: float) -> str:
    """An amount with three digits, or all before the point; no exponent: 0.0123, 12.3, 1,235."""
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    return f"{float(text):.12f}".rstrip("0").rstrip(".") if "e" in text else text


def count(value: float) -> str:
    """A count with three digits and a unit: 22.7M."""
    for factor, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.0f}"


def whole(value: float) -> str:
    """A whole number with all digits: 1,234."""
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """A share in per cent: 47%; one decimal below 1% and above 99%."""
    return f"{value:.0%}" if 0.01 <= value <= 0.99 or value in (0, 1) else f"{value:.1%}"


def whole_interval(low: float | None, high: float | None) -> str:
    """An interval of whole numbers: [192, 520], up to 520, from 192; None: the end lies beyond what
    was tested."""
    if low is None or high is None:
        if low == high:
            return MISSING
        return f"from {whole(low)}" if low is not None else f"up to {whole(high or 0)}"
    return f"[{whole(low)}, {whole(high)}]"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the values of a column are, and their text."""

    show: Callable[[Any], str]
    text: bool = False
    """Whether the values are texts, on the left, and not numbers, on the right."""
    pair: tuple[str, ...] = ()
    """Names of the two columns that a pair becomes in CSV."""


TEXT = Kind(show=str, text=True)
PROSE = Kind(show=str, text=True)
"""Kind of texts that may run over several lines."""
SCORE = Kind(show=score)
DIFFERENCE = Kind(show=difference)
P_VALUE = Kind(show=p_value)
AMOUNT = Kind(show=amount)
"""Kind of seconds, hours and prices, in the unit that the title names."""
GIBIBYTES = Kind(show=lambda value: f"{value:.2f}")
COUNT = Kind(show=count)
WHOLE = Kind(show=whole)
SHARE = Kind(show=percent)
INTERVAL = Kind(show=lambda ends: interval(*ends), pair=("low", "high"))
WHOLE_INTERVAL = Kind(show=lambda ends: whole_interval(*ends), pair=("low", "high"))
MEAN = Kind(show=lambda pair: with_deviation(*pair), pair=("mean", "sd"))


def metric_name(metric: str) -> str:
    """What people call a key of results.json."""
    return METRICS.get(metric, metric)


def significant(pair: Difference) -> bool:
    """Whether the two methods differ, over all pairs compared: p after Holm below 0.05."""
    return pair.p_holm < ALPHA


def times(number: int, what: str) -> str:
    """A number of things: 1 seed, 3 seeds, 1,197 test rows."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def joined(names: list[str], word: str = "and") -> str:
    """Names in a sentence: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
