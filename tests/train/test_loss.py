"""Losses against torch and NumPy, and the property that makes any split of a step exact."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llmclf.train.config import TrainConfig
from llmclf.train.loss import Loss, balanced_weights

ROWS, LABELS = 23, 4
SINGLE = [
    {},
    {"class_weights": "balanced"},
    {"label_smoothing": 0.1},
    {"label_smoothing": 0.1, "class_weights": "balanced"},
    {"loss": "focal"},
    {"loss": "focal", "focal_gamma": 0.5, "class_weights": "balanced"},
]
MULTI = [
    {},
    {"class_weights": "balanced"},
    {"label_smoothing": 0.2},
    {"loss": "focal", "class_weights": "balanced"},
]
CASES = [*((c, False) for c in SINGLE), *((c, True) for c in MULTI)]


def rows(multilabel: bool, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Logits and unevenly distributed targets."""
    generator = np.random.default_rng(seed)
    logits_BC = torch.from_numpy(generator.normal(0, 3, (ROWS, LABELS)).astype(np.float32))
    if multilabel:
        return logits_BC, (generator.random((ROWS, LABELS)) < 0.3).astype(np.float32)
    return logits_BC, generator.choice(LABELS, ROWS, p=[0.6, 0.2, 0.15, 0.05]).astype(np.int64)


def whole(settings: dict[str, Any], logits: torch.Tensor, targets: np.ndarray) -> torch.Tensor:
    """The loss of a step that is one micro-batch."""
    loss = Loss(TrainConfig(**settings), targets, LABELS)
    return loss(logits, torch.from_numpy(targets)).sum() / loss.denominator(targets)


@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_mean(weights: Any, smoothing: float) -> None:
    logits, targets = rows(multilabel=False)
    counts = np.bincount(targets, minlength=LABELS)
    weight = torch.tensor(ROWS / (LABELS * counts)) if weights == "balanced" else None
    expected = F.cross_entropy(
        logits.double(), torch.from_numpy(targets), weight=weight, label_smoothing=smoothing
    )
    ours = whole({"class_weights": weights, "label_smoothing": smoothing}, logits, targets)
    assert float(ours) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_focal_loss_is_the_papers_formula(gamma: float, weights: Any) -> None:
    """Lin et al. 2017, equation 5: -alpha_t (1 - p_t)^gamma log p_t."""
    logits, targets = rows(multilabel=False)
    exp = np.exp(logits.double().numpy())
    p = (exp / exp.sum(1, keepdims=True))[np.arange(ROWS), targets]
    weight = ROWS / (LABELS * np.bincount(targets, minlength=LABELS))
    alpha = weight[targets] if weights == "balanced" else np.ones(ROWS)
    expected = (-alpha * (1 - p) ** gamma * np.log(p)).sum() / alpha.sum()
    settings = {"loss": "focal", "focal_gamma": gamma, "class_weights": weights}
    assert float(whole(settings, logits, targets)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_multilabel_is_torchs_binary_cross_entropy(weights: Any, smoothing: float) -> None:
    logits, targets = rows(multilabel=True)
    positives = targets.sum(0)
    ratio = torch.from_numpy((ROWS - positives) / positives) if weights == "balanced" else None
    soft = torch.from_numpy(targets * (1 - smoothing) + smoothing / 2).double()
    expected = F.binary_cross_entropy_with_logits(logits.double(), soft, pos_weight=ratio)
    ours = whole({"class_weights": weights, "label_smoothing": smoothing}, logits, targets)
    assert float(ours) == pytest.approx(float(expected), rel=1e-6)


def test_multilabel_focal_loss_is_the_binary_formula() -> None:
    logits, targets = rows(multilabel=True)
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    p_t = np.where(targets == 1, p, 1 - p)
    expected = (-((1 - p_t) ** 2) * np.log(p_t)).mean()
    assert float(whole({"loss": "focal"}, logits, targets)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("settings", "multilabel"), CASES)
def test_any_split_adds_up_to_the_whole(settings: dict[str, Any], multilabel: bool) -> None:
    logits, targets = rows(multilabel)
    loss = Loss(TrainConfig(**settings), targets, LABELS)
    logits.requires_grad_()
    expected = whole(settings, logits, targets)
    (gradient,) = torch.autograd.grad(expected, logits)
    cuts = [[0, ROWS], [0, 1, 2, 22, ROWS], [0, 7, 7, 14, ROWS], list(range(ROWS + 1))]
    for cut in cuts:
        parts = [slice(a, b) for a, b in itertools.pairwise(cut)]
        denominator = loss.denominator(targets)
        losses = [
            loss(logits[part], torch.from_numpy(targets[part])).sum() / denominator
            for part in parts
        ]
        total = torch.stack([part.double() for part in losses]).sum()
        assert total.item() == pytest.approx(expected.item(), rel=3e-7)
        (split,) = torch.autograd.grad(total, logits, retain_graph=True)
        assert torch.allclose(split, gradient, rtol=1e-6, atol=1e-9)


def test_a_bf16_forward_is_scored_in_fp32() -> None:
    logits, targets = rows(multilabel=False)
    per_row = Loss(TrainConfig(), targets, LABELS)(logits.bfloat16(), torch.from_numpy(targets))
    assert per_row.dtype == torch.float32
    assert per_row.shape == (ROWS,)


def test_balanced_weights_give_each_label_the_same_total() -> None:
    targets = np.array([0] * 6 + [1] * 3 + [2])
    weight = balanced_weights(targets, 3)
    assert weight * np.bincount(targets) == pytest.approx([10 / 3] * 3)
    assert weight[targets].sum() == pytest.approx(len(targets))


def test_balanced_weights_of_a_label_that_no_row_or_every_row_has_is_one() -> None:
    assert balanced_weights(np.array([0, 0, 1]), 3).tolist() == [0.5, 1.0, 1.0]
    every_none_half = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0]], np.float32)
    assert balanced_weights(every_none_half, 3).tolist() == [1.0, 1.0, 2.0]
