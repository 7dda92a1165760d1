"""What the beginning and the end of a run take of its fullest device: loading the model, and the
saved one that predicts in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmclf.model.config import ModelConfig, Quantize
from llmclf.plan.states import BF16, FP32, States, Weight, stored
from llmclf.train.config import Precision
from llmclf.train.launch_check import Strategy
from llmclf.train.saved import saved_precision


@dataclass(frozen=True)
class Ends:
    """Bytes on the fullest device before and after training, activations aside."""

    load: int
    """Bytes of the weights while they are loaded and divided."""
    save: int
    """Bytes of the model that predicts once training is over, or of what is kept of the trained
    one; with it what the saved weights are put together from."""
    predict: Precision
    """Precision of that model."""
    kept: int
    """Bytes of that model, and of what is kept of the training beside it."""
    stays: bool
    """Whether it is the trained one."""


def ends(
    weights: Sequence[Weight],
    states: States,
    *,
    saved: Sequence[Weight],
    model: ModelConfig,
    strategy: Strategy,
    precision: Precision,
    capacity: int | None,
) -> Ends:
    """The two ends of a run whose training takes ``states``.

    ``saved``: every parameter of the model as it is saved, adapters merged; ``precision``: of
    training; ``capacity``: bytes of a device, None: not known.
    """
    load = _loaded(weights, states, model, strategy, precision)
    count = sum(w.numel for w in weights)
    predict = saved_precision(model, strategy, precision, parameters=count, capacity=capacity)
    if predict is None:  # the trained model stays
        trained = states.weights + states.optimizer + states.idle
        quantized = model.quantize != "none"
        whole = whole_bytes(weights, model.quantize, precision) * quantized
        return Ends(load, trained + whole, precision, kept=trained, stays=True)
    as_saved = model.quantize if model.save == "adapter" else "none"
    size = whole_bytes(saved, as_saved, predict)
    return Ends(load, size, predict, kept=size, stays=False)


def _loaded(
    weights: Sequence[Weight],
    states: States,
    model: ModelConfig,
    strategy: Strategy,
    precision: Precision,
) -> int:
    """Bytes on the fullest device at the fullest moment of loading."""
    learning = [w for w in weights if w.learns]
    cut_on_loading = strategy in ("zero3", "zero3_offload")
    in_fp32, cast = (whole_bytes(learning, "none", p) for p in ("fp32", precision))
    if model.quantize != "none" and strategy not in ("single", "ddp"):
        # bitsandbytes makes its layers whole on each device, beside the others in fp32, and only
        # then are they cut, or cast.
        as_made = whole_bytes(weights, model.quantize, "fp32")
        return max(states.weights, as_made - (in_fp32 - cast) * cut_on_loading)
    if strategy == "fsdp2":
        return states.weights + FP32 * max(w.numel for w in weights)  # each goes whole to all
    if model.tune != "lora":
        return states.weights
    if cut_on_loading:
        # Added once the rest has been cut; a share of each has the size of its gradient.
        return states.weights + cast - states.gradients
    if model.lora_variant == "dora":  # measures the matrices before they are cast
        return max(states.weights, whole_bytes(weights, model.quantize, "fp32"))
    return states.weights + (in_fp32 - cast) * (strategy in ("zero1", "zero2"))


def whole_bytes(weights: Sequence[Weight], quantize: Quantize, precision: Precision) -> int:
    """Bytes of a whole model whose float weights are in ``precision``."""
    size = BF16 if precision == "bf16" else FP32
    return sum(stored(w, quantize, size) for w in weights)
