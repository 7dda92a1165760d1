"""From log-likelihoods of answers to probabilities of labels.

A language model prefers some answers whatever the text. All but the first two ways divide by an
estimate of that preference. N: rows, C: labels, M: reference rows, K: texts without content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

from llmclf.prompt.config import PromptCalibration

KINDS: tuple[PromptCalibration, ...] = get_args(PromptCalibration)
CONTENT_FREE = ("N/A", "[MASK]", "")
"""Texts without content, from Zhao et al. (2021), section 5."""


@dataclass(frozen=True, kw_only=True)
class Likelihoods:
    """What the model says about the answers of one prompt wording, in nats."""

    rows_NC: np.ndarray
    tokens_NC: np.ndarray
    """Tokens of each answer."""
    premise_C: np.ndarray
    """Log-likelihoods of the answers behind their lead alone."""
    content_free_KC: np.ndarray
    reference_MC: np.ndarray
    """Log-likelihoods of other rows, whose labels are not used."""


def probabilities(kind: PromptCalibration, likelihoods: Likelihoods) -> np.ndarray:
    """Probabilities of the labels, float64 (N, C).

    none: the likelihoods, normalised over the labels. mean: likelihood per token. pmi: Holtzman et
    al. (2021), equation 4. contextual: Zhao et al. (2021), diagonal weights and no bias, in logs.
    batch: Zhou et al. (2023), equation 3, the mean taken over reference rows.
    """
    if kind == "mean":
        return softmax(likelihoods.rows_NC / likelihoods.tokens_NC, axis=1)
    return softmax(likelihoods.rows_NC - _preference(kind, likelihoods), axis=1)


def _preference(kind: PromptCalibration, likelihoods: Likelihoods) -> np.ndarray:
    """Log of what the model prefers without a text, up to a constant (C)."""
    if kind == "none":
        return np.zeros(likelihoods.rows_NC.shape[1])
    if kind == "pmi":
        return likelihoods.premise_C
    seen = likelihoods.content_free_KC if kind == "contextual" else likelihoods.reference_MC
    normalised = log_softmax(seen, axis=1)
    return logsumexp(normalised, axis=0) - np.log(len(seen))


def mass(rows_NC: np.ndarray) -> np.ndarray:
    """Probability that went to any of the answers, float64 (N): the rest went to other text."""
    return np.exp(logsumexp(rows_NC, axis=1))
