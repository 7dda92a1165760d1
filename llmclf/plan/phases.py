"""What the beginning and the end of a run take of its fullest device: loading the model, and the
saved one that predicts in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmclf.model.config import ModelConfig
from llmclf.plan.states import BF16, FP32, Precision, States, Weight, quantized_bytes
from llmclf.train.launch_check import Strategy, shards_weights
from llmclf.train.saved import precision_to_predict


@dataclass(frozen=True)
class Ends:
    """Bytes on the fullest device before and after training, activations aside."""

    load: int
    """Bytes of the weights while they are loaded."""
    save: int
    """Bytes of the model that predicts once training is over, or of what is kept of the trained
    one; with it what the saved weights are put together from."""
    predict: Precision
    """Precision of that model."""


def ends(
    weights: Sequence[Weight],
    states: States,
    *,
    model: ModelConfig,
    strategy: Strategy,
    precision: Precision,
    capacity: int | None,
) -> Ends:
    """The two ends of a run whose training takes ``states``.

    ``precision``: of training; ``capacity``: bytes of a device, None: not known.
    """
    size = BF16 if precision == "bf16" else FP32
    sharded = shards_weights(strategy)
    quantized = model.quantize != "none"
    whole = _bytes(weights, model, size)
    kept = states.weights + states.optimizer
    # bitsandbytes makes its layers whole on each device, and only then are they cut.
    load = max(states.weights, whole) if quantized and sharded else states.weights
    if quantized and model.save == "adapter" and not sharded:
        return Ends(load, _bytes(weights, model, FP32), "fp32")
    count = sum(w.numel for w in weights)
    predict = None if sharded else precision_to_predict(precision, count, capacity)
    if predict is None:  # the trained model stays
        return Ends(load, kept + whole * quantized, precision)
    return Ends(load, count * (FP32 if predict == "fp32" else BF16), predict)


def _bytes(weights: Sequence[Weight], model: ModelConfig, size: int) -> int:
    """Bytes of a whole model whose float weights have ``size`` bytes."""
    return sum(
        quantized_bytes(w, model.quantize)
        if model.quantize != "none" and w.quantizable
        else w.numel * size
        for w in weights
    )
