"""All that a report shows, as plain values: computed once, rendered elsewhere.

N: test rows, C: labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llmclf.evaluate.calibration import Coverage, ReliabilityBin
from llmclf.evaluate.errors import ConfidentError, LengthBucket, SeenRows, SuspectLabel
from llmclf.evaluate.paired import Statistics
from llmclf.report.config import ReportConfig


@dataclass(frozen=True, kw_only=True)
class MethodCost:
    """Cost of a method, mean over its runs; None where a run did not measure it."""

    train_seconds: float | None = None
    device_hours: float | None = None
    """Devices times hours that training took."""
    predict_seconds_per_1000: float | None = None
    rows_per_second: float | None = None
    p50_milliseconds: float | None = None
    """Median time of one row that comes alone."""
    p99_milliseconds: float | None = None
    peak_memory_bytes: float | None = None
    total_parameters: float | None = None
    trainable_parameters: float | None = None
    train_watt_hours: float | None = None
    predict_watt_hours_per_1000: float | None = None
    train_price: float | None = None
    """Price of training at the stated prices; an API's own price is in ``price_per_1000``."""
    price_per_1000: float | None = None
    """Price of classifying 1,000 texts."""


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """Scores of one label, mean over runs."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    """Test rows with the label, over all folds."""


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """How far probabilities can be trusted, before and after temperature and smoothing."""

    temperature: float
    """Temperature, mean over runs; 1 where none was fitted."""
    smoothing: float
    """Share of chance in the probabilities, mean over runs; 0 where none was fitted."""
    scores: dict[str, tuple[float, float]]
    """Scores of the probabilities, nll, brier and ece -> before, after."""
    before: tuple[ReliabilityBin, ...]
    after: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Validation scores of one run while it learnt."""

    examples: tuple[float, ...]
    """Training rows seen, repeated epochs counted again."""
    device_hours: tuple[float, ...]
    score: tuple[float, ...]
    """Validation scores, in the report's metric where it was recorded, else macro-F1."""


@dataclass(frozen=True, kw_only=True)
class MethodReport:
    """One method: what a row of the tables and a panel of the figures show."""

    name: str
    method: str
    """Kind of method in results.json: full, lora, prompt, classical, ..."""
    model: str
    folders: tuple[Path, ...]
    predict_precision: str | None
    """Precision that the first run predicted in, fp32 or bf16; None where that is not known, or it
    is no language model."""
    cost: MethodCost
    labels: tuple[LabelScore, ...]
    confusion: np.ndarray | None
    """Counts by true and predicted label, int64 (C, C), all runs together; None when multilabel."""
    calibration: CalibrationReport | None
    coverage: Coverage | None
    """Accuracy over the share of rows that are answered, the least certain left out first."""
    lengths: tuple[LengthBucket, ...]
    length_unit: str = "words"
    """What the lengths are counted in; characters for scripts without spaces between words."""
    errors: tuple[ConfidentError, ...]
    """Errors made with the highest confidence, the worst first."""
    suspects: tuple[SuspectLabel, ...]
    """Test rows whose given label the method contradicts with confidence."""
    seen: SeenRows | None
    """Scores with and without test rows that training has seen; None where there are none."""
    curves: tuple[Curve, ...]
    settings: dict[str, Any]
    """Settings that the first run read from its experiment.json, flattened."""
    environment: dict[str, Any]
    """Surroundings of the first run, as environment.json has them."""
    command: str
    """What to type to repeat the first run."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer, in words."""

    sentence: str
    """One sentence: what to ship, how good, at what cost."""
    best: str
    """Method with the best score."""
    recommended: str | None
    """Method to ship: the cheapest that is the best one or within the margin of it, and better than
    always giving the commonest training label; None where there is no clear winner."""
    reasons: tuple[str, ...]
    """A sentence for each other method: significantly worse, equivalent, or undecided."""


@dataclass(frozen=True, kw_only=True)
class BudgetPoint:
    """One method with one number of labelled rows, over seeds."""

    budget: int
    """Labelled rows in all, validation rows included."""
    per_class: int | None
    """Labelled rows of each class; None: all rows there are."""
    value: float
    low: float
    high: float
    """95% interval of the score, its lower end ``low``."""
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where a method first beats another one significantly."""

    method: str
    reference: str
    budget: int | None
    """Smallest budget tested at which it does; None: at none of them."""
    low: float | None
    high: float | None
    """95% interval of the budget at which the curves cross, its lower end ``low``; None: below or
    above all budgets."""


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """Score over the number of labelled rows."""

    curves: dict[str, tuple[BudgetPoint, ...]]
    """Method -> points by budget; one point, with the smallest budget, for a method that needs no
    more labels than that."""
    crossings: tuple[Crossing, ...]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """All that a report shows."""

    title: str
    config: ReportConfig
    labels: tuple[str, ...]
    multilabel: bool
    verdict: Verdict
    statistics: Statistics
    methods: tuple[MethodReport, ...]
    """Methods, the best first."""
    audit: dict[str, Any]
    """Audit of the first run, as audit.json has it."""
    source: str = ""
    """File, folder or name of the data, as the runs were given it."""
    left_out: tuple[str, ...] = ()
    """What could not be shown, and why; failed runs too."""
    break_even: BreakEven | None = None
    created: str = ""
    """Date and commit of the report."""
    published: dict[str, float] = field(default_factory=dict)
    prior: dict[str, float] = field(default_factory=dict)
    """Scores of always giving the commonest label (accuracy, macro_f1 and nll), mean over test
    sets."""

    @property
    def data(self) -> str:
        """What the first run learnt from: opinions: 320 train, 40 validation, 40 test rows."""
        rows = self.audit.get("rows") or {}
        sizes = ", ".join(f"{count:,} {split}" for split, count in rows.items())
        return ": ".join(part for part in (self.source, sizes and f"{sizes} rows") if part)
