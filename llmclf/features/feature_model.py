"""A frozen model and the classifier on its states: predict, save, load. N: rows, C: labels."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.pipeline import Pipeline

from llmclf.atomic import replaced, write_text
from llmclf.classical import learn as classical
from llmclf.config import ConfigError, DataError, dump_json
from llmclf.data.corpus import Split
from llmclf.evaluate import calibration
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.predictions import Predictions
from llmclf.features.config import FeaturesConfig
from llmclf.features.probe import PROBE, same_checkpoint
from llmclf.features.states import FrozenModel, OneProcess
from llmclf.model.config import LanguageModelConfig


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureModel:
    """A fitted classifier on the states of a frozen model."""

    frozen: FrozenModel
    pipeline: Pipeline
    labels: tuple[str, ...]
    """Label names in the order of the probabilities (C)."""
    multilabel: bool
    layer: int
    chosen: dict[str, Any]
    """The settings found and their cross-validated macro-F1, as JSON values."""
    scored_by: str
    calibration: Calibration = field(default_factory=Calibration)

    def predict(self, split: Split, states_ND: np.ndarray | None = None) -> Predictions:
        """Classify the rows of a split. ``states_ND``: their states, where they are known."""
        if states_ND is None:
            states_ND = self.frozen.states(split)[0][self.layer]
        return Predictions(
            ids=split.ids,
            labels=self.labels,
            targets=split.targets,
            probabilities=self._of_states(states_ND),
            scored_by=self.scored_by,
            multilabel=self.multilabel,
            thresholds=self.calibration.thresholds,
        )

    def probabilities(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Calibrated probabilities, float64 (N, C), in the order of ``labels``."""
        if not texts:
            return np.zeros((0, len(self.labels)))
        return self._of_states(self.frozen.states(Split.of_texts(texts, pairs))[0][self.layer])

    def _of_states(self, states_ND: np.ndarray) -> np.ndarray:
        raw_NC = classical.probabilities(
            self.pipeline, states_ND, len(self.labels), multilabel=self.multilabel
        )
        return self.calibration.probabilities(raw_NC, multilabel=self.multilabel)

    def probe(self) -> list[float]:
        """The state of PROBE, (D,); all ranks call it."""
        return [round(float(x), 4) for x in _probe(self.frozen, self.layer)]

    def save(self, folder: Path, config: FeaturesConfig, probe: list[float]) -> None:
        """Write ``features.skops`` and ``features.json``: no pickle, so loading runs no code. The
        frozen weights are not copied; they stay where the checkpoint is. ``probe``: of
        :meth:`probe`."""
        with replaced(folder / "features.skops") as temporary:
            skops.io.dump(self.pipeline, temporary, compression=zipfile.ZIP_DEFLATED)
        facts = {
            "model": asdict(self.frozen.model_config),
            "features": asdict(config)
            | {
                "layer": self.layer,
                "pooling": self.frozen.pooling,
                "precision": self.frozen.precision,
            },
            "max_length": self.frozen.max_length,
            "labels": self.labels,
            "multilabel": self.multilabel,
            "chosen": self.chosen,
            "scored_by": self.scored_by,
            "probe": probe,
        }
        write_text(folder / "features.json", dump_json(facts))

    @classmethod
    def load(cls, folder: Path) -> FeatureModel:
        """Read what :meth:`save` wrote, and the frozen model that it names.

        Raises DataError, naming the folder, if it is not that, or if the checkpoint is another one
        by now.
        """
        try:
            facts = json.loads((folder / "features.json").read_text(encoding="utf-8"))
            pipeline = skops.io.load(folder / "features.skops")
            labels = tuple(facts["labels"])
            config = FeaturesConfig(**facts["features"])
            model_config = LanguageModelConfig(**facts["model"])
            fitted = calibration.read(folder, labels)
            probe = np.array(facts["probe"], np.float32)
            known = {key: facts[key] for key in ("multilabel", "chosen", "scored_by")}
            length = int(facts["max_length"])
        except (OSError, ValueError, KeyError, TypeError, ConfigError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{folder}: no saved classifier on features ({error}). Expected features.json and "
                "features.skops; train it again."
            ) from error
        assert config.layer is not None and config.precision != "auto"
        frozen = FrozenModel.of(
            model_config,
            config,
            precision=config.precision,
            max_length=length,
            accelerator=OneProcess(),
        )
        if not same_checkpoint(_probe(frozen, config.layer), probe):
            raise DataError(
                f"{folder}: model.checkpoint={model_config.checkpoint!r} is not the model that the "
                "classifier was learnt on: it gives other states. Train it again, or put the "
                "former checkpoint in its place."
            )
        return cls(
            frozen=frozen,
            pipeline=pipeline,
            labels=labels,
            layer=config.layer,
            calibration=fitted,
            **known,
        )


def _probe(frozen: FrozenModel, layer: int) -> np.ndarray:
    """State of PROBE, float32 (D,)."""
    return frozen.fresh(Split.of_texts([PROBE]), layer)[0]
