"""transformers: what it remembers of DeepSpeed, of attention and of quantisation, and where and in
which dtype it makes weights.

It is imported in the functions: the embedded checkpoints need one of them, without their callers
having to wait for transformers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
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


@contextlib.contextmanager
def missing_made_on_cpu() -> Iterator[None]:
    """In this block ``from_pretrained`` makes what a checkpoint lacks on the CPU, whatever device
    the rest is loaded onto: new weights are then the same numbers on every machine.

    It makes them on their device, by that device's random numbers; with more than one device in
    ``device_map`` it would also put hooks into the model.
    """
    from transformers import PreTrainedModel

    original = PreTrainedModel._move_missing_keys_from_meta_to_device

    def on_cpu(model: Any, missing: Any, device_map: Any, *rest: Any) -> None:
        original(model, missing, None, *rest)

    PreTrainedModel._move_missing_keys_from_meta_to_device = on_cpu  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        PreTrainedModel._move_missing_keys_from_meta_to_device = original  # type: ignore[method-assign]


@contextlib.contextmanager
def loaded_in(dtype: torch.dtype, names: Collection[str]) -> Iterator[None]:
    """In this block ``from_pretrained`` loads the parameters of these names in ``dtype``, and the
    others as it is told.

    It takes one dtype for a whole model, but loads each weight in that of the parameter which is
    to hold it. The first it asks a model without weights is the plan of dtypes.
    """
    from transformers import PreTrainedModel

    original = PreTrainedModel._get_dtype_plan

    def narrowed(model: Any, whole: Any) -> Any:
        for name in names:
            parameter = model.get_parameter(name)
            parameter.data = parameter.data.to(dtype)
        return original(model, whole)

    PreTrainedModel._get_dtype_plan = narrowed  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        PreTrainedModel._get_dtype_plan = original  # type: ignore[method-assign]


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
