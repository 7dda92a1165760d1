"""Every method under every strategy on given devices, and the cheapest that fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmclf.config import ConfigError
from llmclf.model.config import ModelConfig, Quantize, Tune
from llmclf.model.family import family_of
from llmclf.plan.activations import Traces
from llmclf.plan.footprint import Bytes, PlannedRun, impossible, largest_micro_batch
from llmclf.plan.states import STRATEGIES
from llmclf.train.config import Precision, TrainConfig
from llmclf.train.launch_check import Strategy

METHODS: tuple[tuple[Tune, Quantize], ...] = (
    ("head", "none"),
    ("last_n", "none"),
    ("lora", "none"),
    ("lora", "int8"),
    ("lora", "nf4"),
    ("full", "none"),
)
"""``model.tune`` and ``model.quantize``, from the least work per token to the most."""
HEADROOM = 0.08
"""Share of a device left to the CUDA context, NCCL and the allocator's gaps."""


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The devices that a run may use."""

    number: int
    """Devices over all machines."""
    per_machine: int
    capacity: int
    """Bytes of each device that a run may take."""
    host_memory: int | None = None
    """Bytes of each machine's own memory; None: not asked."""

    @property
    def machines(self) -> int:
        return -(-self.number // self.per_machine)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One line of the plan: a method under a strategy."""

    tune: Tune
    quantize: Quantize
    strategy: Strategy
    devices: int
    problem: str | None = None
    """Why the option is impossible, or None."""
    bytes: Bytes | None = None
    """Bytes per device, at ``micro_batch_size`` rows, or at one row where none fits."""
    fits: bool = False
    micro_batch_size: int = 0
    """Rows per device to launch with."""
    largest_micro_batch: int = 0
    """The most rows that would fit, up to 4,096."""
    gradient_checkpointing: bool = False
    host_bytes: int = 0
    """Bytes of the first machine's memory for all processes on it, at the fullest moment."""
    exceeds_host: bool = False
    """Whether ``host_bytes`` are more than the machine has."""

    @property
    def method(self) -> str:
        return self.tune if self.quantize == "none" else f"{self.tune}+{self.quantize}"


def plan(
    model: ModelConfig,
    train: TrainConfig,
    traces: Traces,
    *,
    longest: int,
    devices: Devices,
    methods: Sequence[tuple[Tune, Quantize]],
) -> list[Option]:
    """Every method under every strategy, in the order of ``methods`` and STRATEGIES.

    ``longest``: tokens of the longest row. Raises ConfigError for a model that cannot recompute
    where ``train`` asks for it.

    ``traces``: of the classification model's activations; ``methods``: pairs of ``model.tune`` and
    ``model.quantize``.
    """
    model_type = traces.config.model_type
    if train.gradient_checkpointing and not family_of(traces.config).gradient_checkpointing:
        raise ConfigError(
            f"train.gradient_checkpointing: {model_type} does not support it in transformers. "
            "Unset it."
        )
    precision: Precision = "fp32" if train.precision == "fp32" else "bf16"
    options = []
    for tune, quantize in methods:
        method = dataclasses.replace(model, tune=tune, quantize=quantize)
        for strategy in STRATEGIES:
            if devices.number == 1 and strategy in ("ddp", "zero1", "zero2", "fsdp2"):
                continue  # no other device to share with
            number = 1 if strategy == "single" else devices.number
            run = PlannedRun(
                traces=traces,
                model=method,
                train=train,
                strategy=strategy,
                world_size=number,
                precision=precision,
                gradient_checkpointing=False,
                length=longest,
                capacity=round(devices.capacity / (1 - HEADROOM)),
                processes_per_machine=min(number, devices.per_machine),
            )
            options.append(option(run, devices))
    return options


def option(run: PlannedRun, devices: Devices) -> Option:
    """What fits of one method and strategy.

    Without gradient checkpointing if the wanted micro-batch fits so, else with it, unless that
    allows no larger one.
    """
    bare = Option(
        tune=run.model.tune,
        quantize=run.model.quantize,
        strategy=run.strategy,
        devices=run.world_size,
        problem=impossible(run.model.tune, run.model.quantize, run.strategy),
    )
    if bare.problem is not None:
        return bare
    train = run.train
    per_device = -(-train.global_batch_size // run.world_size)
    wanted = min(train.micro_batch_size or per_device, per_device)
    supported = family_of(run.traces.config).gradient_checkpointing
    runs = [] if train.gradient_checkpointing else [run]
    runs += [dataclasses.replace(run, gradient_checkpointing=True)] if supported else []
    best: tuple[int, PlannedRun, Any] | None = None
    for candidate in runs:
        line = candidate.line()
        most = largest_micro_batch(candidate, devices.capacity, most=4096, line=line)
        if most < wanted == per_device:  # then no gradients wait for those of other micro-batches
            alone = candidate.with_activations(line(wanted), accumulation=1)
            most = wanted if alone.total <= devices.capacity else most
        if best is None or min(most, wanted) > min(best[0], wanted):
            best = (most, candidate, line)
        if best[0] >= wanted:
            break
    assert best is not None
    largest, taken, line = best
    rows = min(largest, wanted)
    accumulation = -(-per_device // max(rows, 1))
    sizes = taken.with_activations(line(max(rows, 1)), accumulation=accumulation)
    exceeds = devices.host_memory is not None and sizes.host > devices.host_memory
    return dataclasses.replace(
        bare,
        bytes=sizes,
        host_bytes=sizes.host,
        exceeds_host=exceeds,
        fits=largest > 0 and not exceeds,
        micro_batch_size=rows,
        largest_micro_batch=largest,
        gradient_checkpointing=taken.gradient_checkpointing,
    )


def cheapest(options: Sequence[Option], model: ModelConfig | None = None) -> Option | None:
    """The option that fits with the least work: METHODS' order, recomputation, then communication
    (STRATEGIES' order); of one method, or of all. On several devices all of them are used."""
    order = {m: i for i, m in enumerate(METHODS)}
    many = max(o.devices for o in options) > 1
    candidates = [
        o
        for o in options
        if o.fits
        and not (many and o.strategy == "single")
        and (model is None or (o.tune, o.quantize) == (model.tune, model.quantize))
    ]
    return min(
        candidates,
        key=lambda o: (
            order.get((o.tune, o.quantize), len(order)),
            o.gradient_checkpointing,
            STRATEGIES.index(o.strategy),
        ),
        default=None,
    )
