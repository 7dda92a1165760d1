"""Where a method goes wrong: on which rows, on which lengths, and where the label may be wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ConfidentError:
    """A test row that was classified wrongly with confidence."""

    id: str
    text: str | None
    """None where the run folder does not hold the texts."""
    label: str
    """As given; several joined by ", " when multilabel."""
    predicted: str
    confidence: float


@dataclass(frozen=True, kw_only=True)
class SuspectLabel:
    """A row whose given label a method contradicts (confident joint, Northcutt et al. 2021)."""

    id: str
    text: str | None
    label: str
    suggested: str
    confidence: float
    """Probability of the suggested label."""
    given: float
    """Probability of the given label."""


@dataclass(frozen=True, kw_only=True)
class LengthBucket:
    """Test rows of similar length."""

    low: int
    high: int
    """Words, both included."""
    rows: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, kw_only=True)
class SeenRows:
    """Test rows that training or validation rows repeat, nearly or wholly."""

    rows: int
    kinds: dict[str, int]
    """exact, normalised (as the audit has it) and near -> rows."""
    score: float
    """On all test rows, in the report's metric."""
    score_without: float
    """On the rows that were not seen."""
