"""What every approach ends in: predictions and cost, from which one evaluator makes the scores."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from llmclf.evaluate import calibration
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.cost import Cost
from llmclf.evaluate.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What running an approach gave."""

    validation: Predictions | None
    """Predictions of the validation rows; None where there are none."""
    test: Predictions
    cost: Cost
    calibration: Calibration | None = None
    """What the predictions are calibrated by already, since it is a part of the saved model; None
    where they are not calibrated yet."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Further keys of results.json, as JSON values."""


def calibrated(outcome: Outcome) -> tuple[Outcome, Calibration]:
    """The outcome with calibrated predictions, and their calibration: fitted on the validation
    rows and applied to both splits, unless that was done already."""
    if outcome.calibration is not None:
        return outcome, outcome.calibration
    validation = outcome.validation
    fitted = calibration.fit(validation, smooth=True)
    applied = replace(
        outcome,
        validation=None if validation is None else fitted.apply(validation),
        test=fitted.apply(outcome.test),
    )
    return applied, fitted
