"""Which terms are read from the texts where the settings do not say."""

from __future__ import annotations

from dataclasses import replace

from llmclf.classical.config import BaselineConfig
from llmclf.data.corpus import Split
from llmclf.data.scripts import ENOUGH, share_without_spaces


def with_features(config: BaselineConfig, train: Split) -> tuple[BaselineConfig, list[str]]:
    """The settings with their features: those given, else words, or characters for scripts without
    spaces between words, as the training rows have them; and one line where that was chosen."""
    if config.features is not None or config.classifier == "majority":
        return config, []
    share = share_without_spaces([*train.texts, *(train.pairs or ())])
    if share < ENOUGH:
        return replace(config, features="words"), []
    line = (
        f"baseline.features: characters, since {share:.0%} of the letters of the training texts "
        "are of scripts without spaces between words; words are read if you set it."
    )
    return replace(config, features="characters"), [line]
