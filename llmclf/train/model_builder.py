"""How the model of a run is made, in the three forms that a run needs: a meta model without memory,
the model to train, and the trained one put together again to be saved."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from llmclf.compat.deepspeed import is_sharded
from llmclf.compat.transformers import shards_on_loading, without_zero3_init
from llmclf.config import ConfigError
from llmclf.model.build import build_model
from llmclf.model.config import ModelConfig, Quantize
from llmclf.model.quantize import dequantize_into
from llmclf.model.tune import store_frozen, tune
from llmclf.train.checkpoint import load_learned
from llmclf.train.engine import EffectiveLaunch
from llmclf.train.launch_check import Strategy


@dataclass(frozen=True, kw_only=True)
class ModelBuilder:
    """All that decides a model's shape and its weights before training."""

    config: ModelConfig
    labels: tuple[str, ...]
    multilabel: bool
    pad_token_id: int
    max_length: int

    def build(self, config: ModelConfig, **how: Any) -> PreTrainedModel:
        """The model of ``config``, nothing of it marked as learning yet."""
        return build_model(
            config,
            labels=self.labels,
            multilabel=self.multilabel,
            pad_token_id=self.pad_token_id,
            max_length=self.max_length,
            **how,
        )

    def meta_model(self) -> PreTrainedModel | PeftModel:
        """The model's names and shapes on the meta device, never sharded or quantised."""
        return tune(self.build(self.config, weights=False), self.config)

    def load(self, seed: int, launch: EffectiveLaunch) -> PreTrainedModel | PeftModel:
        """The model to train; its new weights depend on the seed alone. Under ZeRO-3 all ranks must
        call this at once: the weights are sharded as they are loaded."""
        set_seed(seed)
        dtype = torch.bfloat16 if launch.precision == "bf16" else torch.float32
        model = self.build(self.config, dtype=dtype)
        set_seed(seed)  # sharding the weights may have drawn more random numbers, or fewer
        tuned = tune(model, self.config)
        if launch.autocast:
            store_frozen(tuned, dtype)
        if shards_on_loading():
            cast_unsharded(tuned, dtype)
        return tuned

    def rebuild(self, best: Path) -> PreTrainedModel | PeftModel:
        """The trained model, whole and on the CPU (on the GPU where it is to be saved quantised),
        from the base checkpoint and the best weights on the disk."""
        plain = dataclasses.replace(self.config, quantize="none")
        saved = plain if self.config.save == "merged" else self.config
        with without_zero3_init():
            model = self.build(saved)
            if self.config.quantize != saved.quantize:
                dequantize_into(self.build(self.config), model)
            tuned = tune(model, saved)
        load_learned(tuned, best)
        return tuned


def cast_unsharded(model: nn.Module, dtype: torch.dtype) -> None:
    """Bring what was added after loading, adapters and the head beside them, to the dtype of the
    sharded weights: DeepSpeed casts a model itself only if nothing of it is sharded yet, and then
    dies of mixed dtypes."""
    for parameter in model.parameters():
        if parameter.requires_grad and not is_sharded(parameter):
            parameter.data = parameter.data.to(dtype)


def strategy_problem(quantize: Quantize, strategy: Strategy) -> str | None:
    """Why weights quantised so cannot be trained by this strategy; None where they can."""
    if quantize == "int8" and strategy == "fsdp2":
        return (
            "bitsandbytes keeps 8-bit weights outside of the parameters that FSDP divides. "
            "Set --model.quantize nf4, or launch with launch/accelerate/ddp.yaml or zero2.yaml."
        )
    return None


def check_strategy(config: ModelConfig, launch: EffectiveLaunch) -> None:
    """Raise ConfigError for a method that this launch's strategy cannot train."""
    problem = strategy_problem(config.quantize, launch.strategy)
    if problem is not None:
        raise ConfigError(f"model.quantize={config.quantize!r} under {launch.strategy}: {problem}")
