"""Floating-point operations of training, by formula, for the real tokens (padding and recomputation
are not work).

Per token a block does ``2 * weights`` for its matrix products and ``4 * hidden_size * attended``
for attention scores and values (Kaplan et al. 2020, section 2.1; PaLM, Chowdhery et al. 2022,
appendix B). The backward pass costs as much again for the gradient of the activations and once more
for that of the weights.
"""

from __future__ import annotations

import numpy as np
from torch import nn
from transformers import PretrainedConfig

from llmclf.model.config import Tune
from llmclf.model.family import Family, block_of
from llmclf.model.tune import count_blocks

PEAK_FLOPS = {  # dense bf16, NVIDIA data sheets
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H200": 989.4e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
}


def training_flops(
    model: nn.Module,
    config: PretrainedConfig,
    family: Family,
    lengths: np.ndarray,
    *,
    tune: Tune,
    last_n: int,
) -> float:
    """Operations of one pass over rows of the given lengths in tokens (N,), forward and backward.

    A full fine-tune does three forward passes' worth of work, LoRA two of the matrix products
    (frozen weights need no gradient of their own), frozen blocks one. Windowed attention is counted
    as far as its window reaches.

    ``config``: transformers' settings of the model; ``tune``, ``last_n``: which blocks learn.
    """
    num_blocks = count_blocks(model, family)
    weights = sum(
        p.numel()
        for name, p in model.named_parameters()
        if p.ndim >= 2 and block_of(name, family) is not None and "lora_" not in name
    )
    window = getattr(config, "attention_window", None)
    reach = np.minimum(lengths, max(window)) if isinstance(window, list) else lengths
    causal = 0.5 if family.pooling == "last" and config.model_type != "xlnet" else 1.0
    attention = 4.0 * config.hidden_size * num_blocks * causal * float((lengths * reach).sum())
    products = 2.0 * weights * float(lengths.sum())
    trained = {"full": num_blocks, "lora": num_blocks, "last_n": last_n, "head": 0}[tune]
    share = trained / num_blocks
    # Both factors of attention's products are activations: two gradients, whatever learns.
    return products * (1 + (1.0 if tune == "lora" else 2.0) * share) + attention * (1 + 2.0 * share)
