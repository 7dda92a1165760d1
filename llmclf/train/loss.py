"""Losses as sums over rows with one global denominator, so that any split into micro-batches is
exact.

B: rows of a micro-batch, C: labels. A step's loss is ``sum over all its rows / denominator(all its
rows)``. Each micro-batch adds its part of the sum, already divided: the parts and their gradients
simply add up, on any number of ranks. (A mean of means, as most trainers take it, is wrong as soon
as the parts differ in size or weight.)
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from llmclf.train.config import TrainConfig


class Loss:
    """The loss of a run: callable on a micro-batch, with the denominator of any set of rows."""

    def __init__(
        self,
        config: TrainConfig,
        targets: np.ndarray,
        num_labels: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take the loss of ``config``, weighted by ``targets`` of all training rows, int64 (N,) or
        float32 (N, C) for multilabel. ``device``: where the logits will be."""
        self.config = config
        self.multilabel = targets.ndim == 2
        weight_C = (
            balanced_weights(targets, num_labels) if config.class_weights == "balanced" else None
        )
        self._host_weight_C = weight_C
        self.weight_C = None if weight_C is None else torch.from_numpy(weight_C).to(device)

    def denominator(self, targets: np.ndarray) -> float:
        """What the summed loss of a step with these targets is divided by.

        The number of rows, or with class weights the sum of their weights (as
        ``torch.nn.CrossEntropyLoss`` does).
        """
        if self._host_weight_C is None or self.multilabel:
            return float(len(targets))
        return float(self._host_weight_C[targets].sum())

    def __call__(self, logits_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss per row, fp32 (B,), not divided by anything. ``targets``: (B,) or (B, C)."""
        logits_BC = logits_BC.float()
        if self.multilabel:
            return self._binary(logits_BC, targets)
        if self.config.loss == "focal":
            nll_B = F.cross_entropy(logits_BC, targets, weight=self.weight_C, reduction="none")
            p_B = logits_BC.softmax(-1).gather(1, targets[:, None])[:, 0]
            return (1 - p_B) ** self.config.focal_gamma * nll_B
        smoothing = self.config.label_smoothing
        return F.cross_entropy(
            logits_BC, targets, weight=self.weight_C, reduction="none", label_smoothing=smoothing
        )

    def _binary(self, logits_BC: torch.Tensor, targets_BC: torch.Tensor) -> torch.Tensor:
        """Mean over the labels of binary cross entropies; the weights are those of positives."""
        smoothing = self.config.label_smoothing
        soft_BC = targets_BC * (1 - smoothing) + 0.5 * smoothing
        loss_BC = F.binary_cross_entropy_with_logits(
            logits_BC, soft_BC, pos_weight=self.weight_C, reduction="none"
        )
        if self.config.loss == "focal":
            p_BC = torch.where(targets_BC > 0.5, logits_BC.sigmoid(), (-logits_BC).sigmoid())
            loss_BC = (1 - p_BC) ** self.config.focal_gamma * loss_BC
        return loss_BC.mean(1)


def balanced_weights(targets: np.ndarray, num_labels: int) -> np.ndarray:
    """Weight per label, float32 (C,): ``N / (C * count)``; multilabel: negatives / positives.

    A label without a training row gets weight 1, and so does one that every row has.
    """
    if targets.ndim == 2:
        count_C = targets.sum(0)
        weight_C = (len(targets) - count_C) / np.maximum(count_C, 1)
    else:
        count_C = np.bincount(targets, minlength=num_labels)
        weight_C = len(targets) / (num_labels * np.maximum(count_C, 1))
    return np.where((count_C > 0) & (weight_C > 0), weight_C, 1.0).astype(np.float32)
