"""Classical baselines: the majority class, and TF-IDF with five classifiers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llmclf.classical.config import BaselineConfig
from llmclf.methods.method import Experiment

if TYPE_CHECKING:
    from llmclf.classical.baseline import Baseline
    from llmclf.classical.run import ClassicalRun
    from llmclf.data.corpus import Splits


@dataclass(frozen=True, kw_only=True)
class Classical(Experiment):
    """A classifier that a language model must beat to be worth its cost."""

    approach: ClassVar[str] = "classical"

    baseline: BaselineConfig = field(default_factory=BaselineConfig)

    @property
    def method(self) -> str:
        """majority or classical."""
        return "majority" if self.baseline.classifier == "majority" else "classical"

    @property
    def model_name(self) -> str:
        """The classifier, and what it reads."""
        classifier = self.baseline.classifier
        return classifier if classifier == "majority" else f"tfidf+{classifier}"

    def prepare(self, splits: Splits, *, weights: bool = True) -> ClassicalRun:
        """Nothing is loaded: fitting is all there is."""
        from llmclf.classical.run import ClassicalRun

        return ClassicalRun(config=self.baseline, splits=splits, seed=self.seed)

    def load(self, folder: Path) -> Baseline:
        """The saved baseline."""
        from llmclf.classical.baseline import Baseline

        return Baseline.load(folder / "model")
