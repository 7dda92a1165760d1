"""Bytes of activations of one micro-batch, traced on the real model without its weights.

Forward and backward run on fake tensors (shapes, no memory): every storage that an operation makes
is counted while it lives, so temporaries, autocast's copies of weights, recomputation and LoRA's
branches are in it as they come. What the CUDA kernels do differently from the CPU's is put in their
place (see :mod:`.cuda_kernels`). A deep model is traced at two depths and extrapolated: blocks of a
kind take the same bytes.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForSequenceClassification, PretrainedConfig
from transformers.pytorch_utils import Conv1D

from llmclf.compat.torch import (
    TorchDispatchMode,
    fake_tensors,
    real_tensors,
    storage_key,
    tensors_in,
)
from llmclf.compat.transformers import without_zero3_init
from llmclf.model.config import ModelConfig, Quantize
from llmclf.model.family import block_of, family_of
from llmclf.model.tune import enable_gradient_checkpointing, set_training_mode, tune
from llmclf.plan.cuda_kernels import cuda_kernels
from llmclf.plan.states import Weight, inventory
from llmclf.train.config import Precision, TrainConfig

Device = Literal["cuda", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All that decides the bytes of a micro-batch's activations."""

    model: ModelConfig
    precision: Precision
    autocast: bool
    """Whether fp32 weights are under autocast; if not, weights and activations are in ``precision``
    (ZeRO)."""
    gradient_checkpointing: bool = False
    device: Device = "cuda"
    only_predicts: bool = False
    """Whether nothing but :attr:`Activations.predict` is wanted."""


@dataclass(frozen=True)
class Activations:
    """Bytes of a micro-batch beyond weights, optimizer states and gradients that stay."""

    saved: float
    """Bytes alive between forward and backward."""
    peak: float
    """Bytes at the fullest moment of forward and backward; a gradient counts until it is added
    up."""
    peak_with_gradients: float
    """Bytes at the fullest moment with gradients counted from nothing, as in a step of one
    micro-batch."""
    predict: float = 0.0
    """Bytes at the fullest moment of a forward pass that keeps nothing for a backward one."""
    predict_saved: float = 0.0
    """The same of the model that predicts once training is over."""

    def __add__(self, other: Activations) -> Activations:
        return self._each(other, lambda a, b: a + b)

    def __sub__(self, other: Activations) -> Activations:
        return self._each(other, lambda a, b: a - b)

    def __mul__(self, factor: float) -> Activations:
        return self._each(self, lambda a, _: a * factor)

    def highest(self, other: Activations) -> Activations:
        return self._each(other, max)

    def _each(self, other: Activations, do: Callable[[float, float], float]) -> Activations:
        return Activations(
            do(self.saved, other.saved),
            do(self.peak, other.peak),
            do(self.peak_with_gradients, other.peak_with_gradients),
            do(self.predict, other.predict),
            do(self.predict_saved, other.predict_saved),
        )


VALUES_NEEDED = ("longformer", "big_bird")
"""Model types whose sparse attention asks for values: they run on real zeros instead of fakes."""


