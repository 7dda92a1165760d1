"""What comes of a prompted run: predictions, every way of calibrating beside the raw likelihoods,
and how far wordings, demonstrations and orders spread.

N: rows, C: labels.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from llmclf.data.corpus import Split
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score
from llmclf.prompt.ask import Variant
from llmclf.prompt.calibrate import KINDS, Likelihoods, mass, probabilities
from llmclf.prompt.config import Calibration
from llmclf.prompt.injection import steered

SHOWN = ("macro_f1", "accuracy", "nll", "ece")
NAMES: dict[Calibration, str] = {
    "none": "raw",
    "mean": "per token",
    "pmi": "pmi",
    "contextual": "contextual",
    "batch": "batch",
}


@dataclass(frozen=True, kw_only=True)
class VariantScores:
    """Log-likelihoods of all parts of a variant."""

    variant: Variant
    parts: dict[str, np.ndarray]
    """Part -> nats, float64 (N, C)."""
    tokens: dict[str, np.ndarray]
    """Part -> tokens of each answer, int64 (N, C)."""

    def probabilities(self, part: str, kind: Calibration) -> np.ndarray:
        """Probabilities of the labels, float64 (N, C)."""
        found = Likelihoods(
            rows_NC=self.parts[part],
            tokens_NC=self.tokens[part],
            premise_C=self.parts["premise"][0],
            content_free_KC=self.parts["content_free"],
            reference_MC=self.parts["reference"],
        )
        return probabilities(kind, found)

    def predictions(
        self, part: str, kind: Calibration, split: Split, labels: tuple[str, ...]
    ) -> Predictions:
        """Predictions of one part."""
        return Predictions(
            ids=split.ids,
            labels=labels,
            targets=split.targets,
            probabilities=self.probabilities(part, kind),
            scored_by=f"label log-likelihood, {NAMES[kind]}",
        )


def outcome(
    scored: Sequence[VariantScores], kind: Calibration, test: Split, labels: tuple[str, ...]
) -> dict[str, Any]:
    """The ``prompt`` object of results.json: scores of each variant under each calibration, their
    spread, the mass on the answers, and what attacks did."""
    rows: list[dict[str, Any]] = []
    for one in scored:
        masses = mass(one.parts["test"])
        scores = {k: score(one.predictions("test", k, test, labels)) for k in KINDS}
        rows.append(
            {
                "template": one.variant.template,
                "seed": one.variant.draw.seed,
                "order": one.variant.draw.order,
                "mass": {
                    "mean": float(masses.mean()),
                    "median": float(np.median(masses)),
                    "below_half": float((masses < 0.5).mean()),
                },
                "scores": {k: {name: s[name] for name in SHOWN} for k, s in scores.items()},
            }
        )
    found: dict[str, Any] = {"calibration": kind, "variants": rows}
    found["spread"] = {
        k: {name: spread([row["scores"][k][name] for row in rows]) for name in SHOWN} for k in KINDS
    }
    injected = injection(scored[0], kind)
    return found | ({"injection": injected} if injected else {})


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, standard deviation (n - 1; None for one value) and range."""
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
    }


def injection(one: VariantScores, kind: Calibration) -> dict[str, Any]:
    """Attack -> how many rows it steered to the label it asked for."""
    clean = one.probabilities("test", kind).argmax(axis=1)
    return {
        name: steered(
            clean[attacked.rows], one.probabilities(name, kind).argmax(axis=1), attacked.targets
        )
        for name, attacked in one.variant.attacked.items()
    }


def score_table(found: dict[str, Any]) -> Table:
    """A line for each way of calibrating."""
    variants = found["variants"]
    table = Table(box=None, title="scores on the test rows", title_justify="left")
    table.add_column("calibration", no_wrap=True)
    for name in ("macro-F1", "accuracy", "NLL", "ECE", "mean", "sd", "min", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind in KINDS:
        if kind not in found["spread"]:
            continue
        scores, over = variants[0]["scores"][kind], found["spread"][kind]["macro_f1"]
        table.add_row(
            NAMES[kind] + (" *" if kind == found["calibration"] else ""),
            *(f"{scores[name]:.3f}" for name in SHOWN),
            f"{over['mean']:.3f}",
            "" if over["sd"] is None else f"{over['sd']:.3f}",
            f"{over['min']:.3f}",
            f"{over['max']:.3f}",
            style="bold" if kind == found["calibration"] else "",
        )
    table.caption = (
        "* the run's result. macro-F1 to ECE: of the first prompt;\n"
        f"mean to max: macro-F1 over all {len(variants)} prompts"
    )
    return table


def variant_table(found: dict[str, Any]) -> Table:
    """A line for each prompt."""
    kind = found["calibration"]
    table = Table(box=None, title="prompts", title_justify="left")
    table.add_column("template")
    for name in ("seed", "order", "F1 raw", f"F1 {NAMES[kind]}", "mass", "mass < 0.5"):
        table.add_column(name, justify="right")
    for row in found["variants"]:
        scores = row["scores"]
        table.add_row(
            row["template"],
            str(row["seed"]),
            str(row["order"]),
            f"{scores['none']['macro_f1']:.3f}",
            f"{scores[kind]['macro_f1']:.3f}",
            f"{row['mass']['mean']:.3f}",
            f"{row['mass']['below_half']:.1%}",
        )
    table.caption = (
        "F1: macro-F1. Mass: probability that the model answers with a label at all, mean;\n"
        "mass < 0.5: rows where it would rather write something else"
    )
    return table


def injection_table(found: dict[str, Any]) -> Table:
    """A line for each attack."""
    table = Table(box=None, title="instructions hidden in the text", title_justify="left")
    table.add_column("attack")
    for name in ("rows", "steered", "rate"):
        table.add_column(name, justify="right")
    for name, row in found["injection"].items():
        rate = "n/a" if row["rate"] is None else f"{row['rate']:.1%}"
        table.add_row(name, f"{row['rows']:,}", f"{row['steered']:,}", rate)
    table.caption = "steered: answered with the label that the attack asks for, and not without it"
    return table
