"""Whether a checkpoint is still the one that a saved classifier was made with."""

from __future__ import annotations

import numpy as np

PROBE = "Stop smoking before surgery; 12 of 40 patients did not (p = 0.03)."
"""A text whose numbers tell."""
PROBE_TOLERANCE = 0.05
"""Share of the numbers' length by which another device or precision may differ."""


def same_checkpoint(found: np.ndarray, saved: np.ndarray) -> bool:
    """Whether what a model computes of PROBE now is what it computed when it was saved."""
    return found.shape == saved.shape and bool(
        np.linalg.norm(found - saved) <= PROBE_TOLERANCE * np.linalg.norm(saved)
    )
