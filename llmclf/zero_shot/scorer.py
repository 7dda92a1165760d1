"""What compares texts with labels: by entailment or by similarity. N: rows, C: labels."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from llmclf.data.corpus import Split
from llmclf.data.encode import Encoded


class Scorer(Protocol):
    """A frozen model with the texts of the labels. All ranks call its methods together."""

    @property
    def scored_by(self) -> str:
        """What the scores are, such as "entailment"."""

    @property
    def max_length(self) -> int:
        """Most tokens of what the model reads at once."""

    @property
    def parameters(self) -> int:
        """Weights of the model, which is loaded by now at the latest."""

    def scores(self, split: Split) -> tuple[np.ndarray, float]:
        """Logits of the labels, float64 (N, C), and the seconds that computing them took, in this
        process, whenever that was."""

    def fresh(self, split: Split) -> np.ndarray:
        """The same logits, computed now."""

    def encoded(self, split: Split) -> Encoded:
        """The texts as the model reads them, a row each, with what is cut off counted."""

    def probe(self) -> np.ndarray:
        """Numbers of PROBE, float32."""

    def facts(self) -> dict[str, Any]:
        """What is in force, as JSON values: for ``--dry-run``, environment.json and the model."""
