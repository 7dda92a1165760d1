"""A frozen model with what stands for the labels: predict, save, load. N: rows, C: labels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from scipy.special import expit, softmax
from transformers import PretrainedConfig

from llmclf.atomic import write_text
from llmclf.config import ConfigError, DataError, dump_json
from llmclf.data.corpus import Split
from llmclf.evaluate import calibration
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.predictions import Predictions
from llmclf.features.config import FeaturesConfig
from llmclf.features.probe import same_checkpoint
from llmclf.features.states import FrozenModel, OneProcess
from llmclf.model.config import LanguageModelConfig
from llmclf.train.config import Precision
from llmclf.zero_shot.config import Kind, ZeroShotConfig
from llmclf.zero_shot.embeddings import TEMPERATURE, Similarity, check_room
from llmclf.zero_shot.nli import Entailment
from llmclf.zero_shot.scorer import Scorer

FILE = "zero_shot.json"


@dataclass(frozen=True, eq=False, kw_only=True)
class ZeroShotModel:
    """What compares texts with labels, as a classifier."""

    config: ZeroShotConfig
    """Its settings, each of them resolved."""
    model_config: LanguageModelConfig
    scorer: Scorer
    label_texts: tuple[str, ...]
    labels: tuple[str, ...]
    """Label names in the order of the probabilities (C)."""
    multilabel: bool
    calibration: Calibration = field(default_factory=Calibration)

    def predict(self, split: Split, scores_NC: np.ndarray) -> Predictions:
        """Classify the rows of a split by their scores."""
        return Predictions(
            ids=split.ids,
            labels=self.labels,
            targets=split.targets,
            probabilities=self._of(scores_NC),
            scored_by=self.scorer.scored_by,
            multilabel=self.multilabel,
            thresholds=self.calibration.thresholds,
        )

    def probabilities(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Calibrated probabilities, float64 (N, C), in the order of ``labels``."""
        if not texts:
            return np.zeros((0, len(self.labels)))
        return self._of(self.scorer.scores(Split.of_texts(texts, pairs))[0])

    def _of(self, scores_NC: np.ndarray) -> np.ndarray:
        raw_NC = expit(scores_NC) if self.multilabel else softmax(scores_NC, axis=1)
        return self.calibration.probabilities(raw_NC, multilabel=self.multilabel)

    def save(self, folder: Path, probe: np.ndarray) -> None:
        """Write ``zero_shot.json``; the weights stay where the checkpoint is. ``probe``: of the
        scorer."""
        facts = {
            "model": asdict(self.model_config),
            "zero_shot": asdict(self.config),
            "max_length": self.scorer.max_length,
            "labels": self.labels,
            "label_texts": self.label_texts,
            "multilabel": self.multilabel,
            "probe": [round(float(x), 4) for x in probe],
        }
        write_text(folder / FILE, dump_json(facts))

    @classmethod
    def load(cls, folder: Path) -> ZeroShotModel:
        """Read what :meth:`save` wrote, and the frozen model that it names.

        Raises DataError, naming the folder, if it is not that, or if the checkpoint is another one
        by now.
        """
        try:
            facts = json.loads((folder / FILE).read_text(encoding="utf-8"))
            labels = tuple(facts["labels"])
            config = ZeroShotConfig(**facts["zero_shot"])
            model_config = LanguageModelConfig(**facts["model"])
            fitted = calibration.read(folder, labels)
            probe = np.array(facts["probe"], np.float32)
            texts, several = tuple(facts["label_texts"]), bool(facts["multilabel"])
            length = int(facts["max_length"])
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            raise DataError(
                f"{folder}: no saved zero-shot classifier ({error}). Expected {FILE}; run it again."
            ) from error
        assert config.precision != "auto"
        model = build(
            config,
            model_config,
            texts,
            labels=labels,
            multilabel=several,
            max_length=length,
            precision=config.precision,
            accelerator=OneProcess(),
        )
        if not same_checkpoint(model.scorer.probe(), probe):
            raise DataError(
                f"{folder}: model.checkpoint={model_config.checkpoint!r} is not the model of the "
                "run: it gives other numbers. Run it again, or put the former checkpoint in its "
                "place."
            )
        return replace(model, calibration=fitted)


def kind_of(config: ZeroShotConfig, hf_config: PretrainedConfig) -> Kind:
    """The kind that ``auto`` stands for: nli of what has a classifier. Raises ConfigError for
    settings that the kind does not read."""
    heads = hf_config.architectures or ()
    classifies = any(name.endswith("ForSequenceClassification") for name in heads)
    kind: Kind = "nli" if classifies else "embeddings"
    if config.kind != "auto":
        kind = config.kind
    if problems := config.problems_of(kind):
        raise ConfigError("\n".join(problems))
    return kind


def build(
    config: ZeroShotConfig,
    model_config: LanguageModelConfig,
    label_texts: tuple[str, ...],
    *,
    labels: tuple[str, ...],
    multilabel: bool,
    max_length: int | None,
    precision: Precision,
    accelerator: Accelerator | OneProcess,
) -> ZeroShotModel:
    """The classifier that the settings name, whose kind is resolved; no weights are loaded yet.

    ``label_texts``: what stands for each label (C).
    """
    assert config.kind != "auto"
    scorer: Scorer
    resolved = replace(config, precision=precision)
    if config.kind == "nli":
        scorer = Entailment.of(
            model_config,
            label_texts,
            multilabel=multilabel,
            max_length=max_length,
            precision=precision,
            batch_size=config.batch_size,
            accelerator=accelerator,
        )
    else:
        frozen = FrozenModel.of(
            model_config,
            FeaturesConfig(
                pooling=config.pooling, search_folds=0, batch_size=config.batch_size
            ),  # of the last layer
            precision=precision,
            max_length=max_length,
            accelerator=accelerator,
        )
        check_room(frozen, label_texts)
        temperature = TEMPERATURE if config.temperature is None else config.temperature
        scorer = Similarity(
            frozen=frozen, label_texts=label_texts, multilabel=multilabel, temperature=temperature
        )
        resolved = replace(resolved, pooling=frozen.pooling, temperature=temperature)
    return ZeroShotModel(
        config=resolved,
        model_config=model_config,
        scorer=scorer,
        label_texts=label_texts,
        labels=labels,
        multilabel=multilabel,
    )
