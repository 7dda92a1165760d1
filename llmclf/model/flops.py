"""Floating-point operations of training, by formula, for the real tokens (padding and recomputation
are not work).

A block does ``2 * weights`` per token for its matrix products, and for attention scores and values
``4 * width`` per pair of a token and one that it attends to (Kaplan et al. 2020, section 2.1; PaLM,
Chowdhery et al. 2022, appendix B). The backward pass costs as much again for the gradient of the
activations and once more for that of the weights. N: rows.
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
    (frozen weights need no gradient of their own), frozen blocks one. Local attention is counted as
    far as it reaches.

    ``config``: transformers' settings of the model; ``tune``, ``last_n``: which blocks learn.
    """
    num_blocks = count_blocks(model, family)
    weights = sum(
        p.numel()
        for name, p in model.named_parameters()
        if p.ndim >= 2 and block_of(name, family) is not None and "lora_" not in name
    )
    trained = {"full": num_blocks, "lora": num_blocks, "last_n": last_n, "head": 0}[tune]
    products = 2.0 * weights * float(lengths.sum())
    products *= 1 + (1.0 if tune == "lora" else 2.0) * trained / num_blocks
    by_block = [float(attended(config, family, i, lengths).sum()) for i in range(num_blocks)]
    # Both factors of attention's products are activations: two gradients, whatever learns.
    pairs = sum(by_block) + 2.0 * sum(by_block[num_blocks - trained :])
    return products + 4.0 * attention_width(config) * pairs


def attention_width(config: PretrainedConfig) -> int:
    """Numbers of a query over all heads; some models have wider heads than their states give."""
    head = getattr(config, "head_dim", None)
    return head * config.num_attention_heads if head else config.hidden_size


def attended(
    config: PretrainedConfig, family: Family, block: int, lengths: np.ndarray
) -> np.ndarray:
    """Pairs of a token and one that it attends to in a block, for rows of these lengths (N,)."""
    n = lengths.astype(np.float64)
    if config.model_type == "big_bird" and config.attention_type == "block_sparse":
        return _block_sparse(config, n)
    reach = _reach(config, block)
    if family.pooling == "last" and config.model_type != "xlnet":
        beyond = np.maximum(n - reach, 0)
        return (n * (n + 1) - beyond * (beyond + 1)) / 2
    beyond = np.maximum(n - reach, 1)  # there is 1 token at distance n - 1, none further
    return n * n - beyond * (beyond - 1)


def _reach(config: PretrainedConfig, block: int) -> float:
    """How many tokens away a block's attention sees to either side; of a decoder, how many tokens
    it sees, the token itself among them. Infinite where all are seen."""
    windows = getattr(config, "attention_window", None)
    if isinstance(windows, list):
        return windows[block] // 2
    window: int | None = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if window is None or (kinds is not None and kinds[block] != "sliding_attention"):
        return np.inf
    return window


def _block_sparse(config: PretrainedConfig, n: np.ndarray) -> np.ndarray:
    """Pairs of BigBird (Zaheer et al. 2020): a block of tokens attends to its neighbours, some
    random blocks, and the first and the last one, which attend to all."""
    size, random = config.block_size, config.num_random_blocks
    inner = (n - 4 * size) * (5 + random) * size
    edges = 2 * size * n + 2 * size * (4 + random) * size
    return np.where(n > (5 + 2 * random) * size, inner + edges, n * n)