class Traces:
    """Traces of one model configuration; each model is built once."""

    def __init__(self, config: PretrainedConfig) -> None:
        """Trace the model of ``config``, labels and padding token included."""
        self.config = config
        self.fake = config.model_type not in VALUES_NEEDED
        self.mode: Any = fake_tensors() if self.fake else nullcontext()
        self.models: dict[tuple[Setting, int], nn.Module] = {}
        self.inventories: dict[tuple[ModelConfig, TrainConfig], list[Weight]] = {}
        self.traced: dict[tuple[Setting, int, int, int], Activations] = {}

    def inventory(self, model: ModelConfig, train: TrainConfig) -> list[Weight]:
        """Every parameter of the whole model, tuned and grouped by these settings."""
        if (model, train) not in self.inventories:
            tuned = _tuned(self.config, model)
            self.inventories[model, train] = inventory(tuned, family_of(self.config), train)
        return self.inventories[model, train]

    def activations(self, setting: Setting, *, rows: int, length: int) -> Activations:
        """Bytes of one micro-batch of ``rows`` rows of ``length`` tokens each.

        Traces the whole model where it is shallow, else two depths.
        """
        depth, period = self.config.num_hidden_layers, _period(self.config)
        # From two blocks on: the last one is not like the others, and the first may not be.
        least = max(2, setting.model.last_n + 1 if setting.model.tune == "last_n" else 2)
        shallow = least + (depth - least) % period
        if depth <= shallow + period:
            return self.trace(setting, depth, rows, length)
        first = self.trace(setting, shallow, rows, length)
        second = self.trace(setting, shallow + period, rows, length)
        return first + (second - first) * ((depth - shallow) / period)

    def line(self, setting: Setting, *, length: int) -> Callable[[int], Activations]:
        """Activations by number of rows: the higher one of two lines.

        Each moment's bytes grow in a line with the rows. With few rows the peak is where a large
        weight gets its gradient, with many where all activations are there.
        """

        def through(a: int, b: int) -> Callable[[int], Activations]:
            low = self.activations(setting, rows=a, length=length)
            slope = (self.activations(setting, rows=b, length=length) - low) * (1 / (b - a))
            return lambda rows: low + slope * (rows - a)

        if not self.fake:
            return through(1, 2)
        few, many = through(2, 3), through(62, 64)
        return lambda rows: few(rows).highest(many(rows))

    def trace(self, setting: Setting, depth: int, rows: int, length: int) -> Activations:
        """Run forward and backward of the first ``depth`` blocks once and count."""
        key = (setting, depth, rows, length)
        if key not in self.traced:
            with self.mode:
                if (setting, depth) not in self.models:
                    self.models[setting, depth] = _model(at_depth(self.config, depth), setting)
                model = self.models[setting, depth]
                self.traced[key] = _count(model, self._batch(rows, length), setting)
        return self.traced[key]

    def _batch(self, rows: int, length: int) -> dict[str, torch.Tensor]:
        ids = torch.zeros(rows, length, dtype=torch.long)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if family_of(self.config).token_types:
            batch["token_type_ids"] = torch.zeros_like(ids)
        return batch


