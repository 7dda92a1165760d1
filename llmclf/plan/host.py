"""What a run takes of the memory of its machines: weights on their way to the devices and back, and
what zero3_offload keeps there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmclf.model.config import ModelConfig
from llmclf.plan.phases import whole_bytes
from llmclf.plan.states import BF16, FP32, States, Weight, by_group
from llmclf.train.config import Precision
from llmclf.train.launch_check import Strategy


@dataclass(frozen=True)
class Host:
    """Bytes of processes in the memory of their machine, beside what Python and PyTorch take, and
    beside a few matrices on their way from the file to a device."""

    load: int
    """Bytes of each process while the model is loaded."""
    load_first: int
    """Bytes of the launch's first process beside that."""
    train: int
    """Bytes of each process from the first step to the end."""
    save_first: int
    """Bytes of the first process, beside that, while it puts the saved model together."""

    def of_machine(self, processes: int) -> int:
        """Bytes of the first machine at the fullest moment, with so many processes on each."""
        loading = self.load * processes + self.load_first
        return max(loading, self.train * processes + self.save_first)


def host(
    weights: Sequence[Weight],
    states: States,
    *,
    saved: Sequence[Weight],
    model: ModelConfig,
    strategy: Strategy,
    precision: Precision,
    capacity: int | None,
) -> Host:
    """Of a run on GPUs. Weights go from the file to each device, but under fsdp2, where the first
    process has them until they are divided; what bitsandbytes quantises is quantised on each
    device.

    ``saved``: every parameter of the model as it is saved, adapters merged; ``precision``: of
    training; ``capacity``: bytes of a device, None: not known.
    """
    once = strategy == "fsdp2" and model.quantize == "none"
    as_saved = model.quantize if model.save == "adapter" else "none"
    return Host(
        load=_flattened(weights, states, strategy, precision, capacity),
        load_first=whole_bytes(weights, "none", "fp32") if once else 0,
        train=states.host,
        save_first=whole_bytes(saved, as_saved, "fp32"),
    )


def _flattened(
    weights: Sequence[Weight],
    states: States,
    strategy: Strategy,
    precision: Precision,
    capacity: int | None,
) -> int:
    """Under zero1 and zero2 DeepSpeed makes one tensor of each optimizer group: on the device if
    that has room for the group once more, else in host memory, beside a copy of its weights."""
    if strategy not in ("zero1", "zero2") or capacity is None:
        return 0
    size = BF16 if precision == "bf16" else FP32
    groups = by_group(weights).values()
    largest = size * max((sum(w.numel for w in group) for group in groups), default=0)
    return 0 if states.weights + largest <= capacity else 2 * largest
