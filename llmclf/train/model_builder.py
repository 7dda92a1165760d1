"""How the model of a run is made, in the three forms that a run needs: a meta model without memory,
the model to train, and the trained one put together again to be saved."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, set_seed
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from llmclf import ranks
from llmclf.compat.deepspeed import is_sharded
from llmclf.compat.transformers import shards_on_loading, without_zero3_init
from llmclf.config import ConfigError
from llmclf.model.build import build_model
from llmclf.model.config import ModelConfig, Quantize
from llmclf.model.family import family_of, within
from llmclf.model.quantize import dequantize_into
from llmclf.model.tune import frozen_matrices, stand_ins, store_frozen, tune
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

    def load(
        self, seed: int, launch: EffectiveLaunch, device: torch.device
    ) -> PreTrainedModel | PeftModel:
        """The model to train on ``device``; its new weights depend on the seed alone. Where
        :func:`loads_together` says so, all ranks must call this at once."""
        if loads_once(self.config, launch):
            return self.load_once(seed, launch)
        return self.load_here(seed, launch, None if shards_on_loading() else device)

    def load_here(
        self, seed: int, launch: EffectiveLaunch, device: torch.device | None
    ) -> PreTrainedModel | PeftModel:
        """The model on this rank's device, without a copy in the memory of the host; under ZeRO-3
        (None) it is sharded as it is loaded."""
        dtype = torch.bfloat16 if launch.precision == "bf16" else torch.float32
        narrow = self.narrow(launch)
        set_seed(seed)
        model = self.build(self.config, dtype=dtype, narrow=narrow, device=device)
        set_seed(seed)  # sharding the weights may have drawn more random numbers, or fewer
        lora = self.config.tune == "lora"
        with stand_ins(model) if narrow and lora else contextlib.nullcontext():
            tuned = tune(model, self.config)
        if launch.autocast:
            store_frozen(tuned, dtype)
        if device is None:
            cast_unsharded(tuned, dtype)
        else:
            bring(tuned, device)
        return tuned

    def narrow(self, launch: EffectiveLaunch) -> frozenset[str]:
        """Names of the parameters of the checkpoint that training keeps in bf16: loaded so, they
        are the same numbers, and no device holds them in fp32 meanwhile. ZeRO keeps all of them
        so; DoRA measures the matrices while they are in fp32."""
        ddp, zero = launch.autocast, launch.strategy in ("zero1", "zero2")
        dora = self.config.tune == "lora" and self.config.lora_variant == "dora"
        if (
            launch.precision != "bf16"
            or self.config.quantize != "none"
            or dora
            or not (ddp or zero)
        ):
            return frozenset()
        model = self.build(self.config, weights=False)
        names = {id(p): name for name, p in model.named_parameters()}
        family = family_of(model.config)
        made_anew = family.head + family.unused  # they may be: drawn in fp32
        tuned = tune(model, self.config)
        kept = frozen_matrices(tuned) if ddp else tuned.parameters()
        found = (names[id(p)] for p in kept if id(p) in names)
        return frozenset(name for name in found if not within(name, made_anew))

    def load_once(self, seed: int, launch: EffectiveLaunch) -> PreTrainedModel | PeftModel:
        """The model on the CPU of the first rank alone. The others have its shapes, which take no
        memory, until FSDP2 gives each rank its shards; a mistake that the first finds is raised by
        all."""
        model: PreTrainedModel | PeftModel | None = None
        found: Any = None
        if ranks.is_main():
            try:
                model = self.load_here(seed, launch, torch.device("cpu"))
                found = dict(model.named_buffers())
            except ConfigError as error:
                found = error
        [found] = broadcast_object_list([found])
        if isinstance(found, ConfigError):
            raise found
        return shapes_alone(self.meta_model(), found) if model is None else model

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


def loads_once(config: ModelConfig, launch: EffectiveLaunch) -> bool:
    """Whether the first rank alone loads the weights, and FSDP2 divides them from there.
    bitsandbytes' layers are made on each rank: what they keep beside their weights is in no
    shard."""
    return launch.strategy == "fsdp2" and config.quantize == "none"


def loads_together(config: ModelConfig, launch: EffectiveLaunch) -> bool:
    """Whether the ranks need each other while the model is loaded."""
    return shards_on_loading() or loads_once(config, launch)


def shapes_alone(
    model: PreTrainedModel | PeftModel, buffers: dict[str, torch.Tensor]
) -> PreTrainedModel | PeftModel:
    """A model of the meta device as one on the CPU whose parameters take no memory: each repeats a
    single number. (accelerate tells parameters by where they lie, and on the meta device all lie
    nowhere.) ``buffers``: those of the model that has its weights."""
    for module in model.modules():
        for name, meta in list(module.named_parameters(recurse=False)):
            shape = torch.zeros((), dtype=torch.float32).expand(meta.shape)
            module.register_parameter(name, nn.Parameter(shape, requires_grad=meta.requires_grad))
    for name, buffer in buffers.items():
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, buffer)
    return model


def bring(model: nn.Module, device: torch.device) -> None:
    """Move what was made on the CPU to the device that the rest was loaded onto."""
    moved: dict[nn.Parameter, nn.Parameter] = {}  # shared ones stay shared
    for module in model.modules():
        for name, here in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if here.device.type != device.type:
                if here not in moved:
                    there = here.detach().to(device)
                    moved[here] = nn.Parameter(there, requires_grad=here.requires_grad)
                module.register_parameter(name, moved[here])
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.device.type != device.type:
                setattr(module, name, buffer.to(device))


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
