"""What learns: every weight, the head, the last blocks, or LoRA adapters; and how the result is
saved."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from llmclf.atomic import write_text
from llmclf.compat.peft import adapter_weights, base_weights
from llmclf.config import ConfigError, dump_json
from llmclf.model.build import output_layer
from llmclf.model.config import ModelConfig, Tune
from llmclf.model.family import Family, block_of, family_of, within


def tune(model: PreTrainedModel, config: ModelConfig) -> PreTrainedModel | PeftModel:
    """Mark what learns (``requires_grad``); ``lora`` returns the model wrapped by PEFT.

    Raises ConfigError for more blocks than the model has.
    """
    family = family_of(model.config)
    if config.tune == "lora":
        return get_peft_model(model, lora_config(model, config, family))
    num_blocks = count_blocks(model, family)
    if config.tune == "last_n" and config.last_n > num_blocks:
        raise ConfigError(
            f"model.last_n={config.last_n}: the model has {num_blocks} blocks. "
            f"Set {num_blocks} or less, or --model.tune full."
        )
    first_trained = {"full": -1, "head": num_blocks, "last_n": num_blocks - config.last_n}[
        config.tune
    ]
    for name, parameter in model.named_parameters():
        parameter.requires_grad = learns(name, family, first_trained, num_blocks)
    return model


def learns(name: str, family: Family, first_trained: int, num_blocks: int) -> bool:
    """Whether a parameter learns when the blocks from ``first_trained`` on do (-1: everything).
    ``name``: the parameter's; ``num_blocks``: all blocks of the model."""
    if within(name, family.unused):
        return False
    if first_trained < 0 or within(name, family.head):
        return True
    block = block_of(name, family)
    if block is not None:
        return block >= first_trained
    return first_trained < num_blocks and within(name, family.final_norm)


def count_blocks(model: nn.Module, family: Family) -> int:
    """Number of transformer blocks."""
    indices = {block_of(name, family) for name, _ in model.named_parameters()} - {None}
    return len(indices)


def block_class(model: nn.Module, family: Family) -> str:
    """Name of the class of the transformer blocks, wherever PEFT has put them."""
    blocks = (m for name, m in model.named_modules() if block_of(name, family) is not None)
    return type(next(blocks)).__name__  # a module comes before those inside it


def lora_config(model: PreTrainedModel, config: ModelConfig, family: Family) -> LoraConfig:
    """Adapters on every linear layer of every block, and the whole head trained and saved with
    them.

    The targets are a pattern anchored to the blocks: by bare name, ``dense`` would also match the
    head, and PEFT has no default at all for several of our families.
    """
    targets = "|".join(map(re.escape, family.lora_targets))
    return LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # PEFT divides it; a float is fine
        lora_dropout=config.lora_dropout,
        use_rslora=config.lora_variant == "rslora",
        use_dora=config.lora_variant == "dora",
        target_modules=rf"{re.escape(family.layers)}\.\d+\.(?:.*\.)?(?:{targets})",
        modules_to_save=list(family.head),
        # GPT-2's Conv1D stores the transposed matrix; quantised, it is an ordinary linear layer.
        fan_in_fan_out=model.config.model_type == "gpt2" and config.quantize == "none",
    )


def set_training_mode(model: nn.Module) -> None:
    """Like ``model.train()``, but a frozen trunk (below a head or the last blocks) stays in eval
    mode.

    Dropout in layers that do not learn only adds noise to what the trained ones see. LoRA keeps it:
    its frozen layers hold adapters that learn.
    """
    model.train()
    if isinstance(model, PeftModel):
        return
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def enable_gradient_checkpointing(model: PreTrainedModel | PeftModel, tune: Tune) -> None:
    """Recompute the activations of each block in the backward pass.

    Non-reentrant: the reentrant form cuts the gradient where a block's input needs none, so LoRA
    learns nothing.
    """
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if tune in ("head", "last_n"):
        # transformers makes the embeddings' output need a gradient, and with it all frozen blocks
        # would keep their activations, for a gradient that nobody reads.
        model.disable_input_require_grads()


def store_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep the matrices of frozen linear layers in the precision that autocast computes in.

    Autocast would cast them in each forward pass, and keep the copy for the backward pass: the same
    numbers, by more time and three times the memory.
    """
    for weight in frozen_matrices(model):
        weight.data = weight.data.to(dtype)


def frozen_matrices(model: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of linear layers that neither learn nor are quantised."""
    for _, weight in _matrices(model):
        if not weight.requires_grad:
            yield weight


def _matrices(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    for module in model.modules():
        if type(module) in (nn.Linear, Conv1D):
            yield module, cast(nn.Parameter, module.weight)


@contextlib.contextmanager
def stand_ins(model: nn.Module) -> Iterator[None]:
    """In this block matrices that are stored in less than fp32 look like fp32 ones on the CPU, and
    none learns.

    PEFT brings an adapter to the dtype of the matrix that it is added to, and only then back to
    fp32: its random numbers would be rounded.
    """
    stored = [(m, weight) for m, weight in _matrices(model) if weight.dtype != torch.float32]
    for module, weight in stored:
        weight.requires_grad = False
        shape = torch.zeros(()).expand(weight.shape)  # takes no memory
        module.weight = nn.Parameter(shape, requires_grad=False)
    try:
        yield
    finally:
        for module, weight in stored:
            module.weight = weight


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return ``(total, trainable)`` numbers of parameters."""
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in counts), sum(n for n, trained in counts if trained)


def save_model(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    config: ModelConfig,
    max_length: int,
    calibration: dict[str, Any] | None = None,
) -> None:
    """Write a folder that ``transformers.pipeline("text-classification", folder)`` loads as it is.

    The temperature of ``calibration`` goes into the output layer, so that the pipeline's
    probabilities are calibrated, and all of it into config.json as ``llmclf_calibration``.

    ``merged``: plain weights. ``adapter``: base weights plus ``adapter_*`` files; transformers puts
    the two together (a folder with only the adapter would lose label names: PEFT stores none). The
    tokenizer keeps ``max_length``.

    ``config``: says which of the two forms it is to be.
    """
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)
    if calibration is not None:
        divide_logits(model, calibration["temperature"])
        model.config.llmclf_calibration = calibration
    if not isinstance(model, PeftModel):
        model.save_pretrained(folder)
        return
    if config.save == "adapter":
        model.save_pretrained(str(folder))
        save_file(adapter_weights(model), folder / "adapter_model.safetensors")
        _drop_local_base(folder)
        base: Any = model.get_base_model()
        base.config.architectures = [type(base).__name__]
        base.config.save_pretrained(folder)
        save_file(base_weights(base), folder / "model.safetensors", metadata={"format": "pt"})
        return
    merged: Any = model.merge_and_unload()
    merged.save_pretrained(folder)


def divide_logits(model: PreTrainedModel | PeftModel, temperature: float) -> None:
    """Have the output layer give its logits divided by ``temperature``."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    # Beside an adapter, the last one is PEFT's trained copy.
    _, layer = output_layer(base, family_of(base.config))
    if temperature != 1:
        with torch.no_grad():
            layer.weight.div_(temperature)
            if layer.bias is not None:
                layer.bias.div_(temperature)


def _drop_local_base(folder: Path) -> None:
    """Forget where the base model lay: it lies in the folder itself, and a path of the training
    machine would only mislead."""
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty form, which names that path, too
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = ""
    write_text(path, dump_json(settings))
