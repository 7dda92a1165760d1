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
from llmclf.prompt.calibrate import KINDS, Likelihoods, mass, probabilities
from llmclf.prompt.config import PromptCalibration
from llmclf.prompt.injection import steered
from llmclf.prompt.variants import Variant

SHOWN = ("macro_f1", "accuracy", "nll", "ece")
NAMES: dict[str, str] = {
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
    choices: dict[str, np.ndarray] | None = None
    """Part -> index of the answer that was written, -1 for none of them, int64 (N); None where
    there are log-likelihoods instead."""

    @property
    def kinds(self) -> tuple[PromptCalibration, ...]:
        """The calibrations that can be had: written answers have no likelihoods."""
        return KINDS if self.choices is None else ("none",)

    def kind(self, wanted: PromptCalibration) -> PromptCalibration:
        """The wanted calibration, or the one that there is."""
        return wanted if wanted in self.kinds else "none"

    def chosen(self, part: str, kind: PromptCalibration) -> np.ndarray:
        """Index of each row's label, -1 for none, int64 (N)."""
        if self.choices is not None:
            return self.choices[part]
        return self.probabilities(part, kind).argmax(axis=1)

    def probabilities(self, part: str, kind: PromptCalibration) -> np.ndarray:
        """Probabilities of the labels, float64 (N, C)."""
        likelihoods = Likelihoods(
            rows_NC=self.parts[part],
            tokens_NC=self.tokens[part],
            premise_C=self.parts["premise"][0],
            content_free_KC=self.parts["content_free"],
            reference_MC=self.parts["reference"],
        )
        return probabilities(kind, likelihoods)

    def predictions(
        self, part: str, kind: PromptCalibration, split: Split, labels: tuple[str, ...]
    ) -> Predictions:
        """Predictions of one part. A written answer has probability 1; a row without one has the
        same for all labels, and counts as wrong.

        ``part``: purpose of the rows, such as test; ``kind``: the calibration; ``split``: the rows.
        """
        invalid, scored_by = None, f"label log-likelihood, {NAMES[kind]}"
        if self.choices is None:
            probabilities = self.probabilities(part, kind)
        else:
            choices, scored_by = self.choices[part], "written answer"
            invalid = choices < 0
            probabilities = np.eye(len(labels))[choices]
            probabilities[invalid] = 1 / len(labels)
        return Predictions(
            ids=split.ids,
            labels=labels,
            targets=split.targets,
            probabilities=probabilities,
            scored_by=scored_by,
            invalid=invalid,
        )


def outcome(
    scored: Sequence[VariantScores], kind: PromptCalibration, test: Split, labels: tuple[str, ...]
) -> dict[str, Any]:
    """The ``prompt`` object of results.json: scores of each variant under each calibration, their
    spread, the mass on the answers or the rate of invalid ones, and what attacks did.

    ``kind``: the calibration of the run's result; ``test``: the rows that were scored.
    """
    kinds = scored[0].kinds
    rows: list[dict[str, Any]] = []
    for one in scored:
        scores = {k: score(one.predictions("test", k, test, labels)) for k in kinds}
        row: dict[str, Any] = {
            "template": one.variant.template,
            "seed": one.variant.draw.seed,
            "order": one.variant.draw.order,
            "mass": None,
            "invalid_rate": 0.0,
            "scores": {k: {name: s[name] for name in SHOWN} for k, s in scores.items()},
        }
        if one.choices is None:
            masses = mass(one.parts["test"])
            row["mass"] = {
                "mean": float(masses.mean()),
                "median": float(np.median(masses)),
                "below_half": float((masses < 0.5).mean()),
            }
        else:
            row["invalid_rate"] = float((one.choices["test"] < 0).mean())
        rows.append(row)
    facts: dict[str, Any] = {"calibration": kind, "variants": rows}
    facts["spread"] = {
        k: {name: spread([row["scores"][k][name] for row in rows]) for name in SHOWN} for k in kinds
    }
    injected = injection(scored[0], kind)
    return facts | ({"injection": injected} if injected else {})


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, standard deviation (n - 1; None for one value) and range."""
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
    }


def injection(one: VariantScores, kind: PromptCalibration) -> dict[str, Any]:
    """What attacks did: attack -> how many rows it steered to the label it asked for."""
    clean = one.chosen("test", kind)
    return {
        name: steered(clean[attacked.rows], one.chosen(name, kind), attacked.targets)
        for name, attacked in one.variant.attacked.items()
    }


def tables(facts: dict[str, Any]) -> list[Table]:
    """Tables of the ``prompt`` object for a terminal of 80 columns."""
    shown = [score_table(facts), variant_table(facts)]
    return shown + ([injection_table(facts)] if "injection" in facts else [])


def score_table(facts: dict[str, Any]) -> Table:
    """Scores on the test rows, a line for each way of calibrating."""
    variants = facts["variants"]
    table = _table("scores on the test rows", ("calibration",))
    for name in ("macro-F1", "accuracy", "NLL", "ECE", "mean", "sd", "min", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind, over in facts["spread"].items():
        scores, f1 = variants[0]["scores"][kind], over["macro_f1"]
        chosen = kind == facts["calibration"]
        table.add_row(
            NAMES[kind] + (" *" if chosen else ""),
            *(f"{scores[name]:.3f}" for name in SHOWN),
            *("" if f1[name] is None else f"{f1[name]:.3f}" for name in ("mean", "sd")),
            *(f"{f1[name]:.3f}" for name in ("min", "max")),
            style="bold" if chosen else "",
        )
    table.caption = (
        "* the run's result. macro-F1 to ECE: of the first prompt;\n"
        f"mean to max: macro-F1 over {len(variants)} prompts"
    )
    return table


def variant_table(facts: dict[str, Any]) -> Table:
    """Scores of the prompts, a line for each."""
    kind = facts["calibration"]
    table = _table("prompts", ("template",))
    names = ["seed", "order", "macro-F1 raw"]
    names += [] if kind == "none" else [f"macro-F1 {NAMES[kind]}"]
    likelihoods = facts["variants"][0]["mass"] is not None
    for name in (*names, *(("mass", "mass < 0.5") if likelihoods else ("invalid",))):
        table.add_column(name, justify="right", no_wrap=True)
    for row in facts["variants"]:
        f1 = [row["scores"][k]["macro_f1"] for k in dict.fromkeys(("none", kind))]
        cells = [str(row["seed"]), str(row["order"]), *(f"{value:.3f}" for value in f1)]
        if likelihoods:
            cells += [f"{row['mass']['mean']:.3f}", f"{row['mass']['below_half']:.1%}"]
        else:
            cells.append(f"{row['invalid_rate']:.1%}")
        table.add_row(row["template"], *cells)
    table.caption = (
        "mass: probability that the model answers with a label at all;\n"
        "mass < 0.5: rows where it would rather write something else"
        if likelihoods
        else "invalid: rows whose answer is none of the labels; they count as wrong"
    )
    return table


def injection_table(facts: dict[str, Any]) -> Table:
    """What instructions hidden in the text did, a line for each attack."""
    table = _table("instructions hidden in the text", ("attack",))
    for name in ("rows", "steered", "rate"):
        table.add_column(name, justify="right")
    for name, row in facts["injection"].items():
        rate = "n/a" if row["rate"] is None else f"{row['rate']:.1%}"
        table.add_row(name, f"{row['rows']:,}", f"{row['steered']:,}", rate)
    table.caption = "steered: given the label that the attack asks for, and not without it"
    return table


def _table(title: str, names: Sequence[str]) -> Table:
    table = Table(
        box=None, title=f"\n{title}", title_justify="left", title_style="bold",
        caption_justify="left", padding=(0, 2, 0, 0),
    )  # fmt: skip
    for name in names:
        table.add_column(name, no_wrap=True)
    return table
