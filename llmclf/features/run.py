"""A run of features: states of all rows, a classifier on those of the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console

from llmclf.classical.learn import scored_by
from llmclf.data.corpus import Split, Splits
from llmclf.data.encode import encode, truncation, truncation_warnings
from llmclf.evaluate.cost import Cost
from llmclf.evaluate.latency import one_by_one, percentiles
from llmclf.evaluate.measure import measured
from llmclf.evaluate.outcome import Outcome
from llmclf.features.config import FeaturesConfig
from llmclf.features.feature_model import FeatureModel
from llmclf.features.learn import learn
from llmclf.features.states import FrozenModel
from llmclf.supervise.gpus import idle_gpus
from llmclf.supervise.waiting import doing


@dataclass(frozen=True, kw_only=True)
class FeaturesRun:
    """A frozen model, and the rows on whose states a classifier is fitted; every rank fits it, the
    first one writes."""

    config: FeaturesConfig
    frozen: FrozenModel
    splits: Splits
    seed: int
    accelerator: Accelerator
    """Of the ranks that share the texts."""

    def plan(self) -> dict[str, Any]:
        """What is in force, for ``--dry-run`` and environment.json."""
        size = self.accelerator.num_processes
        return {
            "world_size": size,
            "strategy": "single" if size == 1 else "ddp",
            "precision": self.frozen.precision,
            "quantize": self.frozen.model_config.quantize,
            "pooling": self.frozen.pooling,
            "layers": list(self.frozen.layers),
            "max_length": self.frozen.max_length,
        }

    @cached_property
    def cut(self) -> dict[str, dict[str, Any]]:
        """Rows and tokens that ``max_length`` cuts off, per split."""
        length = self.frozen.max_length
        return truncation(
            {n: encode(split, self.frozen.tokenizer, length) for n, split in self.splits.named()}
        )

    def truncated(self) -> dict[str, Any]:
        """Rows and tokens that ``max_length`` cuts off, per split."""
        return self.cut

    def warnings(self) -> list[str]:
        """GPUs without a process, and how much of the texts the model will not see."""
        return idle_gpus() + truncation_warnings(self.cut, self.frozen.max_length)

    def run(self, folder: Path, console: Console) -> Outcome:
        """Compute the states, fit on those of the training rows, save, and predict the others."""
        splits, seconds = self.splits, dict[str, float]()
        with measured(self.accelerator) as training:
            states, seconds["train"] = self.states(splits.train, "training")
            with doing("fitting the classifier"):
                model, seconds["fit"] = self.fit(states)
        console.print(f"chosen: {model.chosen}", markup=False, highlight=False)
        probe = model.probe()
        if self.accelerator.is_main_process:
            model.save(folder / "model", self.config, probe)
        self.accelerator.wait_for_everyone()
        validation = None
        if len(splits.validation):
            states, _ = self.states(splits.validation, "validation")
            validation = model.predict(splits.validation, states[model.layer])
        with measured(self.accelerator) as predicting:
            states, seconds["test"] = self.states(splits.test, "test")
            test = model.predict(splits.test, states[model.layer])
        cost = self.cost(model, seconds) | {
            "peak_memory_bytes": max(training.peak_memory_bytes, predicting.peak_memory_bytes),
            **percentiles(self.latencies(model)),
        }
        return Outcome(validation=validation, test=test, cost=Cost(**cost))

    def states(self, split: Split, name: str) -> tuple[dict[int, np.ndarray], float]:
        """States of a split by layer, and the seconds that they took."""
        with doing(f"computing states of the {name} rows"):
            return self.frozen.states(split)

    def fit(self, states: dict[int, np.ndarray]) -> tuple[FeatureModel, float]:
        """The classifier, and the seconds that it took."""
        splits = self.splits
        with measured() as fitting:
            pipeline, layer, chosen = learn(self.config, states, splits.train, self.seed)
        model = FeatureModel(
            frozen=self.frozen,
            pipeline=pipeline,
            labels=splits.labels,
            multilabel=splits.multilabel,
            layer=layer,
            chosen=chosen,
            scored_by=scored_by(self.config.classifier, splits.multilabel),
        )
        return model, fitting.seconds

    def cost(self, model: FeatureModel, seconds: dict[str, float]) -> dict[str, Any]:
        """The figures of what it took. States that an earlier run of this process computed count
        with the seconds that they took there."""
        rows, devices = len(self.splits.test), self.accelerator.num_processes
        train_seconds = seconds["train"] + seconds["fit"]
        learnt = sum(np.size(getattr(part, name, ())) for part in _fitted(model)
                     for name in ("coef_", "intercept_", "centroids_"))  # fmt: skip
        return {
            "train_seconds": train_seconds,
            "predict_seconds": seconds["test"],
            "predict_examples_per_second": rows / seconds["test"],
            "predict_precision": self.frozen.precision,
            "total_parameters": self.frozen.backbone.num_parameters() + learnt,
            "trainable_parameters": learnt or None,
            "devices": devices,
            "device_hours": devices * train_seconds / 3600,
        }

    def latencies(self, model: FeatureModel) -> list[float]:
        """Seconds of test rows that come alone; of one process only, since states are shared."""
        if self.accelerator.num_processes > 1:
            return []
        test = self.splits.test

        def classify(row: int) -> object:
            alone = test.take([row])
            return model.predict(alone, self.frozen.fresh(alone, model.layer))

        return one_by_one(classify, len(test))


def _fitted(model: FeatureModel) -> list[Any]:
    classifier = model.pipeline[-1]
    return list(getattr(classifier, "estimators_", [classifier]))
