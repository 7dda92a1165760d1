"""Settings of features: what is read from the frozen model, and what is learnt on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmclf.config import ConfigError, changeable


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Which states become features, and which classifier reads them."""

    classifier: Literal[
        "logistic_regression", "linear_svm", "nearest_centroid", "nearest_neighbours"
    ] = "logistic_regression"
    """What learns on the states, each of their numbers scaled to mean 0 and deviation 1."""
    pooling: Literal["auto", "mean", "first", "last"] = "auto"
    """Which states of a text: the mean over its tokens, the first token's or the last one's. auto:
    as the checkpoint declares it (1_Pooling), else the last one of decoders and the mean of
    encoders."""
    layer: int | None = None
    """Block whose states are read, from 1 at the bottom. If not given, cross-validation chooses
    between the last block, three quarters of the way up, and half of it."""
    search_folds: int = 3
    """Cross-validation folds that choose layer and settings by macro-F1; 0: the last layer, and
    the default settings."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of the frozen weights and of arithmetic; auto takes bf16 where the device computes
    it."""
    batch_size: int = changeable(64)
    """Texts per forward pass on one device."""

    def __post_init__(self) -> None:
        if self.layer is not None and self.layer < 1:
            raise ConfigError(f"features.layer={self.layer}: must be 1 or more.")
        if self.search_folds < 0 or self.search_folds == 1:
            raise ConfigError(
                f"features.search_folds={self.search_folds}: must be 0, or 2 or more."
            )
        if self.batch_size < 1:
            raise ConfigError(f"features.batch_size={self.batch_size}: must be 1 or more.")
