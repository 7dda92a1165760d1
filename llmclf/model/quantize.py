"""8- and 4-bit weights by bitsandbytes: what is quantised, in which storage, and the way back.

Only the linear layers inside the backbone are quantised, and none of them learns: the head learns
in float, and with ``lora`` the adapters. int8: LLM.int8 (Dettmers et al. 2022). nf4: 4-bit normal
floats with double quantisation (QLoRA, Dettmers et al. 2023).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmclf.compat import bitsandbytes
from llmclf.compat.transformers import dequantized
from llmclf.config import ConfigError
from llmclf.model.config import Quantize
from llmclf.model.family import Family


def quantization_config(
    quantize: Quantize, family: Family, dtype: torch.dtype
) -> BitsAndBytesConfig | None:
    """The settings for ``from_pretrained``; ``dtype`` is the one that training computes in.

    Every module of the head is left out by name: transformers itself leaves out the last one at
    most, and a quantised layer cannot learn. 4-bit weights are stored as ``dtype``, several to a
    number, since ZeRO-3 and FSDP shard tensors of floating point only.
    """
    return _settings(quantize, dtype, list(family.head))


def frozen_quantization_config(quantize: Quantize, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """The settings for ``from_pretrained`` of a model that does not learn: transformers leaves its
    output layer in float."""
    return _settings(quantize, dtype, None)


def _settings(
    quantize: Quantize, dtype: torch.dtype, heads: list[str] | None
) -> BitsAndBytesConfig | None:
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=heads)
    if quantize == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=dtype,
            llm_int8_skip_modules=heads,  # serves 4 bits, too
        )
    return None


def is_quantized(module: nn.Module) -> bool:
    """Whether a module is a linear layer of bitsandbytes."""
    # Its own, by the public way: the wrappers of PEFT have a property of this name.
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return type(weight).__name__ in ("Params4bit", "Int8Params")


def keep_layout(model: nn.Module) -> None:
    """Have 4-bit layers keep their weights as they are also in evaluation."""
    for module in model.modules():
        if is_quantized(module):
            bitsandbytes.keep_layout(module)


def check_quantized(model: PreTrainedModel, quantize: Quantize) -> None:
    """Raise ConfigError where there was no layer to quantise."""
    if quantize != "none" and not any(is_quantized(m) for m in model.modules()):
        raise ConfigError(
            f"model.quantize={quantize!r}: {type(model).__name__} has no linear layer below its "
            "head. Set --model.quantize none."
        )


def dequantize_into(quantized: nn.Module, plain: nn.Module) -> None:
    """Overwrite the weights of ``plain``, the same model in float, with what the quantised ones
    stand for."""
    targets = dict(plain.named_modules())
    for name, module in quantized.named_modules():
        if is_quantized(module):
            weight_OI: Any = dequantized(
                cast(nn.Parameter, module.weight), bitsandbytes.quantization_state(module)
            )
            target = targets[name]
            # bitsandbytes has turned GPT-2's Conv1D, which holds the transposed matrix, into a
            # linear layer. Some matrices are square: the shape does not show it.
            if isinstance(target, Conv1D):
                weight_OI = weight_OI.T
            with torch.no_grad():
                target.weight.copy_(weight_OI)
