"""Similarity: the pooled states of a text beside those of what stands for each label.

As with the dual encoders of Reimers & Gurevych (2019). N: rows, C: labels, D: numbers of a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from llmclf.config import ConfigError
from llmclf.data.corpus import Split
from llmclf.data.encode import Encoded, encode
from llmclf.data.table import shown
from llmclf.features.probe import PROBE
from llmclf.features.states import FrozenModel

TEMPERATURE = 0.05
"""What sentence encoders are trained with: cosines times 20 (sentence-transformers,
MultipleNegativesRankingLoss)."""


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """A frozen encoder and the texts of the labels."""

    frozen: FrozenModel
    label_texts: tuple[str, ...]
    """What stands for each label (C)."""
    multilabel: bool
    temperature: float
    scored_by: str = "cosine similarity"

    @property
    def max_length(self) -> int:
        """Most tokens of a text."""
        return self.frozen.max_length

    @property
    def parameters(self) -> int:
        """Weights of the encoder."""
        return int(self.frozen.backbone.num_parameters())

    @cached_property
    def label_states(self) -> np.ndarray:
        """States of the labels, of length 1, float64 (C, D); all ranks ask for them together."""
        return _unit(self._fresh(Split.of_texts(list(self.label_texts))))

    def scores(self, split: Split) -> tuple[np.ndarray, float]:
        """Logits of the labels, float64 (N, C): cosine similarities over the temperature; when
        multilabel, above the mean of the row's, since no cosine in itself says yes; and the seconds
        that the states took."""
        states, seconds = self.frozen.states(split)
        return self._of(states[self.frozen.layers[0]]), seconds

    def fresh(self, split: Split) -> np.ndarray:
        """The same, computed now."""
        return self._of(self._fresh(split))

    def _fresh(self, split: Split) -> np.ndarray:
        return self.frozen.fresh(split, self.frozen.layers[0])

    def _of(self, states_ND: np.ndarray) -> np.ndarray:
        cosines_NC = _unit(states_ND) @ self.label_states.T
        if self.multilabel:
            cosines_NC = cosines_NC - cosines_NC.mean(axis=1, keepdims=True)
        return cosines_NC / self.temperature

    def encoded(self, split: Split) -> Encoded:
        """The texts."""
        return encode(split, self.frozen.tokenizer, self.max_length)

    def probe(self) -> np.ndarray:
        """The state of PROBE, float32 (D,)."""
        return self._fresh(Split.of_texts([PROBE]))[0]

    def facts(self) -> dict[str, Any]:
        """What is in force."""
        return {
            "kind": "embeddings",
            "pooling": self.frozen.pooling,
            "temperature": self.temperature,
        }


def check_room(frozen: FrozenModel, label_texts: tuple[str, ...]) -> None:
    """Raise ConfigError where a label's text is longer than what the encoder reads."""
    tokens = frozen.tokenizer(list(label_texts), verbose=False).input_ids
    for text, ids in zip(label_texts, tokens, strict=True):
        if len(ids) > frozen.max_length:
            raise ConfigError(
                f"data.max_length={frozen.max_length}: what stands for a label, {shown(text)}, has "
                f"{len(ids)} tokens. Shorten it (data.descriptions, zero_shot.hypothesis), or "
                "raise data.max_length."
            )


def _unit(states_ND: np.ndarray) -> np.ndarray:
    states_ND = states_ND.astype(np.float64)
    return states_ND / np.maximum(np.linalg.norm(states_ND, axis=1, keepdims=True), 1e-12)
