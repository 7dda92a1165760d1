"""What one run takes of a device while it loads, trains and predicts, and what fits beside that.

Which method, quantisation and strategy go together is asked where a run asks it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from transformers import PretrainedConfig

from llmclf import ranks
from llmclf.config import ConfigError
from llmclf.model.config import QUANTIZED_METHODS, ModelConfig, Quantize, Tune
from llmclf.plan.activations import Activations, Device, Setting, Traces
from llmclf.plan.host import host
from llmclf.plan.phases import Ends, ends
from llmclf.plan.states import States, model_states
from llmclf.train.config import Precision, TrainConfig
from llmclf.train.engine import EffectiveLaunch
from llmclf.train.launch_check import Strategy
from llmclf.train.model_builder import strategy_problem

T = TypeVar("T")


def impossible(method: Tune, quantize: Quantize, strategy: Strategy) -> str | None:
    """Why a method, a quantisation and a strategy cannot go together; None where they can."""
    if quantize != "none" and method not in QUANTIZED_METHODS:
        return "quantised weights cannot learn: use lora or head"
    return strategy_problem(quantize, strategy)


@dataclass(frozen=True)
class Bytes:
    """What a run takes of its fullest device, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    workspace: int
    """Communication buffers, gathered and dequantised weights (an upper bound)."""
    load: int
    """Bytes at the fullest moment of loading."""
    train: int
    """Bytes at the fullest moment of training: the start of the backward pass, or the update."""
    evaluate: int
    """Bytes at the fullest moment of an evaluation amid training."""
    save: int
    """Bytes at the fullest moment after training: the saved model, or the trained one, predicts."""
    total: int
    """The most of the four."""
    idle: int
    """Bytes beside weights and optimizer that stay when no pass runs."""
    host: int = 0
    """Bytes of the first machine's own memory, of all processes on it (GPUs only, but for
    zero3_offload)."""


@dataclass(frozen=True)
class PlannedRun:
    """Everything about a run that its memory depends on, but the micro-batch."""

    traces: Traces
    """Traces of the classification model's configuration, as ``prepare_config`` leaves it."""
    model: ModelConfig
    train: TrainConfig
    """Settings of training, which decide the optimizer's groups."""
    strategy: Strategy
    world_size: int
    precision: Precision
    gradient_checkpointing: bool
    length: int
    """Tokens of the longest row of a micro-batch."""
    device: Device = "cuda"
    capacity: int | None = None
    """Bytes of a device, by which the model that predicts is chosen; None: a CPU's memory."""
    processes_per_machine: int = 1

    @cached_property
    def states(self) -> States:
        return model_states(
            self.traces.inventory(self.model, self.train),
            strategy=self.strategy,
            world_size=self.world_size,
            precision=self.precision,
            quantize=self.model.quantize,
        )

    @cached_property
    def ends(self) -> Ends:
        return self._outside_training(ends)

    @property
    def host_bytes(self) -> int:
        """Bytes of the first machine's own memory."""
        if self.device == "cpu":  # where a device's memory is the machine's
            return self.states.host * self.processes_per_machine
        return self._outside_training(host).of_machine(self.processes_per_machine)

    def _outside_training(self, of: Callable[..., T]) -> T:
        """What ``ends`` or ``host`` says of this run."""
        return of(
            self.traces.inventory(self.model, self.train),
            self.states,
            saved=self.traces.inventory(self.saved_model, self.train),
            model=self.model,
            strategy=self.strategy,
            precision=self.precision,
            capacity=self.capacity,
        )

    @property
    def setting(self) -> Setting:
        return Setting(
            model=self.model,
            precision=self.precision,
            # ZeRO casts the model, and FSDP2 what it gathers; the others rely on autocast.
            autocast=self.strategy in ("single", "ddp"),
            gradient_checkpointing=self.gradient_checkpointing,
            device=self.device,
        )

    @property
    def saved_model(self) -> ModelConfig:
        """Settings of a model of the shape that is saved: without adapters where they are
        merged."""
        if self.model.save == "adapter":
            return self.model
        return dataclasses.replace(self.model, tune="full", quantize="none")

    @property
    def saved_setting(self) -> Setting:
        """As :attr:`setting`, of the model that predicts once training is over."""
        return Setting(
            model=self.saved_model,
            precision=self.ends.predict,
            autocast=False,
            device=self.device,
            only_predicts=True,
        )

    def activations(self, rows: int) -> Activations:
        """Of one micro-batch of ``rows`` of the longest rows."""
        training = self.traces.activations(self.setting, rows=rows, length=self.length)
        saved = training
        if not self.ends.stays:
            saved = self.traces.activations(self.saved_setting, rows=rows, length=self.length)
        return dataclasses.replace(training, predict_saved=saved.predict)

    def line(self) -> Callable[[int], Activations]:
        """Activations by number of rows (see :meth:`.Traces.line`)."""
        training = self.traces.line(self.setting, length=self.length)
        saved = training
        if not self.ends.stays:
            saved = self.traces.line(self.saved_setting, length=self.length)
        return lambda rows: dataclasses.replace(training(rows), predict_saved=saved(rows).predict)

    def with_activations(self, acts: Activations, *, accumulation: int) -> Bytes:
        """The bytes of the run, given those of its activations."""
        s = self.states
        if self.strategy == "single" and accumulation == 1:
            # Gradients start from none: the last ones come when most activations are gone.
            moving = max(acts.peak_with_gradients, acts.peak, s.gradients)
        else:
            moving = acts.peak + s.gradients
        if self.strategy == "ddp" and accumulation > 1:
            moving += s.idle  # the gradients of one rank, beside the buckets they are added up in
        passing = s.weights + s.optimizer + s.workspace + moving
        update = s.model_states + s.workspace + s.step_workspace
        train = round(max(passing, update))
        evaluate = round(s.weights + s.optimizer + s.idle + s.gathered + acts.predict)
        # A saved model that is put together has no quantised matrices.
        gathered = s.gathered if self.ends.stays or self.model.save == "adapter" else 0
        save = round(max(self.ends.save, self.ends.kept + gathered + acts.predict_saved))
        return Bytes(
            weights=s.weights,
            gradients=s.gradients,
            optimizer=s.optimizer,
            activations=round(acts.peak),
            workspace=s.workspace,
            load=self.ends.load,
            train=train,
            evaluate=evaluate,
            save=save,
            total=max(self.ends.load, train, evaluate, save),
            idle=s.idle,
            host=self.host_bytes,
        )


