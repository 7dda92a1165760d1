"""Numbers as people read them. None, what was not measured, is "n/a"."""

from __future__ import annotations

from llmclf.evaluate.paired import ALPHA, Difference, Estimate

MISSING = "n/a"
METRICS = {
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "mcc": "MCC",
    "nll": "NLL",
    "brier": "Brier score",
    "ece": "ECE",
}
"""Names of the scores."""


def score(value: float) -> str:
    """Three decimals: 0.545."""
    return f"{value:.3f}"


def difference(value: float) -> str:
    """With its sign: +0.065."""
    return f"{value:+.3f}"


def short(value: float) -> str:
    """Without the zero, as papers have it: .545, -.020, 1.000."""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def interval(low: float, high: float) -> str:
    """[.510, .580]"""
    return f"[{short(low)}, {short(high)}]"


def with_interval(estimate: Estimate) -> str:
    """.545 [.510, .580]"""
    return f"{short(estimate.value)} {interval(estimate.low, estimate.high)}"


def p_value(p: float) -> str:
    """p = .81, p = .004, p < .001"""
    if p < 0.001:
        return "p < .001"
    text = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"p = {text.replace('0.', '.', 1)}"


def significant(found: Difference) -> bool:
    """Whether the two methods differ, over all pairs compared: p after Holm below 0.05."""
    return found.p_holm < ALPHA


def amount(value: float) -> str:
    """Three digits, or all before the point: 0.0123, 12.3, 1,235."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def count(value: float) -> str:
    """Three digits and a unit: 22.7M."""
    for factor, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.0f}"


def gibibytes(value: float) -> str:
    """Bytes as GiB: 1.50."""
    return f"{value / 2**30:.2f}"


def times(number: int, what: str) -> str:
    """1 seed, 3 seeds, 1,197 test rows."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def joined(names: list[str], word: str = "and") -> str:
    """a, b and c"""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
