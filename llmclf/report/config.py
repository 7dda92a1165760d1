"""What a report is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from llmclf.config import ConfigError
from llmclf.invisible import quoted


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """How finished runs are compared. Nothing here changes a run."""

    metric: Literal["macro_f1", "macro_f1_present", "accuracy", "weighted_f1", "mcc"] = "macro_f1"
    """Score that decides between methods; macro_f1_present leaves out labels that no test row has
    or is given, which count 0 in macro_f1."""
    margin: float = 0.01
    """Largest difference in the deciding score that does not matter: methods within it of the best
    count as equal if a test of equivalence says so."""
    resamples: int = 10_000
    """Bootstrap resamples behind each interval."""
    device_price: float | None = None
    """Price of one device for an hour, in any currency; None: not known."""
    energy_price: float | None = None
    """Price of a kilowatt-hour, added where energy was measured; None: not known."""
    currency: str = ""
    """Name of the currency of all prices, such as USD."""
    published: tuple[str, ...] = ()
    """Scores that others published, as name=score: shown beside the measured ones, marked as not
    measured here."""

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise ConfigError(
                f"report.margin={self.margin}: must be between 0 and 1, such as 0.01."
            )
        if self.resamples < 1000:
            raise ConfigError(
                f"report.resamples={self.resamples}: must be 1000 or more; fewer give intervals "
                "that change from run to run."
            )
        for name in ("device_price", "energy_price"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"report.{name}={value}: must be 0 or more.")
        for text in self.published:
            name, _, score = text.rpartition("=")
            try:
                good = bool(name.strip()) and 0 <= float(score) <= 1
            except ValueError:
                good = False
            if not good:
                raise ConfigError(
                    f"report.published: {quoted(text)} is not name=score with a score from 0 to 1, "
                    "such as 'BERT (Li et al. 2021)=0.918'."
                )
