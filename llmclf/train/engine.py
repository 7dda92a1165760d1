"""The Accelerator of a run, checked: what is in force is what was launched (before that:
:mod:`.launch_check`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs

from llmclf import ranks
from llmclf.compat.accelerate import deepspeed_settings, forget_accelerator
from llmclf.config import ConfigError, LaunchError
from llmclf.data.batches import accumulation_steps
from llmclf.supervise import out_of_memory
from llmclf.supervise.gpus import check_gpus
from llmclf.supervise.waiting import doing, timeout
from llmclf.train.config import Precision, TrainConfig
from llmclf.train.launch_check import (
    Strategy,
    asked_strategy,
    check_launch,
    check_settings,
    shards_weights,
)


@dataclass(frozen=True)
class EffectiveLaunch:
    """What the engine really does, for environment.json."""

    world_size: int
    strategy: Strategy
    precision: Precision
    micro_batch_size: int
    accumulation: int
    global_batch_size: int

    @property
    def autocast(self) -> bool:
        """Whether fp32 weights are cast one by one as they are computed with; ZeRO holds bf16
        weights, and FSDP2 gathers such."""
        return self.precision == "bf16" and self.strategy in ("single", "ddp")

    @property
    def shards_weights(self) -> bool:
        """Whether weights are sharded, so that no device holds the whole model."""
        return shards_weights(self.strategy)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def start_engine(config: TrainConfig) -> Accelerator:
    """Create the Accelerator for this launch.

    Raises LaunchError where the launch did not do what it asked for: accelerate falls back in
    silence, for instance to one process per rank when it finds no backend.
    """
    # A comparison runs several experiments in one process; each may ask for its own precision.
    forget_accelerator()
    size, strategy = ranks.world_size(), asked_strategy()
    on_cpu = not torch.cuda.is_available()
    check_launch(strategy, on_cpu)
    check_gpus(ranks.local_world_size(), torch.cuda.device_count())
    precision = resolve_precision(config.precision)
    check_settings(config, precision)
    handlers: list[Any] = []
    if strategy == "ddp":
        # The buckets are the gradients, not a copy; no buffer of these models changes in training.
        handlers.append(
            DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
        )
    if ranks.launched():
        # Left to itself, accelerate finds no backend for CPU ranks, and each would train alone.
        backend = {"backend": "gloo"} if on_cpu else {}
        handlers.append(InitProcessGroupKwargs(**backend, timeout=timeout()))
    accelerator = Accelerator(
        # With cpu=True accelerate drops the DeepSpeed plugin without a word.
        cpu=on_cpu and not strategy.startswith("zero"),
        mixed_precision={"fp32": "no", "bf16": "bf16"}[precision],
        kwargs_handlers=handlers,
    )
    check_in_force(accelerator, size, strategy)
    if strategy.startswith("zero"):
        own_deepspeed_settings(accelerator, config)
    return accelerator


def check_in_force(accelerator: Accelerator, size: int, strategy: Strategy) -> None:
    """Raise LaunchError unless world size and strategy are what the launch asked for."""
    if accelerator.num_processes != size:
        raise LaunchError(
            f"launched with WORLD_SIZE={size}, but accelerate runs {accelerator.num_processes} "
            "process(es). Use launch/accelerate/ddp.yaml: it starts real ranks on GPUs and CPUs."
        )
    runs = strategy_of(accelerator)
    if runs != strategy and strategy == "fsdp2" and accelerator.device.type == "cpu":
        raise LaunchError(
            "fsdp2: accelerate shards by FSDP on accelerators only, and there is none here. Use "
            "launch/accelerate/zero3.yaml, which also runs on CPU ranks."
        )
    if runs != strategy:
        raise LaunchError(
            f"launched for strategy {strategy}, but accelerate runs {runs}: it dropped the plugin "
            "(it does so with --cpu or ACCELERATE_USE_CPU). Leave that out: the files in "
            "launch/accelerate/ start real ranks on GPUs and CPUs."
        )


def strategy_of(accelerator: Accelerator) -> str:
    """What accelerate made of the launch, in the names of launch/accelerate/."""
    kind = accelerator.distributed_type
    if kind is DistributedType.DEEPSPEED:
        zero = deepspeed_settings(accelerator)["zero_optimization"]
        offload = {
            zero.get(f"offload_{w}", {}).get("device", "none") for w in ("optimizer", "param")
        }
        return f"zero{zero['stage']}" + ("" if offload <= {"none", None} else "_offload")
    if kind is DistributedType.FSDP:
        return f"fsdp{accelerator.state.fsdp_plugin.fsdp_version}"
    if kind is DistributedType.NO:
        return "single"
    # A launcher's only process joins a group of one: nothing is parallel about it.
    many = "ddp" if accelerator.num_processes > 1 else "single"
    return many if str(kind.value).startswith("MULTI_") else str(kind.value)


def start_frozen(
    precision: Literal["auto", "fp32", "bf16"], what: str
) -> tuple[Accelerator, Precision]:
    """The Accelerator of a method that trains no network, and the precision in force. ``what``: the
    method, such as prompting. Raises ConfigError under a strategy that shards models, and as
    :func:`start_engine` does."""
    resolved = resolve_precision(precision)
    accelerator = start_engine(TrainConfig(precision=resolved))
    actual = strategy_of(accelerator)
    if actual not in ("single", "ddp"):
        raise ConfigError(
            f"strategy {actual}: {what} trains nothing, so there is nothing to divide but rows. "
            "Use launch/accelerate/ddp.yaml, and --model.quantize nf4 where memory is short."
        )
    return accelerator, resolved


def own_deepspeed_settings(accelerator: Accelerator, config: TrainConfig) -> None:
    """Give DeepSpeed the settings that the recipe owns, and those in which its own would change
    results."""
    settings = deepspeed_settings(accelerator)
    settings |= {
        # The loop accumulates: it sets the boundary itself, and scales each part of the loss.
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.max_grad_norm,
        # Only an identity check is made with it; real micro-batches differ in size.
        "train_micro_batch_size_per_gpu": 1,
        # Offloaded states are updated by torch's fused AdamW: the same arithmetic everywhere.
        "zero_force_ds_cpu_optimizer": False,
    }


@contextlib.contextmanager
def main_process_first(accelerator: Accelerator) -> Iterator[None]:
    """Run the block on the main process, then on the first of each other machine, then on the
    rest: one download into each cache, whether or not machines share one.

    accelerate's own leaves the others waiting when the first process finds a mistake; these find
    the same.
    """
    turn = 0 if accelerator.is_main_process else 1 if accelerator.is_local_main_process else 2
    with doing("loading the model"):
        for _ in range(turn):
            accelerator.wait_for_everyone()
        try:
            yield
        finally:
            for _ in range(2 - turn):
                accelerator.wait_for_everyone()


def resolve_precision(precision: Literal["auto", "fp32", "bf16"]) -> Precision:
    """Turn ``auto`` into bf16 where the device computes it in hardware."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # oneDNN says yes to any AVX-512, but without these instructions it is slower than fp32.
    has = torch.cpu.get_capabilities()
    native = any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16" if native and torch.backends.mkldnn.is_available() else "fp32"


def effective_launch(accelerator: Accelerator, config: TrainConfig) -> EffectiveLaunch:
    """Derive micro-batch size and accumulation for this number of processes."""
    world_size = accelerator.num_processes
    per_rank = -(-config.global_batch_size // world_size)
    micro_batch_size = out_of_memory.limited(min(config.micro_batch_size or per_rank, per_rank))
    return EffectiveLaunch(
        world_size=world_size,
        strategy=strategy_of(accelerator),  # type: ignore[arg-type]
        precision=resolve_precision(config.precision),
        micro_batch_size=micro_batch_size,
        accumulation=accumulation_steps(config.global_batch_size, micro_batch_size, world_size),
        global_batch_size=config.global_batch_size,
    )
