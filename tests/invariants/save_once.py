"""Resume a toy run from FOLDER, take two steps, and save: the best weights, then everything."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from llmclf.train.checkpoint import Checkpoints
from llmclf.train.config import TrainConfig
from llmclf.train.engine import start_engine
from llmclf.train.strategy import TorchStrategy


def main(folder: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    accelerator = start_engine(TrainConfig(precision="fp32"))
    strategy = TorchStrategy(accelerator, model, optimizer, max_grad_norm=0.0)
    checkpoints = Checkpoints(Path(folder), accelerator)
    state = checkpoints.resume(strategy)
    for _ in range(2):
        strategy.backward(strategy.model(torch.randn(5, 4)).square().mean())
        strategy.step()
    state.step += 2
    state.best_step = state.step
    checkpoints.save_best(state, strategy)
    checkpoints.save(state, strategy)


if __name__ == "__main__":
    main(sys.argv[1])
