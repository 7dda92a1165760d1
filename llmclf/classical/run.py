"""From splits to predictions by a classical baseline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from llmclf.classical.baseline import fit
from llmclf.classical.config import BaselineConfig
from llmclf.classical.features import with_features
from llmclf.data.corpus import Splits
from llmclf.evaluate.cost import Cost
from llmclf.evaluate.latency import one_by_one, percentiles
from llmclf.evaluate.measure import measured
from llmclf.evaluate.outcome import Outcome
from llmclf.ranks import is_main


@dataclass(frozen=True, kw_only=True)
class ClassicalRun:
    """A baseline and the rows it is fitted on; every rank fits it, the first one writes."""

    config: BaselineConfig
    splits: Splits
    seed: int

    @cached_property
    def chosen(self) -> tuple[BaselineConfig, list[str]]:
        """The settings with the features that are read, and what was chosen of them."""
        return with_features(self.config, self.splits.train)

    def plan(self) -> dict[str, Any]:
        """What would happen: it runs on one process, whatever was launched."""
        features = self.chosen[0].features
        return {"world_size": 1, "strategy": "single"} | (
            {"features": features} if features else {}
        )

    def truncated(self) -> dict[str, Any]:
        """Texts that are cut off: none, they are read to their end."""
        return {}

    def warnings(self) -> list[str]:
        """What the user should know: features that were chosen. Texts are read to their end."""
        return self.chosen[1]

    def run(self, folder: Path, console: Console) -> Outcome:
        """Fit on the training rows, save, and predict the others."""
        splits = self.splits
        with measured() as training:
            baseline = fit(
                self.chosen[0],
                splits.train,
                labels=splits.labels,
                multilabel=splits.multilabel,
                seed=self.seed,
            )
        console.print(f"chosen: {baseline.chosen}", markup=False, highlight=False)
        if is_main():
            baseline.save(folder / "model")
        validation = baseline.predict(splits.validation) if len(splits.validation) else None
        with measured() as predicting:
            test = baseline.predict(splits.test)
        alone = one_by_one(lambda i: baseline.predict(splits.test.take([i])), len(splits.test))
        cost = Cost(
            train_seconds=training.seconds,
            predict_seconds=predicting.seconds,
            predict_examples_per_second=len(splits.test) / predicting.seconds,
            peak_memory_bytes=max(training.peak_memory_bytes, predicting.peak_memory_bytes),
            total_parameters=baseline.parameters,
            trainable_parameters=baseline.parameters,
            devices=1,
            device_hours=training.seconds / 3600,
            **percentiles(alone),
            train_energy_joules=training.joules,
            predict_energy_joules=predicting.joules,
            energy_meters=predicting.energy_meters,
        )
        return Outcome(validation=validation, test=test, cost=cost)
