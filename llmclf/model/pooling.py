"""How a checkpoint wants the states of its tokens made into one of the text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from transformers import PretrainedConfig
from transformers.utils import cached_file

from llmclf.model.build import locate
from llmclf.model.family import frozen_family_of

StatePooling = Literal["mean", "first", "last"]
"""Which states of a text's tokens become the state of the text."""

_DECLARED: dict[str, StatePooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}
"""Keys of ``1_Pooling/config.json`` as sentence-transformers writes it."""


def declared_pooling(checkpoint: str, config: PretrainedConfig) -> StatePooling:
    """Pooling that the checkpoint declares; else the last token of decoders, which alone has seen
    the whole text, and the mean of encoders, whose first token was perhaps never trained."""
    declared = _declared(checkpoint)
    for key, pooling in _DECLARED.items():
        if declared.get(key) is True:
            return pooling
    named = getattr(config, "classifier_pooling", None)  # ModernBERT
    if named in ("mean", "cls"):
        return "mean" if named == "mean" else "first"
    return "last" if frozen_family_of(config).pooling == "last" else "mean"


def _declared(checkpoint: str) -> dict[str, object]:
    located, name = locate(checkpoint), "1_Pooling/config.json"
    if Path(located).is_dir():
        path: str | None = str(Path(located) / name)
    else:
        # None where the hub has no such file, or cannot be reached.
        path = cached_file(located, name, _raise_exceptions_for_missing_entries=False,
                           _raise_exceptions_for_connection_errors=False)  # fmt: skip
    if path is None or not Path(path).is_file():
        return {}
    stored = json.loads(Path(path).read_text(encoding="utf-8"))
    return stored if isinstance(stored, dict) else {}


def pool(states_BTD: torch.Tensor, mask_BT: torch.Tensor, pooling: StatePooling) -> torch.Tensor:
    """One state of each text, float32 (B, D); padding may be on either side."""
    if pooling == "mean":
        weight_BT1 = mask_BT[:, :, None].float()
        return (states_BTD.float() * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)
    place_T = torch.arange(1, mask_BT.shape[1] + 1, device=mask_BT.device)
    if pooling == "last":
        chosen_B = (place_T * mask_BT).argmax(1)
    else:
        chosen_B = mask_BT.argmax(1)
    return states_BTD[torch.arange(len(chosen_B), device=mask_BT.device), chosen_B].float()