def _period(config: PretrainedConfig) -> int:
    """Blocks after which their kinds (full or windowed attention) repeat."""
    kinds = getattr(config, "layer_types", None) or []
    for period in range(1, len(kinds) // 2 + 1):
        if all(kinds[i] == kinds[i + period] for i in range(len(kinds) - period)):
            return period
    return 1


def at_depth(config: PretrainedConfig, depth: int) -> PretrainedConfig:
    """The configuration of the same model with its first ``depth`` blocks only."""
    shallow = copy.deepcopy(config)
    full = config.num_hidden_layers
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == full and name in LISTS_OF_BLOCKS:
            setattr(shallow, name, value[:depth])
    shallow.num_hidden_layers = depth
    return shallow


LISTS_OF_BLOCKS = ("layer_types", "attention_window")


def _tuned(config: PretrainedConfig, model: ModelConfig) -> Any:
    with without_zero3_init(), torch.device("meta"):
        base = AutoModelForSequenceClassification.from_config(copy.deepcopy(config))
    return tune(base, model)


def _model(config: PretrainedConfig, setting: Setting) -> nn.Module:
    # PEFT moves its layers about, which works on the meta device and not on fake tensors.
    with real_tensors():
        model = _tuned(config, setting.model)
    if setting.gradient_checkpointing:
        enable_gradient_checkpointing(model, setting.model.tune)
    set_training_mode(model)
    _put_on_the_cpu(model)
    _store_as_in_a_run(model, setting, family_of(config))
    return model


def _put_on_the_cpu(model: nn.Module) -> None:
    """Put weights of the meta device on the CPU as zeros: fake ones under FakeTensorMode."""
    made: dict[int, Any] = {}  # tied weights stay tied
    for module in model.modules():
        parameters = module.named_parameters(recurse=False, remove_duplicate=False)
        for name, parameter in list(parameters):
            if id(parameter) not in made:
                zeros = torch.zeros(parameter.shape, dtype=parameter.dtype)
                made[id(parameter)] = nn.Parameter(zeros, parameter.requires_grad)
            module.register_parameter(name, made[id(parameter)])
        buffers = module.named_buffers(recurse=False, remove_duplicate=False)
        for name, buffer in list(buffers):
            setattr(module, name, torch.zeros(buffer.shape, dtype=buffer.dtype))


def _store_as_in_a_run(model: nn.Module, setting: Setting, family: Any) -> None:
    """Give weights the types they have in a run, and frozen matrices their quantised product."""
    half = setting.precision == "bf16"
    for name, module in model.named_modules():
        if half and not setting.autocast:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.bfloat16()
        if not isinstance(module, (nn.Linear, Conv1D)) or module.weight.requires_grad:
            continue
        if half:
            module.weight.data = module.weight.data.bfloat16()
        if setting.model.quantize != "none" and block_of(name, family) is not None:
            setattr(module, "forward", _quantized_forward(module, setting.model.quantize))  # noqa: B010


def _quantized_forward(module: Any, quantize: Quantize) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        compute = torch.bfloat16 if module.weight.dtype == torch.bfloat16 else x.dtype
        return QuantizedProduct.apply(x, module.weight, compute, quantize == "int8")

    return forward


class QuantizedProduct(torch.autograd.Function):
    """What bitsandbytes keeps for the backward pass (0.50, autograd/_functions.py): the whole input
    for int8, nothing for nf4; the dequantised matrix is a temporary (:mod:`.memory`)."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, compute: torch.dtype, keep_input: bool) -> Any:
        outputs = weight.numel() // x.shape[-1]
        ctx.shape, ctx.dtype, ctx.kept = x.shape, x.dtype, x if keep_input else None
        return x.new_empty((*x.shape[:-1], outputs), dtype=compute)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0].new_empty(ctx.shape, dtype=ctx.dtype), None, None, None


def _count(model: nn.Module, batch: dict[str, torch.Tensor], setting: Setting) -> Activations:
    predicting, counter = LiveBytes(model), LiveBytes(model)
    amp = setting.autocast and setting.precision == "bf16"
    with ExitStack() as stack:
        stack.enter_context(cuda_kernels(amp) if setting.device == "cuda" else nullcontext())
        with predicting, torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
            model(**batch)
        predicting.close()
        if setting.only_predicts:
            counter.close()
            return Activations(0, 0, 0, predicting.peak)
        stack.enter_context(counter)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            logits = model(**batch).logits
        loss = F.cross_entropy(
            logits.float(), torch.zeros(len(logits), dtype=torch.long), reduction="none"
        ).sum()
        del logits
        saved = counter.live
        loss.backward()
    counter.close()
    return Activations(saved, counter.peak, counter.peak_with_gradients, predicting.peak)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages made by operations, as long as they live.

    A parameter's gradient leaves ``live`` once it has been added up; ``peak_with_gradients`` keeps
    it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.live = self.gradients = self.peak = self.peak_with_gradients = 0
        self.sizes: dict[int, int] = {}
        self.known = {storage_key(p) for p in model.parameters()}
        self.known |= {storage_key(b) for b in model.buffers()}
        self.learning = [p for p in model.parameters() if p.requires_grad]
        self.hooks = [p.register_post_accumulate_grad_hook(self._added_up) for p in self.learning]

    def close(self) -> None:
        """Leave the model as it was."""
        for hook in self.hooks:
            hook.remove()
        for parameter in self.learning:
            parameter.grad = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tensors_in(result):
            self._see(tensor)
        self.peak = max(self.peak, self.live)
        self.peak_with_gradients = max(self.peak_with_gradients, self.live + self.gradients)
        return result

    def _see(self, tensor: torch.Tensor) -> None:
        storage, key = tensor.untyped_storage(), storage_key(tensor)
        if key in self.known:
            return
        self.known.add(key)
        self.sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.known.discard(key)
        self.live -= self.sizes.pop(key)

    def _added_up(self, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        key = storage_key(parameter.grad)
        size = self.sizes.get(key, 0)
        if size:
            self.sizes[key] = 0
            self.live -= size
            self.gradients += size
