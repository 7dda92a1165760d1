"""Zero- and few-shot prompting of a language model, on this machine or behind an API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from llmclf.methods.method import Experiment
from llmclf.model.config import LanguageModelConfig
from llmclf.prompt.config import ApiConfig, PromptConfig

if TYPE_CHECKING:
    from llmclf.data.corpus import Splits
    from llmclf.prompt.few_shot import FewShot


@dataclass(frozen=True, kw_only=True)
class Prompt(Experiment):
    """A language model that is asked for the label of each text; nothing learns."""

    approach: ClassVar[str] = "prompt"

    model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    api: ApiConfig = field(default_factory=ApiConfig)

    @property
    def model_name(self) -> str:
        """The checkpoint, or the model's name at the server."""
        return self.model.checkpoint

    def problems(self) -> list[str]:
        """What cannot work, one sentence each."""
        own = self.prompt.problems() + self.api.problems() + self.model.problems()
        return super().problems() + own

    def prepare(self, splits: Splits, *, weights: bool = True) -> FewShot:
        """Choose demonstrations, word the prompts, and load the model or ask the server."""
        from llmclf.prompt import few_shot
        from llmclf.train.engine import main_process_first, start_frozen

        accelerator, precision = start_frozen(self.prompt.precision, "prompting")
        with main_process_first(accelerator):
            return few_shot.prepare(
                splits,
                config=self.prompt,
                api=self.api,
                model_config=self.model,
                max_length=self.data.max_length,
                seed=self.seed,
                precision=precision,
                accelerator=accelerator,
                weights=weights,
            )
