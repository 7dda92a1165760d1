"""What sets the strategies of launch/ apart, behind the five things the loop does with a model:
accumulate, backward, step, and read and write the parts of its parameters.

Single process and DDP step by PyTorch (:class:`TorchStrategy`), FSDP2 likewise, on shards
(:class:`FsdpStrategy`), ZeRO by DeepSpeed (:class:`DeepSpeedStrategy`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from llmclf.compat.deepspeed import share_of, update_weights, wrapped_optimizer
from llmclf.compat.torch import start_of_shard
from llmclf.model.quantize import is_quantized
from llmclf.train.engine import strategy_of

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state beside the step count."""


@dataclass(frozen=True)
class Fragment:
    """The part of one parameter that this rank updates: everything, or its share."""

    start: int
    """Place of the part's first element in the flattened parameter."""
    weight: torch.Tensor
    """The part's weights, fp32 (elements,); a view: writing into it changes the parameter."""
    moments: dict[str, torch.Tensor]
    """AdamW's ``exp_avg`` and ``exp_avg_sq``, fp32 (elements,); views, as ``weight`` is."""


class TorchStrategy:
    """Steps taken by PyTorch, with whole parameters on every rank."""

    sharded = False

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        max_grad_norm: float,
    ) -> None:
        self.accelerator = accelerator
        self.bare = model
        self.model, self._prepared = accelerator.prepare(model, optimizer)
        self.optimizer = optimizer
        self.max_grad_norm = max_grad_norm or math.inf

    def accumulate(self, *, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward: ranks add up their gradients in the last micro-batch."""
        return contextlib.nullcontext() if last else self.accelerator.no_sync(self.model)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of this rank's share of the step's loss."""
        # Gradients are averaged over the ranks; the loss is a sum over all of them.
        self.accelerator.backward(loss * self.accelerator.num_processes)

    def step(self) -> float:
        """Clip, update and clear the gradient; returns its norm before clipping. If that is not
        finite, nothing was updated."""
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_grad_norm))
        if math.isfinite(norm):
            self._prepared.step()
        self._prepared.zero_grad()
        return norm

    def fragments(self) -> dict[str, Fragment]:
        """This rank's part of each parameter that learns, with its moments (zero before the first
        step)."""
        fragments = {}
        for name, parameter in self.bare.named_parameters():
            if parameter.requires_grad:
                state = self.optimizer.state[parameter]
                _start_state(state, parameter)
                start, weight = _local(parameter.detach())
                moments = {key: _local(state[key])[1] for key in MOMENTS}
                fragments[name] = Fragment(start, weight, moments)
        return fragments

    def written(self, step: int) -> None:
        """Take note that fragments were overwritten with those of optimizer step ``step``."""
        for state in self.optimizer.state.values():
            state["step"].fill_(step)


