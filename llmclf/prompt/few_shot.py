"""From splits to predictions by prompting: choose demonstrations, ask, calibrate.

variants -> questions -> log-likelihoods -> probabilities
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from rich.console import Console

from llmclf.config import ConfigError, dump_json, write_text
from llmclf.data.corpus import Splits
from llmclf.evaluate.cost import Cost, PeakMemory
from llmclf.evaluate.predictions import Predictions
from llmclf.model.build import ModelConfig
from llmclf.prompt import local
from llmclf.prompt.ask import Variant, variants
from llmclf.prompt.config import PromptConfig
from llmclf.prompt.demos import Embed, check_shots
from llmclf.prompt.embed import Encoder
from llmclf.prompt.local import LocalModel
from llmclf.prompt.outcome import injection_table, outcome, score_table, variant_table
from llmclf.prompt.template import verbalise


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """All that a prompted run needs, checked and ready; nothing has been written yet."""

    config: PromptConfig
    splits: Splits
    variants: list[Variant]
    model: LocalModel

    def plan(self) -> dict[str, Any]:
        """What would happen, for ``--dry-run`` and environment.json."""
        return {**self.model.plan(), "variants": len(self.variants)}

    def truncated(self) -> dict[str, Any]:
        """Texts that did not fit, for audit.json."""
        return {"prompts": self.model.shortened()}

    def warn(self, console: Console) -> None:
        """Say what the model will not see, and whether prefixes cannot be shared."""
        cut = self.model.shortened()
        if cut["rows"] or cut["demonstrations"]:
            console.print(
                f"{cut['rows']:,} texts are too long for the {self.model.max_length:,} tokens of a "
                f"prompt and lose {cut['tokens_lost']:,} tokens; {cut['demonstrations']:,} "
                "demonstrations are shortened",
                style="yellow",
            )
        if self.model.refused:
            console.print(
                "every prompt is computed in full, which is slower: prefixes cannot be shared in "
                f"this model ({self.model.refused})",
                style="yellow",
                markup=False,
            )

    def run(
        self, folder: Path, console: Console
    ) -> tuple[Predictions | None, Predictions, Cost, dict[str, Any]]:
        """Score all prompts: validation, test, cost, and the ``prompt`` object of results.json.
        What was scored before a kill is not scored again."""
        self.write_prompts(folder / "prompt")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with PeakMemory() as memory:
            scored = self.model.score(folder / "prompt", console)
        peak = memory.peak_bytes
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
        kind, labels, first = self.config.calibration, self.splits.labels, scored[0]
        test = first.predictions("test", kind, self.splits.test, labels)
        validation = None
        if len(self.splits.validation):
            validation = first.predictions("validation", kind, self.splits.validation, labels)
        found = outcome(scored, kind, self.splits.test, labels)
        seconds = self.model.seconds["test"]
        cost = Cost(
            predict_seconds=seconds,
            predict_examples_per_second=len(self.splits.test) / seconds,
            peak_memory_bytes=max(gather_object([peak])),
            total_parameters=self.model.parameters,
            trainable_parameters=0,
            devices=self.model.accelerator.num_processes,
        )
        for table in (score_table(found), variant_table(found)):
            console.print(table)
        if "injection" in found:
            console.print(injection_table(found))
        found |= {"shortened": self.model.shortened(), "seconds": self.model.seconds["all"]}
        return validation, test, cost, found

    def write_prompts(self, folder: Path) -> None:
        """Keep each variant's first prompt and the rows that demonstrate in it, to be read."""
        if not self.model.accelerator.is_main_process:
            return
        records = [
            {
                "template": variant.template,
                "seed": variant.draw.seed,
                "order": variant.draw.order,
                "answers": dict(
                    zip(self.splits.labels, variant.wording.answers.words, strict=True)
                ),
                "first_row": self.splits.test.ids[0],
                "demonstrations": [
                    self.splits.train.ids[row] for row in variant.parts["test"][0].shown
                ],
                "prompt": encoded.example,
            }
            for variant, encoded in zip(self.variants, self.model.encoded, strict=True)
        ]
        write_text(folder / "prompts.json", dump_json(records))


def prepare(
    splits: Splits,
    *,
    config: PromptConfig,
    model_config: ModelConfig,
    max_length: int | None,
    seed: int,
    precision: Literal["fp32", "bf16"],
    accelerator: Accelerator,
    weights: bool = True,
) -> FewShot:
    """Choose demonstrations and encode all prompts; load the model unless ``weights=False``.

    Raises ConfigError before anything is written.
    """
    if splits.multilabel:
        raise ConfigError(
            "prompting gives a row one label, but the rows of this corpus may have several. "
            "Fine-tune a model (recipes/bert_base.py), or give --data.label a single column."
        )
    answers = verbalise(config, splits.labels)
    check_shots(config, splits)
    embed: Embed | None = None
    if config.shots and config.demonstrations == "nearest" and config.similarity != "tfidf":
        embed = Encoder(config.similarity, accelerator.device)
    asked = variants(config, splits, answers, seed=seed, embed=embed)
    model = local.prepare(
        asked,
        splits.train,
        config=config,
        model_config=model_config,
        max_length=max_length,
        precision=precision,
        accelerator=accelerator,
        weights=weights,
    )
    return FewShot(config=config, splits=splits, variants=asked, model=model)
