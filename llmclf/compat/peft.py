"""PEFT: the names that it gives to weights when it wraps a model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from peft import PeftModel


def base_weights(model: nn.Module) -> dict[str, Any]:
    """The weights under the names they had before PEFT wrapped the model; the head as it was at the
    start.

    PEFT gives the base model back only merged, or with its adapters thrown away.
    """
    return {
        name.replace(".base_layer", "").replace(".original_module", ""): tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if "lora_" not in name and ".modules_to_save." not in name
    }


def adapter_weights(model: PeftModel) -> dict[str, Any]:
    """The weights of ``adapter_model.safetensors``, so named that transformers reads all of them.

    PEFT saves DoRA's magnitudes without ``.weight``, and transformers then passes over them. With
    it, both read them.
    """
    from peft import get_peft_model_state_dict

    return {
        re.sub(r"\.lora_magnitude_vector$", r"\g<0>.weight", name): tensor.contiguous()
        for name, tensor in get_peft_model_state_dict(model).items()
    }
