"""Features: a frozen model, its states pooled, and a linear classifier on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llmclf.features.config import FeaturesConfig
from llmclf.methods.method import Experiment
from llmclf.model.config import LanguageModelConfig

if TYPE_CHECKING:
    from llmclf.data.corpus import Splits
    from llmclf.features.feature_model import FeatureModel
    from llmclf.features.run import FeaturesRun


@dataclass(frozen=True, kw_only=True)
class Features(Experiment):
    """A pre-trained model that stays as it is; a classifier learns on the states of its texts."""

    approach: ClassVar[str] = "features"

    model: LanguageModelConfig = field(
        default_factory=lambda: LanguageModelConfig(checkpoint="minilm-l6")
    )
    features: FeaturesConfig = field(default_factory=FeaturesConfig)

    @property
    def model_name(self) -> str:
        """The checkpoint, and what reads its states."""
        return f"{self.model.checkpoint}+{self.features.classifier}"

    def problems(self) -> list[str]:
        """What cannot work, one sentence each."""
        return super().problems() + self.model.problems()

    def prepare(self, splits: Splits, *, weights: bool = True) -> FeaturesRun:
        """Read the checkpoint's settings; its weights are loaded when a text needs them."""
        from llmclf.features.run import FeaturesRun
        from llmclf.features.states import FrozenModel
        from llmclf.train.engine import main_process_first, start_frozen

        accelerator, precision = start_frozen(self.features.precision, "features")
        with main_process_first(accelerator):
            frozen = FrozenModel.of(
                self.model,
                self.features,
                precision=precision,
                max_length=self.data.max_length,
                accelerator=accelerator,
            )
            if weights:
                frozen.backbone  # noqa: B018  # loaded here, on one rank at a time where needed
        return FeaturesRun(
            config=self.features,
            frozen=frozen,
            splits=splits,
            seed=self.seed,
            accelerator=accelerator,
        )

    def load(self, folder: Path) -> FeatureModel:
        """The saved classifier, with the frozen model that it names."""
        from llmclf.features.feature_model import FeatureModel

        return FeatureModel.load(folder / "model")
