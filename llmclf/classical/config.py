"""Which classical classifier, on which features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmclf.config import ConfigError


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """A classical classifier."""

    classifier: Literal[
        "majority",
        "logistic_regression",
        "linear_svm",
        "naive_bayes",
        "nearest_neighbours",
        "random_forest",
    ] = "linear_svm"
    """"majority" gives every row the label shares of the training rows; the others read TF-IDF."""
    features: Literal["words", "characters"] | None = None
    """Terms: runs of 1 to 3 words, or of 3 to 5 characters (slower; for text without spaces). If
    not given, characters where the training texts are of scripts without spaces between words
    (Chinese, Japanese, Thai, Lao, Khmer, Burmese), and said; else words."""
    search_folds: int = 3
    """Cross-validation folds that choose the settings by macro-F1; 0: the default settings."""
    search_rows: int = 20_000
    """Training rows that the cross-validation uses at most, drawn at random."""

    def __post_init__(self) -> None:
        if self.search_folds < 0 or self.search_folds == 1:
            raise ConfigError(
                f"search_folds={self.search_folds}: allowed are 0 (no search) and 2 or more."
            )
        if self.search_rows < 1:
            raise ConfigError(f"search_rows={self.search_rows}: must be at least 1.")
