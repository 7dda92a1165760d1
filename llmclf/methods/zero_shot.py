"""Zero-shot by encoders: entailment or similarity between texts and what labels mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llmclf.methods.method import Experiment
from llmclf.model.config import LanguageModelConfig
from llmclf.zero_shot.config import DESCRIPTION, ZeroShotConfig

if TYPE_CHECKING:
    from llmclf.data.corpus import Splits
    from llmclf.zero_shot.run import ZeroShotRun
    from llmclf.zero_shot.zero_shot_model import ZeroShotModel


@dataclass(frozen=True, kw_only=True)
class ZeroShot(Experiment):
    """A pre-trained encoder that compares texts with the names or descriptions of the labels;
    nothing learns."""

    approach: ClassVar[str] = "zero_shot"

    model: LanguageModelConfig = field(
        default_factory=lambda: LanguageModelConfig(checkpoint="minilm-l6")
    )
    zero_shot: ZeroShotConfig = field(default_factory=ZeroShotConfig)

    @property
    def model_name(self) -> str:
        """The checkpoint."""
        return self.model.checkpoint

    def problems(self) -> list[str]:
        """What cannot work, one sentence each."""
        problems = super().problems() + self.model.problems()
        if DESCRIPTION in (self.zero_shot.hypothesis or "") and self.data.descriptions is None:
            problems.append(
                f"zero_shot.hypothesis={self.zero_shot.hypothesis!r} has {DESCRIPTION}, but there "
                "are no descriptions. Give --data.descriptions label=sentence ..."
            )
        return problems

    def prepare(self, splits: Splits, *, weights: bool = True) -> ZeroShotRun:
        """Read the checkpoint's settings, find what its outputs mean, and load its weights."""
        from llmclf.train.engine import main_process_first, start_frozen
        from llmclf.zero_shot.run import ZeroShotRun

        accelerator, precision = start_frozen(self.zero_shot.precision, "zero_shot")
        with main_process_first(accelerator):
            run = ZeroShotRun.of(
                self.zero_shot,
                self.model,
                splits,
                max_length=self.data.max_length,
                precision=precision,
                accelerator=accelerator,
            )
            if weights:
                run.model.scorer.parameters  # noqa: B018  # loaded here, on one rank at a time
        return run

    def load(self, folder: Path) -> ZeroShotModel:
        """The labels and what stands for them, with the frozen model that compares texts."""
        from llmclf.zero_shot.zero_shot_model import ZeroShotModel

        return ZeroShotModel.load(folder / "model")
