"""What a method cost: measured figures only, and None for what was not measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The ``cost`` object of results.json."""

    train_seconds: float | None = None
    """Seconds spent in optimizer steps, or in fitting; loading and evaluation are not in it."""
    predict_seconds: float | None = None
    """Seconds of the forward passes over the test rows."""
    predict_examples_per_second: float | None = None
    predict_precision: str | None = None
    """Type of the weights that predicted, fp32 or bf16; None for a server's, and where no language
    model predicts. Speeds compare where it is the same."""
    latency_p50_seconds: float | None = None
    """Median over test rows of the time for one that comes alone, from its tokens (classical
    models: its text) to its probabilities, on one device; of prompts, behind the tokens that all
    of them share. Behind a server: of a request, of which a row may take several, as
    ``api.concurrency`` of them are under way. None where no device holds the whole model."""
    latency_p99_seconds: float | None = None
    """99th percentile of the same times; None with fewer than 100 rows."""
    peak_memory_bytes: int | None = None
    """Peak memory of the busiest device: allocated GPU memory, or on a CPU the process's resident
    memory."""
    total_parameters: int | None = None
    trainable_parameters: int | None = None
    train_tokens: int | None = None
    """Tokens learnt from, padding not counted, repeated epochs counted again."""
    train_tokens_per_second: float | None = None
    flops: float | None = None
    """Floating-point operations of training by formula, for the real tokens only."""
    mfu: float | None = None
    """Model FLOPs utilisation: ``flops`` per second over the devices' peak."""
    devices: int | None = None
    device_hours: float | None = None
    """Devices times hours of training."""
    train_energy_joules: float | None = None
    """Energy of GPUs and CPUs while training, evaluations included; None for an interrupted run."""
    predict_energy_joules: float | None = None
    """Energy of GPUs and CPUs in the forward passes over the test rows."""
    energy_meters: list[str] | None = None
    """What the energy was read from: nvml (GPUs), rapl (CPUs, other processes included); None:
    nothing could be read."""
    input_tokens: int | None = None
    """Tokens of all prompts that a server was sent, as it counts them."""
    output_tokens: int | None = None
    """Tokens that a server wrote."""
    price: float | None = None
    """Price of input and output tokens, at the prices in the settings and in their currency."""

    def to_json(self) -> dict[str, Any]:
        """The cost as plain JSON values."""
        return asdict(self)
