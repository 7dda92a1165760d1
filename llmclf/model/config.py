"""Which pre-trained model, in which form, and which part of it learns."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from llmclf.config import ConfigError
from llmclf.extras import install_hint

Tune = Literal["full", "head", "last_n", "lora"]
Quantize = Literal["none", "int8", "nf4"]
QUANTIZED_METHODS = ("head", "lora")
"""Values of ``model.tune`` that leave every quantised weight as it is."""


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Which pre-trained model is asked; nothing of it learns."""

    checkpoint: str = "smollm2-135m"
    """A hub id, a local folder, or the embedded alias smollm2-135m."""
    quantize: Quantize = "none"
    """Hold the frozen weights in 8 bits (LLM.int8) or 4 (nf4)."""

    def __post_init__(self) -> None:
        if not self.checkpoint:
            raise ConfigError("model.checkpoint is empty. Give a hub id, a folder or an alias.")

    def problems(self) -> list[str]:
        """Why these settings cannot work, one sentence each."""
        return missing_library(self.quantize)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(LanguageModelConfig):
    """Which pre-trained model is fine-tuned, and which part of it learns."""

    checkpoint: str = "minilm-l6"
    """A hub id, a local folder, or an embedded alias: minilm-l6, smollm2-135m."""
    tune: Tune = "full"
    """What learns: every weight, the head alone, the last blocks and the head, or LoRA adapters and
    the head."""
    last_n: int = 2
    """How many of the last transformer blocks learn with tune=last_n."""
    lora_rank: int = 8
    """Rank of the LoRA update (Hu et al. 2021)."""
    lora_alpha: float = 16.0
    """LoRA scale: updates are multiplied by alpha/rank, or alpha/sqrt(rank) for rslora."""
    lora_dropout: float = 0.05
    """Dropout on the input of the LoRA branch."""
    lora_variant: Literal["lora", "rslora", "dora"] = "lora"
    """Kind of LoRA: plain, rank-stabilised (Kalajdzievski 2023) or weight-decomposed (Liu et al.
    2024)."""
    quantize: Quantize = "none"
    """Hold the frozen weights of the backbone in 8 bits (LLM.int8) or 4 (nf4), for tune=head and
    lora."""
    dropout: float | None = None
    """Set every dropout probability of the network to this; None keeps the checkpoint's own."""
    save: Literal["merged", "adapter"] = "merged"
    """How the result is saved: as plain float weights, LoRA merged into them and quantised ones
    de-quantised; or as the base weights (quantised, if they were) with the adapter beside them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last_n < 1:
            raise ConfigError(f"model.last_n={self.last_n}: must be 1 or more.")
        if self.lora_rank < 1:
            raise ConfigError(f"model.lora_rank={self.lora_rank}: must be 1 or more.")
        for name in ("dropout", "lora_dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"model.{name}={value}: must be at least 0 and below 1.")

    def problems(self) -> list[str]:
        """Combinations that cannot work, one sentence each."""
        problems = []
        if self.quantize != "none" and self.tune not in QUANTIZED_METHODS:
            problems.append(
                f"model.quantize={self.quantize!r} needs model.tune='lora' or 'head' (got "
                f"{self.tune!r}): quantised weights cannot be updated. Set --model.tune lora or "
                "--model.quantize none."
            )
        problems += super().problems()
        if self.save == "adapter" and self.tune != "lora":
            problems.append(f"model.save='adapter' needs model.tune='lora' (got {self.tune!r}).")
        return problems

    @property
    def method(self) -> str:
        """``method`` of results.json."""
        qlora = {"int8": "qlora8", "nf4": "qlora4"}
        return qlora.get(self.quantize, "lora") if self.tune == "lora" else self.tune


def missing_library(quantize: Quantize) -> list[str]:
    """What must be installed before weights can be held in fewer bits."""
    if quantize == "none" or importlib.util.find_spec("bitsandbytes") is not None:
        return []
    return [
        f"model.quantize={quantize!r} needs bitsandbytes, which is not installed. "
        f"Install it: {install_hint('quantize')}."
    ]