class FsdpStrategy(TorchStrategy):
    """Steps taken by PyTorch on the shards of FSDP2."""

    sharded = True

    def accumulate(self, *, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward: ranks add up their gradients in each micro-batch, or every
        rank would keep the gradients of the whole model until the last."""
        return contextlib.nullcontext()

    def fragments(self) -> dict[str, Fragment]:
        """This rank's shard of each parameter that learns, with its moments."""
        for module in self.bare.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # the root stays whole after a forward pass without a backward one
        return super().fragments()


class DeepSpeedStrategy:
    """Steps taken by DeepSpeed's ZeRO, from and into its partitions.

    Its own checkpoints are pickled and bound to a stage and a number of ranks; these are neither.
    """

    sharded = True

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        max_grad_norm: float,
    ) -> None:
        self.accelerator = accelerator
        self.bare = model
        self.model, _ = accelerator.prepare(model, optimizer)
        self.optimizer = optimizer
        asked = strategy_of(accelerator)
        assert asked.startswith(f"zero{self.model.zero_optimization_stage()}")
        assert self.model.gradient_accumulation_steps() == 1
        assert self.model.gradient_clipping() == max_grad_norm

    def accumulate(self, *, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward: DeepSpeed adds up gradients in the last micro-batch."""
        self.model.set_gradient_accumulation_boundary(is_boundary=last)
        return contextlib.nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of this rank's share of the step's loss; not through accelerate, which
        would step as well."""
        self.model.backward(loss * self.accelerator.num_processes, scale_wrt_gas=False)

    def step(self) -> float:
        """Clip, update and clear the gradient; returns its norm before clipping."""
        self.model.step()
        applied = self.model.was_step_applied()
        return float(self.model.get_global_grad_norm()) if applied else math.inf

    def fragments(self) -> dict[str, Fragment]:
        """This rank's share of each parameter that learns, out of ZeRO's partitions, with its
        moments."""
        fragments = {}
        states, rank = wrapped_optimizer(self.model).state, self.accelerator.process_index
        for name, parameter in self.bare.named_parameters():
            share = share_of(self.model, parameter, rank) if parameter.requires_grad else None
            if share is not None:
                flat, first, size = share.flat, share.first, share.size
                state = states[flat]
                _start_state(state, flat)
                moments = {key: state[key].narrow(0, first, size) for key in MOMENTS}
                weight = flat.detach().narrow(0, first, size)
                fragments[name] = Fragment(share.start, weight, moments)
        return fragments

    def written(self, step: int) -> None:
        """Have the weights that compute follow fragments overwritten with those of optimizer step
        ``step``."""
        for state in wrapped_optimizer(self.model).state.values():
            state["step"].fill_(step)
        update_weights(self.model)


def start_strategy(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    max_grad_norm: float,
    block: str,
) -> TorchStrategy | DeepSpeedStrategy:
    """Hand model and optimizer over to what this launch asks for. ``max_grad_norm``: the norm that
    gradients are clipped to, 0: none; ``block``: class of the model's transformer blocks."""
    asked = strategy_of(accelerator)
    kind: type[TorchStrategy | DeepSpeedStrategy] = TorchStrategy
    if asked.startswith("zero"):
        kind = DeepSpeedStrategy
    if asked == "fsdp2":
        kind = FsdpStrategy
        _shard_by_block(accelerator, block)
        # The first rank alone has the weights (ModelBuilder.load_once), bitsandbytes' layers aside.
        # Set in the launch file, transformers would load them on the first rank of each machine.
        plugin = accelerator.state.fsdp_plugin
        plugin.cpu_ram_efficient_loading = not any(is_quantized(m) for m in model.modules())
    return kind(accelerator, model, optimizer, max_grad_norm=max_grad_norm)


def _shard_by_block(accelerator: Accelerator, block: str) -> None:
    """Have FSDP2 make a unit of each transformer block, and add up gradients in fp32.

    Left to itself, accelerate shards what transformers will not split over devices: parts of a
    block within the block, embeddings within themselves, or nothing at all.
    """
    plugin = accelerator.state.fsdp_plugin
    plugin.transformer_cls_names_to_wrap = [block]
    if plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = dataclasses.replace(
            plugin.mixed_precision_policy, reduce_dtype=torch.float32
        )


def _start_state(state: dict[str, Any], parameter: torch.Tensor) -> None:
    """AdamW makes its state in the first step; a checkpoint may need it before."""
    if not state:
        device = parameter.device
        state["step"] = torch.zeros((), dtype=torch.float32, device=device)
        for key in MOMENTS:
            state[key] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def _local(tensor: torch.Tensor) -> tuple[int, torch.Tensor]:
    """``(start, flat view)`` of this rank's part of a tensor."""
    if not isinstance(tensor, DTensor):
        return 0, tensor.view(-1)
    offset = start_of_shard(tensor)
    row = tensor.numel() // tensor.shape[0] if tensor.ndim else 1
    return (offset[0] if offset else 0) * row, tensor.to_local().view(-1)
