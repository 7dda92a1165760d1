"""PyTorch: tensors without memory, what an operation makes, fused attention with its log-sum-exp,
and where a shard begins."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["TorchDispatchMode"]  # to see every operation; the modes of torch.overrides miss those
# of the backward pass


def fake_tensors() -> AbstractContextManager[Any]:
    """Tensors made in this block have a shape, a type and a device, and no memory.

    The meta device is public, but has no other device's rules, by which kernels are chosen.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode(allow_non_fake_inputs=True)


def real_tensors() -> AbstractContextManager[Any]:
    """The way out of :func:`fake_tensors` for a block within."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    return unset_fake_temporarily()


def tensors_in(result: Any) -> list[torch.Tensor]:
    """The tensors of whatever an operation gave. PyTorch's walk through nested values is
    private."""
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def storage_key(tensor: torch.Tensor) -> int:
    """Tells a tensor's storage from all others that are alive.

    ``data_ptr()`` does not where there is no memory, and a storage is a new Python object each time
    it is asked for.
    """
    return tensor.untyped_storage()._cdata


def start_of_shard(tensor: Any) -> tuple[int, ...]:
    """Index of a DTensor's first local element in the whole tensor, along each dimension; empty
    for a scalar. What is public gives the local part, and not its place."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    _, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return tuple(offset)


def attention_on_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    causal: bool,
    bias: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The CPU's fused attention and its log-sum-exp, fp32 (rows, heads, queries).

    ``scaled_dot_product_attention`` computes the latter and keeps it to itself.
    """
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=bias, scale=scale
    )


def attention_on_cuda(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """CUDA's memory-efficient attention and its log-sum-exp, fp32 (rows, heads, queries), which its
    kernel pads."""
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, None, True, 0.0, causal, scale=scale
    )
    return out, lse[..., : query.shape[2]]
