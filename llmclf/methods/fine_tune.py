"""Fine-tuning: every weight of a pre-trained model, its head, its last blocks, or LoRA adapters."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmclf.methods.method import Experiment, Method
from llmclf.model.config import ModelConfig
from llmclf.train.config import TrainConfig

if TYPE_CHECKING:
    from llmclf.data.corpus import Splits
    from llmclf.train.fine_tune import PreparedFineTune
    from llmclf.train.saved import SavedModel


@dataclass(frozen=True, kw_only=True)
class FineTune(Experiment):
    """A pre-trained model that learns from the training rows."""

    approach: ClassVar[str] = "fine_tune"

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def method(self) -> str:
        """full, head, last_n, lora, qlora8 or qlora4."""
        return self.model.method

    @property
    def model_name(self) -> str:
        """The checkpoint."""
        return self.model.checkpoint

    def problems(self) -> list[str]:
        """What cannot work, one sentence each."""
        problems = super().problems() + self.train.problems() + self.model.problems()
        if self.train.patience and not (self.data.validation or self.data.validation_fraction):
            problems.append(
                f"train.patience={self.train.patience}: counts evaluations on validation rows, and "
                "data.validation_fraction=0 leaves none. Unset it, or set the fraction above 0."
            )
        return problems

    def prepare(self, splits: Splits, *, weights: bool = True) -> PreparedFineTune:
        """Start the engine, encode the rows and build the model."""
        from llmclf.train import fine_tune

        return fine_tune.prepare(
            splits,
            model_config=self.model,
            config=self.train,
            max_length=self.data.max_length,
            seed=self.seed,
            weights=weights,
        )

    def load(self, folder: Path) -> SavedModel:
        """The saved model, on a GPU if there is one."""
        from llmclf.train.saved import SavedModel

        return SavedModel.load(folder / "model")

    def memory(self, method: Method) -> dict[str, Any]:
        """Bytes on the fullest device of the run that would start."""
        from llmclf.plan import footprint
        from llmclf.train.fine_tune import PreparedFineTune

        assert isinstance(method, PreparedFineTune)
        return footprint.of_run(
            method.meta_model.config,
            self.model,
            self.train,
            launch=method.launch,
            length=int(method.task.train.lengths.max()),
        )
