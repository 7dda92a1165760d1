"""A saved model folder as a classifier, as a stranger loads it. B: rows of a batch, N: rows, C:
labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from llmclf.model.quantize import keep_layout
from llmclf.train.predict import check_tokens, collator

BATCH_SIZE = 32


def load_saved(folder: Path, device: torch.device) -> PreTrainedModel:
    """The model of a folder, in fp32 and eval mode."""
    with without_zero3_init():
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    keep_layout(model)
    return model.to(device).eval()


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
        rows = Split(
            ids=[str(i) for i in range(len(texts))],
            texts=texts,
            pairs=pairs,
            targets=np.zeros(len(texts), np.int64),
            groups=None,
        )
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
