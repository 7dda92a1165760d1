"""Settings of the training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from llmclf.config import ConfigError, changeable

Precision = Literal["fp32", "bf16"]
"""What a run computes in, once ``auto`` is resolved."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the model learns. Nothing here depends on the number of processes: launch/ owns that."""

    epochs: float = 3.0
    """Passes over the training rows; a fraction stops within a pass."""
    min_steps: int = 200
    """At least this many optimizer steps, over more epochs where the rows are few: a new head and
    AdamW need some before a network learns anything (Mosbach et al. 2021, Zhang et al. 2021)."""
    max_steps: int | None = None
    """Stop after this many optimizer steps, unless ``epochs`` ends first."""
    learning_rate: float | None = None
    """Peak learning rate of AdamW. None: by what learns and the model's width, as
    :func:`llmclf.train.optimizer.default_rate` says."""
    global_batch_size: int = 32
    """Rows per optimizer step over all processes."""
    micro_batch_size: int | None = changeable(None)
    """Most rows per forward pass on one device; None: as many as the global batch gives it.
    Accumulation follows."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of arithmetic while training (autocast); auto takes bf16 where the device computes
    it (GPUs since Ampere; not V100 or T4), else fp32."""
    gradient_checkpointing: bool = changeable(False)
    """Recompute activations in the backward pass: less memory for about a third more time."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Learning rate after the warm-up: falls to zero in a line or half a cosine, or stays."""
    warmup: float = 0.06
    """Share of all steps over which the learning rate rises from zero."""
    weight_decay: float = 0.01
    """AdamW weight decay; biases and normalisation weights have none."""
    layer_decay: float = 1.0
    """Learning rate factor per block from the top down (Clark et al. 2020); 1 is off."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 is off."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Cross entropy, or focal loss (Lin et al. 2017) for rare classes. Multilabel uses their binary
    forms."""
    focal_gamma: float = 2.0
    """Exponent of the focal loss."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over the labels."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weight rows by the inverse frequency of their class among the training rows."""
    evaluate_every: int | None = None
    """Steps between evaluations on the validation rows; None: ``epochs`` evaluations in all, each
    at the end of an epoch unless ``min_steps`` makes them more."""
    best_by: Literal["macro_f1", "accuracy", "nll"] = "macro_f1"
    """Validation score that chooses the weights which are kept."""
    patience: int | None = None
    """Stop after this many evaluations without a better score; None: never."""
    checkpoint_every: int | None = changeable(None)
    """Steps between checkpoints to resume from; None: with each evaluation."""
    checkpoint_minutes: float = changeable(15.0)
    """A checkpoint to resume from comes after this many minutes without one, too; 0 is off."""
    log_every: int = changeable(10)
    """Steps between training records in metrics.jsonl."""

    def __post_init__(self) -> None:
        positive = (
            "epochs", "max_steps", "learning_rate", "global_batch_size", "micro_batch_size",
            "layer_decay", "evaluate_every", "patience", "checkpoint_every", "log_every",
        )  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"train.{name}={value}: must be a number above 0.")
        not_negative = (
            "min_steps", "weight_decay", "max_grad_norm", "focal_gamma", "checkpoint_minutes",
        )  # fmt: skip
        for name in not_negative:
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"train.{name}={getattr(self, name)}: must be 0 or more.")
        for name in ("warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"train.{name}={getattr(self, name)}: must be in [0, 1).")
        if self.layer_decay > 1:
            raise ConfigError(f"train.layer_decay={self.layer_decay}: must be in (0, 1].")

    def problems(self) -> list[str]:
        """Combinations of settings that cannot work, one sentence each."""
        problems = []
        if self.loss == "focal" and self.label_smoothing:
            problems.append(
                f"train.label_smoothing={self.label_smoothing} has no meaning with "
                "train.loss=focal. Set one of them."
            )
        return problems
