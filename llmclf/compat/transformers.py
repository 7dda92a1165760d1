"""transformers: what it remembers of DeepSpeed, of attention and of quantisation.

It is imported in the functions: the embedded checkpoints need one of them, without their callers
having to wait for transformers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


@contextlib.contextmanager
def without_zero3_init() -> Iterator[None]:
    """Load whole models in this block, also where the launch asks for ZeRO-3: transformers then
    shards each one over the ranks as it is made.

    The settings that it goes by can be set and unset in public, but not read to be set again.
    """
    from transformers.integrations import deepspeed

    kept = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = kept


def shards_on_loading() -> bool:
    """Whether the launch asks transformers to shard weights as they are loaded (ZeRO-3).

    It is asked by the settings that accelerate keeps alive; what accelerate was asked for is
    another thing.
    """
    from transformers.integrations import deepspeed

    return bool(deepspeed.is_deepspeed_zero3_enabled())


def attention_implementation(model: PreTrainedModel) -> str:
    """The name to give ``set_attn_implementation`` to keep a model's attention as it is now, which
    no public attribute tells."""
    name: str = model.config._attn_implementation
    return name


def layer_index(attention: nn.Module) -> int:
    """Which of the model's layers an attention module is in, from 0.

    A registered attention function is handed the module, and nothing else that tells.
    """
    index: Any = attention.layer_idx
    return index


def forget_quantizer(model: PreTrainedModel) -> None:
    """Let a model that was loaded from GGUF, and is in float, be saved.

    ``save_pretrained`` refuses a model that still calls itself quantised, and ``dequantize()`` is
    not implemented for GGUF.
    """
    model.hf_quantizer = None  # type: ignore[assignment]
    del model.config.quantization_config


def dequantized(weight: torch.nn.Parameter, state: Any) -> torch.Tensor:
    """A weight of bitsandbytes in float; ``state``: the scales of an 8-bit one.

    ``dequantize()`` is for whole models; the trained one is to keep its quantised layers.
    """
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    return dequantize_bnb_weight(weight, state)
