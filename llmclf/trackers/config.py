"""Which trackers are told of a run, and how."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmclf.extras import install_hint

Tracker = Literal["wandb", "trackio", "tensorboard"]

ILLEGAL = '/\\#?%:"'
"""Characters that W&B refuses in the name of a project."""
PROJECT_LENGTH = 128  # W&B's limit


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """Trackers decide no result: they may differ between a run and its resumption."""

    to: tuple[Tracker, ...] = ()
    """Trackers that mirror the run. WANDB_MODE, WANDB_BASE_URL, TRACKIO_DIR and the like mean what
    their makers say."""
    project: str = "llmclf"
    """Name of the project in W&B and trackio."""
    group: str | None = None
    """Group of the run in W&B and trackio; the name of the folder that holds the run folder if not
    given, which the runs of a comparison share."""
    log_model: bool = False
    """Hand over the model folder as an artefact, too (not to TensorBoard, which knows none)."""
    timeout_seconds: float = 30
    """How long a tracker may take to start, and at the end to take what is left."""

    def problems(self) -> list[str]:
        """What cannot work in these settings, a package that is missing included, one sentence
        each."""
        problems = [
            f"track.to: {name} is not installed. Install it: {install_hint('track')}. "
            "Or leave it out."
            for name in dict.fromkeys(self.to)
            if importlib.util.find_spec(name) is None
        ]
        bad = [c for c in self.project if c in ILLEGAL or not c.isprintable()]
        if not self.project.strip() or bad or len(self.project) > PROJECT_LENGTH:
            problems.append(
                f"track.project={self.project!r}: must be 1 to {PROJECT_LENGTH} characters, none "
                f"of them one of {' '.join(ILLEGAL)}."
            )
        if self.group is not None and not 0 < len(self.group.strip()) <= PROJECT_LENGTH:
            problems.append(
                f"track.group={self.group!r}: must be 1 to {PROJECT_LENGTH} characters."
            )
        if not 0 < self.timeout_seconds < math.inf:
            problems.append(f"track.timeout_seconds={self.timeout_seconds}: must be above 0.")
        return problems

    def group_of(self, folder: Path) -> str:
        """The group of the run in this folder."""
        return self.group or folder.absolute().parent.name or "runs"
