"""States of texts in a frozen model. N: rows, D: numbers of a state, L: layers that are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedTokenizerBase

from llmclf.compat.transformers import without_zero3_init
from llmclf.config import ConfigError
from llmclf.data.corpus import Split
from llmclf.data.encode import encode
from llmclf.features.config import FeaturesConfig
from llmclf.features.once import once
from llmclf.model.build import from_pretrained, load_config, load_tokenizer, max_tokens
from llmclf.model.config import LanguageModelConfig
from llmclf.model.family import frozen_family_of
from llmclf.model.pooling import StatePooling, declared_pooling, pool
from llmclf.model.quantize import check_quantized, frozen_quantization_config, keep_layout
from llmclf.train.config import Precision
from llmclf.train.predict import check_tokens, collator, predict_logits


@dataclass(frozen=True)
class OneProcess:
    """In the place of an Accelerator where new texts are classified, outside of a run."""

    device: torch.device = field(
        default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
    num_processes: int = 1
    process_index: int = 0
    is_main_process: bool = True


@dataclass(frozen=True, kw_only=True)
class FrozenModel:
    """A model that does not learn; its weights are loaded when the first text needs them."""

    model_config: LanguageModelConfig
    hf_config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    pooling: StatePooling
    layers: tuple[int, ...]
    """Blocks that are read, from 1."""
    max_length: int
    precision: Precision
    batch_size: int
    accelerator: Accelerator | OneProcess

    @classmethod
    def of(
        cls,
        model_config: LanguageModelConfig,
        config: FeaturesConfig,
        *,
        precision: Precision,
        max_length: int | None,
        accelerator: Accelerator | OneProcess,
    ) -> FrozenModel:
        """What the settings name. Raises ConfigError for a layer that the model has not, and for a
        model whose states are those of two stacks."""
        hf_config = load_config(model_config.checkpoint)
        if hf_config.is_encoder_decoder:
            raise ConfigError(
                f"model.checkpoint={model_config.checkpoint!r} ({hf_config.model_type}) has an "
                "encoder and a decoder, and no states that stand for a text. Give an encoder or a "
                "decoder."
            )
        family = frozen_family_of(hf_config)
        tokenizer = load_tokenizer(model_config.checkpoint, family)
        auto = config.pooling == "auto"
        declared = declared_pooling(model_config.checkpoint, hf_config) if auto else config.pooling
        assert declared != "auto"
        return cls(
            model_config=model_config,
            hf_config=hf_config,
            tokenizer=tokenizer,
            pooling=declared,
            layers=_layers(config, hf_config, model_config.checkpoint),
            max_length=max_tokens(hf_config, tokenizer, max_length, family),
            precision=precision,
            batch_size=config.batch_size,
            accelerator=accelerator,
        )

    @cached_property
    def backbone(self) -> Any:
        """The model without a head, in eval mode on the device."""
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[self.precision]
        quantize = self.model_config.quantize
        with without_zero3_init():
            model = from_pretrained(
                AutoModel,
                self.model_config.checkpoint,
                dtype=dtype,
                quantization_config=frozen_quantization_config(quantize, dtype),
            )
        check_quantized(model, quantize)
        keep_layout(model)
        return model.eval() if quantize != "none" else model.eval().to(self.accelerator.device)

    def states(self, split: Split) -> tuple[dict[int, np.ndarray], float]:
        """States of all rows by layer, each float32 (N, D), and the seconds that computing them
        took, whenever that was. All ranks call it, and all have the result."""
        states_NLD, seconds = once(self._key, split, self._compute)
        by_layer = {
            layer: np.ascontiguousarray(states_NLD[:, i]) for i, layer in enumerate(self.layers)
        }
        return by_layer, seconds

    @property
    def _key(self) -> tuple[Any, ...]:
        model = self.model_config
        settings = ("states", model.checkpoint, model.quantize, self.precision, self.pooling)
        return (*settings, self.layers, self.max_length)

    def fresh(self, split: Split, layer: int) -> np.ndarray:
        """States of all rows in one layer, float32 (N, D), computed now, whatever is kept; all
        ranks call it."""
        return self._compute(split)[:, self.layers.index(layer)]

    def _compute(self, split: Split) -> np.ndarray:
        """The states of these rows, float32 (N, L, D), divided over the ranks."""
        backbone = self.backbone
        encoded = encode(split, self.tokenizer, self.max_length)
        check_tokens(encoded, self.tokenizer, backbone, self.model_config.checkpoint)
        device = self.accelerator.device
        pooled_NK = predict_logits(
            _Pooled(backbone, self.pooling, self.layers),
            encoded,
            collator(self.hf_config, self.tokenizer, self.max_length, device),
            self.accelerator,
            batch_size=self.batch_size,
        )
        return pooled_NK.reshape(len(split), len(self.layers), -1)


class _Pooled(nn.Module):
    """The backbone with pooled states of several layers, side by side, in the place of logits."""

    def __init__(self, backbone: nn.Module, pooling: StatePooling, layers: Sequence[int]) -> None:
        super().__init__()
        self.backbone, self.pooling, self.layers = backbone, pooling, layers

    def forward(self, **batch: torch.Tensor) -> SimpleNamespace:
        hidden = self.backbone(**batch, output_hidden_states=True).hidden_states
        parts = [
            pool(hidden[layer], batch["attention_mask"], self.pooling) for layer in self.layers
        ]
        return SimpleNamespace(logits=torch.cat(parts, dim=1))


def _layers(
    config: FeaturesConfig, hf_config: PretrainedConfig, checkpoint: str
) -> tuple[int, ...]:
    count = hf_config.num_hidden_layers
    if config.layer is not None:
        if config.layer > count:
            raise ConfigError(
                f"features.layer={config.layer}: {checkpoint} has {count} blocks; allowed are 1 to "
                f"{count}, or leave it out."
            )
        return (config.layer,)
    if not config.search_folds:
        return (count,)
    return tuple(sorted({count, -(-3 * count // 4), -(-count // 2)}, reverse=True))
