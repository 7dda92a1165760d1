"""bitsandbytes: what its layers keep beside their weights."""

from __future__ import annotations

from typing import Any

from torch import nn


def keep_layout(layer: nn.Module) -> None:
    """Stop a 4-bit layer from packing its weights anew in the first evaluation on a CPU with
    AVX-512 bf16: the new layout cannot be trained or sharded, and the way back rounds.

    The layer decides by an attribute that it sets itself; there is no option.
    """
    if hasattr(layer, "support_avx512bf16_for_cpu"):
        setattr(layer, "support_avx512bf16_for_cpu", False)  # noqa: B010


def quantization_state(layer: nn.Module) -> Any:
    """The scales of an 8-bit layer, None of a 4-bit one, whose weight holds them.

    The layer has no method that gives its weights in float.
    """
    return getattr(layer, "state", None)
