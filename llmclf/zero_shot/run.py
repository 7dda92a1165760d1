"""A zero-shot run: texts are compared with labels; of the rows, nothing is learnt but the
calibration of validation rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console

from llmclf.data.corpus import Split, Splits
from llmclf.data.encode import truncation, truncation_warnings
from llmclf.evaluate.cost import Cost
from llmclf.evaluate.latency import one_by_one, percentiles
from llmclf.evaluate.measure import measured
from llmclf.evaluate.outcome import Outcome
from llmclf.model.build import load_config
from llmclf.model.config import LanguageModelConfig
from llmclf.supervise.gpus import idle_gpus
from llmclf.supervise.waiting import doing
from llmclf.train.config import Precision
from llmclf.zero_shot.config import ZeroShotConfig
from llmclf.zero_shot.label_texts import label_texts, label_warnings
from llmclf.zero_shot.zero_shot_model import ZeroShotModel, build, kind_of


@dataclass(frozen=True, kw_only=True)
class ZeroShotRun:
    """A frozen model with what stands for the labels, and the rows that it classifies; the ranks
    share the texts, the first one writes."""

    model: ZeroShotModel
    splits: Splits
    remarks: list[str]
    """What is odd about what labels are compared by."""
    accelerator: Accelerator

    @classmethod
    def of(
        cls,
        config: ZeroShotConfig,
        model_config: LanguageModelConfig,
        splits: Splits,
        *,
        max_length: int | None,
        precision: Precision,
        accelerator: Accelerator,
    ) -> ZeroShotRun:
        """What the settings name; no weights are loaded yet. Raises ConfigError for a checkpoint
        that cannot do it."""
        kind = kind_of(config, load_config(model_config.checkpoint))
        model = build(
            replace(config, kind=kind),
            model_config,
            label_texts(config, kind, splits),
            labels=splits.labels,
            multilabel=splits.multilabel,
            max_length=max_length,
            precision=precision,
            accelerator=accelerator,
        )
        remarks = label_warnings(config, kind, splits)
        return cls(model=model, splits=splits, remarks=remarks, accelerator=accelerator)

    def plan(self) -> dict[str, Any]:
        """What is in force, for ``--dry-run`` and environment.json."""
        size, first = self.accelerator.num_processes, self.model.label_texts[0]
        return {
            "world_size": size,
            "strategy": "single" if size == 1 else "ddp",
            "precision": self.model.config.precision,
            "quantize": self.model.model_config.quantize,
            **self.model.scorer.facts(),
            "first_label_as": first,
            "max_length": self.model.scorer.max_length,
        }

    @cached_property
    def cut(self) -> dict[str, dict[str, Any]]:
        """Rows and tokens that ``max_length`` cuts off, per split that is read; for nli, beside the
        longest hypothesis."""
        encoded = self.model.scorer.encoded
        read = {n: split for n, split in self.splits.named() if n != "train" and len(split)}
        return truncation({name: encoded(split) for name, split in read.items()})

    def truncated(self) -> dict[str, Any]:
        """Rows and tokens that ``max_length`` cuts off, per split."""
        return self.cut

    def warnings(self) -> list[str]:
        """GPUs without a process, how much of the texts the model will not see, and what is odd
        about the labels."""
        cut = truncation_warnings(self.cut, self.model.scorer.max_length)
        return idle_gpus() + cut + self.remarks

    def run(self, folder: Path, console: Console) -> Outcome:
        """Compare the rows with the labels, and save what is needed to compare more."""
        model, splits = self.model, self.splits
        probe = model.scorer.probe()
        if self.accelerator.is_main_process:
            model.save(folder / "model", probe)
        self.accelerator.wait_for_everyone()
        validation = None
        if len(splits.validation):
            scores_NC, _ = self.scores(splits.validation, "validation")
            validation = model.predict(splits.validation, scores_NC)
        with measured(self.accelerator) as predicting:
            scores_NC, seconds = self.scores(splits.test, "test")
            test = model.predict(splits.test, scores_NC)
        cost = Cost(
            predict_seconds=seconds,
            predict_examples_per_second=len(splits.test) / seconds,
            predict_precision=model.config.precision,
            peak_memory_bytes=predicting.peak_memory_bytes,
            total_parameters=model.scorer.parameters,
            trainable_parameters=0,
            devices=self.accelerator.num_processes,
            **percentiles(self.latencies()),
        )
        texts = dict(zip(model.labels, model.label_texts, strict=True))
        facts = {"zero_shot": {**model.scorer.facts(), "label_texts": texts}}
        return Outcome(validation=validation, test=test, cost=cost, facts=facts)

    def scores(self, split: Split, name: str) -> tuple[np.ndarray, float]:
        """Scores of a split, and the seconds that they took. Those that an earlier run of this
        process computed count with the seconds that they took there."""
        with doing(f"comparing the {name} rows with the labels"):
            return self.model.scorer.scores(split)

    def latencies(self) -> list[float]:
        """Seconds of test rows that come alone; of one process only, since texts are shared."""
        if self.accelerator.num_processes > 1:
            return []
        test = self.splits.test

        def classify(row: int) -> object:
            alone = test.take([row])
            return self.model.predict(alone, self.model.scorer.fresh(alone))

        return one_by_one(classify, len(test))
