"""A saved model folder as a classifier, as a stranger loads it. B: rows of a batch, N: rows, C:
labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmclf.compat.transformers import without_zero3_init
from llmclf.config import DataError
from llmclf.data.batches import plan_prediction
from llmclf.data.corpus import Split
from llmclf.data.encode import encode
from llmclf.evaluate.calibration import Calibration
from llmclf.model.config import ModelConfig
from llmclf.model.quantize import keep_layout
from llmclf.train.config import Precision
from llmclf.train.launch_check import Strategy, shards_weights
from llmclf.train.predict import check_tokens, collator

BATCH_SIZE = 32
WEIGHTS_SHARE = 0.8
"""Of a device's memory, what a model's weights may take when it predicts."""


def precision_to_predict(
    precision: Precision, parameters: int, capacity: int | None
) -> Precision | None:
    """Precision of a saved model when it predicts: fp32; bf16 where its fp32 weights alone would
    take most of the device and training was in bf16; None where it is too large even so.

    ``precision``: of training; ``parameters``: of the model; ``capacity``: bytes of the device,
    None: a CPU's memory.
    """
    if capacity is None or 4 * parameters <= WEIGHTS_SHARE * capacity:
        return "fp32"
    return "bf16" if precision == "bf16" and 2 * parameters <= WEIGHTS_SHARE * capacity else None


def saved_precision(
    model: ModelConfig,
    strategy: Strategy,
    precision: Precision,
    *,
    parameters: int,
    capacity: int | None,
) -> Precision | None:
    """As :func:`precision_to_predict`, for any run: None also where no device holds the whole
    model, and fp32 beside weights that are saved quantised."""
    if shards_weights(strategy):
        return None
    if model.quantize != "none" and model.save == "adapter":
        return "fp32"
    return precision_to_predict(precision, parameters, capacity)


def load_saved(
    folder: Path, device: torch.device, precision: Precision = "fp32"
) -> PreTrainedModel:
    """The model of a folder, in eval mode; onto a GPU without a copy in host memory."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with without_zero3_init():
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, device_map=None if device.type == "cpu" else {"": device}
        )
    keep_layout(model)
    return model.to(device).eval()


def check_logits(
    loaded: nn.Module,
    batch: dict[str, torch.Tensor],
    trained_BC: torch.Tensor,
    *,
    tolerance: float,
) -> None:
    """Raise RuntimeError unless the saved model gives the logits of the trained one, within a share
    of their size."""
    with torch.inference_mode():
        saved_BC = loaded(**batch).logits.float().cpu()
    trained_BC = trained_BC.cpu()
    difference = float((saved_BC - trained_BC).abs().max())
    if not difference <= tolerance * max(1.0, float(trained_BC.abs().max())):
        raise RuntimeError(f"the saved model differs by {difference} in its logits")


@dataclass(frozen=True, eq=False, kw_only=True)
class SavedModel:
    """A fine-tuned model with its tokenizer; the temperature is in its output layer already."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    labels: tuple[str, ...]
    multilabel: bool
    calibration: Calibration
    """Calibration of the model, of which only the thresholds are still to be applied."""

    @classmethod
    def load(cls, folder: Path) -> SavedModel:
        """Read a model folder of a run. Raises DataError, naming it, if it is none."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            model = load_saved(folder, device)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise DataError(f"{folder}: no saved model ({error}). Train it again.") from error
        names: Any = model.config.id2label
        labels = tuple(names[i] for i in range(len(names)))
        stored = getattr(model.config, "llmclf_calibration", None)
        return cls(
            model=model,
            tokenizer=tokenizer,
            labels=labels,
            multilabel=model.config.problem_type == "multi_label_classification",
            calibration=Calibration.from_json(stored, labels) if stored else Calibration(),
        )

    def probabilities(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Calibrated probabilities, float64 (N, C), in the order of ``labels``."""
        rows = Split.of_texts(texts, pairs)
        length = self.tokenizer.model_max_length
        encoded = encode(rows, self.tokenizer, length)
        check_tokens(encoded, self.tokenizer, self.model, str(self.model.name_or_path))
        collate = collator(self.model.config, self.tokenizer, length, self.model.device)
        probabilities_NC = np.zeros((len(texts), len(self.labels)))
        with torch.inference_mode():
            for batch in plan_prediction(
                encoded.lengths, batch_size=BATCH_SIZE, rank=0, world_size=1
            ):
                logits_BC = self.model(**collate(encoded, batch)).logits.double()
                shares_BC = logits_BC.sigmoid() if self.multilabel else logits_BC.softmax(-1)
                probabilities_NC[batch] = shares_BC.cpu().numpy()
        return probabilities_NC
