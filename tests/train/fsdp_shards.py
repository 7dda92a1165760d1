"""Save a model that FSDP2 has divided, on each of N ranks; started by test_fsdp_shards.py.

accelerate divides on accelerators only, so ``fully_shard`` is called as it calls it. The sizes do
not divide evenly, and of the last layer only the first rank has a row.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from llmclf.supervise.supervised import orderly_exit
from llmclf.train.checkpoint import Checkpoints, State
from llmclf.train.config import TrainConfig
from llmclf.train.engine import start_engine
from llmclf.train.strategy import TorchStrategy


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3), nn.Linear(3, 1))


class Divided(TorchStrategy):
    """TorchStrategy, but for accelerate's part."""

    def __init__(self, accelerator: object) -> None:
        model = build()
        mesh = init_device_mesh("cpu", (accelerator.num_processes,))
        for layer in model:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        self.accelerator, self.bare, self.model = accelerator, model, model
        self.optimizer = self._prepared = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        self.sharded = True

    def learn(self, steps: int) -> None:
        for step in range(steps):
            generator = torch.Generator().manual_seed(step)
            self.model(torch.randn(4, 5, generator=generator)).square().mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def full(self) -> dict[str, torch.Tensor]:
        return {n: p.detach().full_tensor() for n, p in self.bare.named_parameters()}


def main(folder: Path) -> None:
    accelerator = start_engine(TrainConfig(precision="fp32"))
    checkpoints = Checkpoints(folder / "checkpoints", accelerator)
    strategy = Divided(accelerator)
    strategy.learn(3)
    state = State(step=3, best_step=3)
    checkpoints.save_best(state, strategy)
    checkpoints.save(state, strategy)
    saved = strategy.full()
    strategy.learn(2)
    resumed = Divided(accelerator)
    assert checkpoints.resume(resumed) == state
    resumed.learn(2)
    for name, tensor in strategy.full().items():
        assert torch.equal(resumed.full()[name], tensor), name
    if accelerator.is_main_process:
        save_file(saved, folder / "full.safetensors")


if __name__ == "__main__":
    with orderly_exit():
        main(Path(sys.argv[1]))
