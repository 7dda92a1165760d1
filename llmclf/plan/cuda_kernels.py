"""What CUDA's kernels keep and make, in the place of the CPU's, for tracing without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

EFFICIENT_ATTENTION_ALIGNMENT = 16  # a mask of another width is padded, hence copied
LOGSUMEXP_ALIGNMENT = 32


@contextmanager
def cuda_kernels(amp: bool) -> Iterator[None]:
    """Replace what the CPU computes in another way than CUDA, so that CUDA's bytes are counted.

    Fused attention saves its inputs, output and a logsumexp per query, and no scores; dropout saves
    one byte an element; autocast computes normalisation and softmax in fp32
    (aten/src/ATen/autocast_mode.h). Patched by name: a TorchFunctionMode is off while the backward
    pass recomputes a checkpointed block.
    """

    def attention(
        query: Any, key: Any, value: Any, attn_mask: Any = None, *_: Any, **__: Any
    ) -> Any:
        if amp:
            query, key, value = (t.bfloat16() for t in (query, key, value))
        bias = None if attn_mask is None else _bias(attn_mask, query.dtype)
        return FusedAttention.apply(query, key, value, bias)

    def in_fp32(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, *args, **kwargs: function(x.float(), *args, **kwargs)

    with ExitStack() as stack:
        replace = lambda name, new: stack.enter_context(patch.object(F, name, new))  # noqa: E731
        replace("scaled_dot_product_attention", attention)
        replace("dropout", _dropout)
        for name in FP32_UNDER_AUTOCAST if amp else ():
            replace(name, in_fp32(getattr(F, name)))
        yield


FP32_UNDER_AUTOCAST = ("layer_norm", "group_norm", "softmax", "log_softmax")


def _dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return torch.native_dropout(x, p, training)[0] if training and p > 0 else x


def _bias(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Memory-efficient attention turns a boolean mask into numbers and pads its width."""
    width = -(-mask.shape[-1] // EFFICIENT_ATTENTION_ALIGNMENT) * EFFICIENT_ATTENTION_ALIGNMENT
    if mask.dtype != torch.bool and width == mask.shape[-1]:
        return mask.to(dtype)
    return torch.empty((*mask.shape[:-1], width), dtype=dtype)


class FusedAttention(torch.autograd.Function):
    """Shapes and saved tensors of flash or memory-efficient attention (Dao 2023; ATen
    ``_scaled_dot_product_efficient_attention``). B: rows, H: heads, T: tokens, D: head size."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, bias: Any) -> Any:
        batch, heads, tokens, _ = query.shape
        # The output comes as (B, T, H, D): putting the heads side by side copies nothing.
        out = query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)
        padded = -(-tokens // LOGSUMEXP_ALIGNMENT) * LOGSUMEXP_ALIGNMENT
        logsumexp = torch.empty(batch, heads, padded, dtype=torch.float32)
        saved = (query, key, value, out, logsumexp)
        ctx.save_for_backward(*saved if bias is None else (*saved, bias))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