def largest_micro_batch(
    run: PlannedRun, capacity: int, *, most: int, line: Callable[[int], Activations]
) -> int:
    """The largest micro-batch of at most ``most`` rows that fits ``capacity`` bytes of a device; 0:
    none does.

    ``line``: activations by number of rows (:meth:`PlannedRun.line`).
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        # With accumulation: gradients of the micro-batches before are there.
        if run.with_activations(line(middle), accumulation=2).total <= capacity:
            low = middle
        else:
            high = middle - 1
    return low


def parse_bytes(text: str, option: str = "--device-memory") -> int:
    """``80GB``, ``80GiB``, ``81559MiB`` as bytes; ConfigError for anything else."""
    units = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    units |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
    clean = text.strip().lower().replace(" ", "")
    unit = clean.lstrip("0123456789.")
    try:
        value = float(clean.removesuffix(unit)) * units[unit]
    except (KeyError, ValueError):
        value = 0
    if not 0 < value < 2**60:
        raise ConfigError(
            f"{option} {text!r}: not an amount of memory. Write it as 80GB (10^9 bytes), "
            "80GiB (2^30) or 81559MiB, as nvidia-smi prints it."
        )
    return round(value)


def of_run(
    config: PretrainedConfig,
    model_config: ModelConfig,
    train: TrainConfig,
    *,
    launch: EffectiveLaunch,
    length: int,
) -> dict[str, int]:
    """Bytes on the fullest device of the very run that is about to start, for ``--dry-run``, and
    those that its processes take of the first machine's own memory.

    ``launch``: the engine's :class:`.EffectiveLaunch`; ``length``: tokens of its longest row.
    """
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    run = PlannedRun(
        traces=Traces(config),
        model=model_config,
        train=train,
        strategy=launch.strategy,
        world_size=launch.world_size,
        precision=launch.precision,
        gradient_checkpointing=train.gradient_checkpointing,
        length=length,
        device=device,
        capacity=torch.cuda.get_device_properties(0).total_memory if device == "cuda" else None,
        processes_per_machine=ranks.local_world_size(),
    )
    rows = launch.micro_batch_size
    needed = run.with_activations(run.activations(rows), accumulation=launch.accumulation)
    sizes = {f"{name}_bytes": value for name, value in vars(needed).items()}
    if not needed.host:
        del sizes["host_bytes"]
    return sizes
