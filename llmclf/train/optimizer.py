"""AdamW with per-layer learning rates, and the learning-rate schedule as a pure function of the
step."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

from llmclf.compat.deepspeed import whole_shape
from llmclf.model.config import Tune
from llmclf.model.family import Family, block_of, within
from llmclf.model.tune import count_blocks
from llmclf.train.config import TrainConfig

RATES = {"full": (1e-4, 1.25), "last_n": (3e-4, 1.0), "lora": (1e-3, 1.0), "head": (2e-3, 0.0)}
"""``model.tune`` -> the learning rate of a model of width 384, and by which power of the width it
falls."""


def default_rate(tune: Tune, width: int) -> float:
    """Peak learning rate where none is set, for what learns of a model with states of ``width``
    numbers.

    A wider model needs a smaller one under Adam (Yang et al. 2021). Measured at width 384; at 768,
    1024 and 4096 the powers give 4.2e-5, 2.9e-5 and 5.2e-6 for all weights, 5e-4, 3.8e-4 and 9.4e-5
    for LoRA: of the size that is published for BERT (Devlin et al. 2019), for RoBERTa with LoRA (Hu
    et al. 2021) and for Llama.
    """
    rate, power = RATES[tune]
    return float(f"{rate * (384 / width) ** power:.2g}")


def with_rate(config: TrainConfig, tune: Tune, model: PretrainedConfig) -> TrainConfig:
    """The settings with a learning rate: as given, or the default one of a model of this width."""
    if config.learning_rate is not None:
        return config
    width = model.get_text_config().hidden_size
    return replace(config, learning_rate=default_rate(tune, width))


def build_optimizer(model: nn.Module, config: TrainConfig, family: Family) -> torch.optim.AdamW:
    """AdamW over what learns, one parameter group per learning rate and weight decay.

    With ``layer_decay`` d, a block k layers below the head learns with ``learning_rate * d**k``
    (ELECTRA, Clark et al. 2020). Each group keeps its peak in ``peak_lr``.
    """
    assert config.learning_rate is not None
    top = count_blocks(model, family) + 1
    settings: list[dict[str, Any]] = []
    for (depth, decayed), parameters in parameter_groups(model, family, config).items():
        peak = config.learning_rate * config.layer_decay ** (top - depth)
        decay = config.weight_decay if decayed else 0.0
        settings.append({"params": parameters, "lr": peak, "peak_lr": peak, "weight_decay": decay})
    return torch.optim.AdamW(settings, fused=True)


def parameter_groups(
    model: nn.Module, family: Family, config: TrainConfig
) -> dict[tuple[int, bool], list[nn.Parameter]]:
    """What learns, by (depth, whether it has weight decay), in the order of the model.

    All are of one depth where depth makes no difference: ZeRO shards each group by itself, and
    stage 2 keeps the gradients of a parameter whole on every rank that has a part of it.
    """
    top = count_blocks(model, family) + 1
    groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            depth = _depth(name, family, top) if config.layer_decay != 1 else top
            groups[depth, len(whole_shape(parameter)) >= 2].append(parameter)
    return groups


def _depth(name: str, family: Family, top: int) -> int:
    """Depth of a parameter: 0 for what lies below the first block, ``i + 1`` for block i, ``top``
    for head and final norm."""
    block = block_of(name, family)
    if block is not None:
        return block + 1
    return top if within(name, family.head + family.final_norm) else 0


def schedule(config: TrainConfig, step: int, num_steps: int) -> float:
    """Factor on the peak learning rate for optimizer step ``step`` (0-based) of ``num_steps``."""
    num_warmup = math.ceil(config.warmup * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    if config.schedule == "constant":
        return 1.0
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return (
        1.0 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    )
