"""Attention of many rows to one prefix that they share, computed once.

Each row attends to the prefix and, causally, to itself; the two parts are merged by their
log-sum-exp (as in Hydragen, Juravsky et al. 2024). So no row holds a copy of the prefix, and there
is no mask over it.

B: rows, H: heads, G: query heads per key head, L: new tokens, T: those of them in a line, J: nodes
of the answers' tree behind them, P: prefix tokens, D: head size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface

from llmclf.compat.torch import attention_on_cpu, attention_on_cuda
from llmclf.compat.transformers import layer_index

NAME = "shared_prefix"
"""Name of this function among transformers' attention implementations."""
NOT_SUPPORTED = ("softcap", "s_aux", "head_mask", "position_bias")
"""Arguments of attention functions that change the scores in ways not computed here."""


@dataclass
class SharedPrefix:
    """Keys and values of the prefix, one pair for each layer, and how a batch attends."""

    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    """Layer -> keys, values, each (1, H / G, P, D)."""
    recording: bool = False
    """Whether the tokens that come now lengthen the prefix."""
    node_mask_BJL: torch.Tensor | None = None
    """Bool (B, J, T + J): what the nodes see of their own row; None where all tokens are in a
    line."""

    @property
    def length(self) -> int:
        """Number of tokens of the prefix, P."""
        return next((keys.shape[2] for keys, _ in self.layers.values()), 0)

    def crop(self, length: int) -> None:
        """Keep the first ``length`` tokens. (The CPU's kernel divides by the number of keys: none
        are no layer.)"""
        if not length:
            self.layers = {}
        self.layers = {
            i: (k[:, :, :length].contiguous(), v[:, :, :length].contiguous())
            for i, (k, v) in self.layers.items()
        }


def shared_prefix_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    shared_prefix: SharedPrefix,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Query (B, H, L, D), keys and values (B, H / G, L, D) -> (B, L, H, D).

    Raises NotImplementedError for an attention that is more than a softmax of scaled products.

    ``shared_prefix``: what the rows attend to beside themselves; ``scaling``: factor on the
    products, None: by the head size; ``sliding_window``: most tokens that a query may see.
    """
    unknown = [name for name in NOT_SUPPORTED if kwargs.get(name) is not None]
    if attention_mask is not None:
        unknown.append("attention_mask")
    layer = layer_index(module)
    if sliding_window is not None and shared_prefix.length + query.shape[2] > sliding_window:
        unknown.append(f"sliding_window={sliding_window}")
    if unknown:
        raise NotImplementedError(f"{type(module).__name__} uses {', '.join(unknown)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out, lse = _own(query, key, value, shared_prefix.node_mask_BJL, scale)
    before = shared_prefix.layers.get(layer)
    if before is not None:
        keys, values = before
        out = _merged(out, lse, *_prefix(query, keys, values, scale))
    if shared_prefix.recording:
        if before is not None:
            key, value = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        shared_prefix.layers[layer] = (key, value)
    return out.transpose(1, 2), None


AttentionInterface.register(NAME, shared_prefix_attention)


def _own(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    node_mask_BJL: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of each row to its own tokens, with the log-sum-exp (B, H, L)."""
    if node_mask_BJL is None:
        return attend(query, key, value, scale, causal=True)
    nodes = node_mask_BJL.shape[1]
    line = query.shape[2] - nodes
    out, lse = attend(query[:, :, line:], key, value, scale, mask=node_mask_BJL[:, None])
    if not line:
        return out, lse
    # Padding lies behind a row's line, where a causal mask hides it.
    first, first_lse = attend(
        query[:, :, :line], key[:, :, :line], value[:, :, :line], scale, causal=True
    )
    return torch.cat([first, out], 2), torch.cat([first_lse, lse], 2)


def _prefix(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of all rows to the prefix: all tokens of all rows, and the heads that share a key
    head, are the queries of one matrix product."""
    B, H, L, D = query.shape
    K = key.shape[1]
    folded = query.view(B, K, H // K, L, D).permute(1, 0, 2, 3, 4).reshape(1, K, -1, D)
    out, lse = attend(folded, key, value, scale)
    out = out.view(K, B, H // K, L, D).permute(1, 0, 2, 3, 4).reshape(B, H, L, D)
    return out, lse.view(K, B, H // K, L).permute(1, 0, 2, 3).reshape(B, H, L)


def _merged(
    out: torch.Tensor, lse: torch.Tensor, other: torch.Tensor, other_lse: torch.Tensor
) -> torch.Tensor:
    """Attention over prefix and row together, from both parts and their log-sum-exp."""
    return torch.lerp(out, other, torch.sigmoid(other_lse - lse)[..., None].to(out.dtype))


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    *,
    causal: bool = False,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention with its log-sum-exp, fp32 (B, H, L), by the device's fused kernel.

    ``mask``: bool, broadcast to (B, H, L, S); every query must see a key.

    ``scale``: factor on the products; ``causal``: whether later keys are hidden from a query.
    """
    if query.device.type == "cpu":
        bias = None
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, -math.inf)
        return attention_on_cpu(query, key, value, causal=causal, bias=bias, scale=scale)
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if query.device.type == "cuda" and mask is None:
        return attention_on_cuda(query, key, value, causal=causal, scale=scale)
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(value.dtype) @ value, lse
