"""What a micro-batch moves between host and device: its rows, once, and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from llmclf.data.corpus import Splits
from llmclf.model.config import ModelConfig
from llmclf.train import fine_tune
from llmclf.train.config import TrainConfig
from llmclf.train.loop import _Run
from llmclf.train.loss import Loss
from llmclf.train.predict import predict_logits
from tests.data.test_transfer import Recorder

LOSSES: list[dict[str, Any]] = [
    {"class_weights": "balanced"},
    {"loss": "focal", "class_weights": "balanced"},
    {"label_smoothing": 0.1},
]


class Model(nn.Module):
    """One layer that takes what a classifier takes."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.layer = nn.Embedding(100, 3, device=device)

    def forward(self, input_ids: torch.Tensor, **_: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.layer(input_ids).mean(1))


def task_on(
    device: str, splits: Splits, checkpoint: Path, **settings: Any
) -> tuple[fine_tune.PreparedFineTune, Any]:
    """What the loop needs of a run for the loss of some rows."""
    prepared = fine_tune.prepare(
        splits,
        model_config=ModelConfig(checkpoint=str(checkpoint)),
        config=TrainConfig(precision="fp32", min_steps=0, **settings),
        max_length=None,
        seed=0,
        weights=False,
    )
    collate = dataclasses.replace(prepared.task.collate, device=device)
    task = dataclasses.replace(prepared.task, collate=collate)
    loss = Loss(prepared.config, task.train.targets, len(task.labels), device=device)
    return prepared, SimpleNamespace(
        task=task, loss=loss, strategy=SimpleNamespace(model=Model(device))
    )


@pytest.mark.parametrize("settings", LOSSES)
def test_a_micro_batch_is_one_copy(splits: Splits, bert: Path, settings: dict[str, Any]) -> None:
    """On the meta device, which asks of torch what a GPU would."""
    _, run = task_on("meta", splits, bert, **settings)
    for rows in (np.arange(5), np.arange(9)):
        with Recorder() as recorder:
            _Run.rows_loss(run, rows).sum().backward()
        assert len(recorder.copies) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("settings", LOSSES)
def test_a_micro_batch_waits_for_nothing(
    splits: Splits, bert: Path, settings: dict[str, Any]
) -> None:
    _, here = task_on("cpu", splits, bert, **settings)
    _, run = task_on("cuda", splits, bert, **settings)
    run.strategy.model.load_state_dict(here.strategy.model.state_dict())
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [_Run.rows_loss(run, np.arange(n)) for n in (5, 9)]
        for loss_B in losses:
            loss_B.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for loss_B, n in zip(losses, (5, 9), strict=True):
        torch.testing.assert_close(loss_B.cpu(), _Run.rows_loss(here, np.arange(n)))


@pytest.mark.gpu
def test_an_evaluation_waits_once(splits: Splits, bert: Path) -> None:
    prepared, run = task_on("cuda", splits, bert)
    waits: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        cpu = torch.Tensor.cpu

        def counted(self: torch.Tensor) -> torch.Tensor:
            waits.append("cpu")
            torch.cuda.set_sync_debug_mode("default")
            return cpu(self)

        patch.setattr(torch.Tensor, "cpu", counted)
        torch.cuda.set_sync_debug_mode("error")
        try:
            predict_logits(
                run.strategy.model,
                run.task.validation,
                run.task.collate,
                prepared.accelerator,
                batch_size=5,
            )
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert waits == ["cpu"]
