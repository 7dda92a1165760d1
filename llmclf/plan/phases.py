"""What the beginning and the end of a run take of its fullest device: loading the model, and the
saved one that predicts in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmclf.model.config import ModelConfig, Quantize
from llmclf.plan.states import BF16, FP32, States, Weight, stored
from llmclf.train.config import Precision
from llmclf.train.launch_check import Strategy, shards_weights
from llmclf.train.saved import saved_precision


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
    quantized, sharded = model.quantize != "none", shards_weights(strategy)
    whole = _bytes(weights, model.quantize, precision)
    # bitsandbytes makes its layers whole on each device, and only then are they cut.
    load = max(states.weights, whole) if quantized and sharded else states.weights
    count = sum(w.numel for w in weights)
    predict = saved_precision(model, strategy, precision, parameters=count, capacity=capacity)
    if predict is None:  # the trained model stays
        return Ends(load, states.weights + states.optimizer + whole * quantized, precision)
    as_saved = model.quantize if model.save == "adapter" else "none"
    return Ends(load, _bytes(weights, as_saved, predict), predict)


def _bytes(weights: Sequence[Weight], quantize: Quantize, precision: Precision) -> int:
    """Bytes of a whole model whose float weights are in ``precision``."""
    size = BF16 if precision == "bf16" else FP32
    return sum(stored(w, quantize, size) for w in weights)
