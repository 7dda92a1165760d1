"""The Accelerator of a run, checked: what is in force is what was launched."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs

from llmclf import ranks
from llmclf.compat.accelerate import deepspeed_settings, forget_accelerator, processes_of_launch
from llmclf.compat.deepspeed import do_without_shared_memory_kernel
from llmclf.config import ConfigError
from llmclf.data.batches import accumulation_steps
from llmclf.extras import install_hint
from llmclf.supervise import out_of_memory
from llmclf.train.config import TrainConfig

Strategy = Literal["single", "ddp", "zero1", "zero2", "zero3", "zero3_offload", "fsdp2"]


def shards_weights(strategy: Strategy) -> bool:
    """Whether weights are sharded, so that no device holds the whole model."""
    return strategy in ("zero3", "zero3_offload", "fsdp2")


@dataclass(frozen=True)
class EffectiveLaunch:
    """What the engine really does, for environment.json."""

    world_size: int
    strategy: Strategy
    precision: Literal["fp32", "bf16"]
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

    Raises ConfigError where the launch did not do what it asked for: accelerate falls back in
    silence, for instance to one process per rank when it finds no backend.
    """
    # A comparison runs several experiments in one process; each may ask for its own precision.
    forget_accelerator()
    size, strategy = ranks.world_size(), asked_strategy()
    on_cpu = not torch.cuda.is_available()
    check_launch(strategy, on_cpu)
    handlers: list[Any] = []
    if strategy == "ddp":
        # The buckets are the gradients, not a copy; no buffer of these models changes in training.
        handlers.append(
            DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
        )
    if on_cpu and size > 1:
        # Left to itself, accelerate finds no backend for CPU ranks, and each would train alone.
        handlers.append(InitProcessGroupKwargs(backend="gloo"))
    try:
        accelerator = Accelerator(
            # With cpu=True accelerate drops the DeepSpeed plugin without a word.
            cpu=on_cpu and not strategy.startswith("zero"),
            mixed_precision={"fp32": "no", "bf16": "bf16"}[resolve_precision(config.precision)],
            kwargs_handlers=handlers,
        )
    except ValueError as error:  # WORLD_SIZE without RANK or MASTER_ADDR
        raise ConfigError(f"WORLD_SIZE={size}, but the launch is incomplete: {error}.") from error
    check_in_force(accelerator, size, strategy)
    if strategy.startswith("zero"):
        own_deepspeed_settings(accelerator, config)
    return accelerator


def asked_strategy() -> Strategy:
    """The strategy that ``accelerate launch`` put into the environment.

    Raises ConfigError for one that no file of launch/accelerate/ asks for.
    """
    asks = {name for name in ("DEEPSPEED", "FSDP") if _on(f"ACCELERATE_USE_{name}")}
    if "DEEPSPEED" in asks:
        if "ACCELERATE_DEEPSPEED_CONFIG_FILE" in os.environ:
            raise ConfigError(
                "deepspeed_config_file: a DeepSpeed file of your own would decide batch sizes and "
                "clipping, which the recipe owns. Use launch/accelerate/zero1.yaml to zero3.yaml."
            )
        stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
        offload = {
            os.environ.get(f"ACCELERATE_DEEPSPEED_OFFLOAD_{what}_DEVICE", "none")
            for what in ("OPTIMIZER", "PARAM")
        }
        strategy = f"zero{stage}" + ("" if offload == {"none"} else "_offload")
        if strategy not in ("zero1", "zero2", "zero3", "zero3_offload") or "nvme" in offload:
            raise ConfigError(
                f"DeepSpeed stage {stage} with offload to {', '.join(sorted(offload))}: supported "
                "are the stages 1, 2 and 3, and stage 3 with offload to cpu (launch/accelerate/)."
            )
        return strategy  # type: ignore[return-value]
    if "FSDP" in asks:
        version = os.environ.get("FSDP_VERSION", "1")
        if version != "2":
            raise ConfigError(
                f"fsdp_version={version}: supported is 2. Use launch/accelerate/fsdp2.yaml."
            )
        return "fsdp2"
    return "ddp" if ranks.world_size() > 1 else "single"


def _on(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("1", "true", "yes")


def check_launch(strategy: Strategy, on_cpu: bool) -> None:
    """Raise ConfigError for a launch that cannot do what it says, before a process group is
    joined."""
    lonely = launched_processes()
    if lonely is not None and lonely > 1 and not ranks.launched():
        raise ConfigError(
            f"accelerate launch --num_processes {lonely}: it started a single process, which would "
            "train alone (it does so with --cpu, without mpirun). For real ranks on a CPU: "
            f"accelerate launch --config_file launch/accelerate/ddp.yaml --num_processes {lonely} "
            "RECIPE."
        )
    if strategy.startswith("zero"):
        if importlib.util.find_spec("deepspeed") is None:
            raise ConfigError(
                f"strategy {strategy}: deepspeed is not installed. Install it: "
                f"DS_BUILD_OPS=0 {install_hint('deepspeed')}. Or use ddp.yaml or fsdp2.yaml."
            )
        if on_cpu:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
            do_without_shared_memory_kernel()


def launched_processes() -> int | None:
    """``num_processes`` of the ``accelerate launch`` that is our parent, read by accelerate's own
    parser; None where there is no such parent.

    The environment does not hold it, and a launch for a CPU starts one process whatever it says.
    """
    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return None
    is_launch = [
        i
        for i, word in enumerate(words[:4])
        if word.endswith("accelerate.commands.launch")
        or (word == "launch" and i and Path(words[i - 1]).name == "accelerate")
        or Path(word).name == "accelerate-launch"
    ]
    if not is_launch:
        return None
    return processes_of_launch(words[is_launch[0] + 1 :])


def check_in_force(accelerator: Accelerator, size: int, strategy: Strategy) -> None:
    """Raise ConfigError unless world size and strategy are what the launch asked for."""
    if accelerator.num_processes != size:
        raise ConfigError(
            f"launched with WORLD_SIZE={size}, but accelerate runs {accelerator.num_processes} "
            "process(es). Use launch/accelerate/ddp.yaml: it starts real ranks on GPUs and CPUs."
        )
    runs = strategy_of(accelerator)
    if runs != strategy and strategy == "fsdp2" and accelerator.device.type == "cpu":
        raise ConfigError(
            "fsdp2: accelerate shards by FSDP on accelerators only, and there is none here. Use "
            "launch/accelerate/zero3.yaml, which also runs on CPU ranks."
        )
    if runs != strategy:
        raise ConfigError(
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
    names = {DistributedType.NO: "single"}
    return names.get(kind, "ddp" if str(kind.value).startswith("MULTI_") else str(kind.value))


def check_unsharded(accelerator: Accelerator) -> None:
    """Raise ConfigError under a strategy that shards models: nothing is trained here."""
    actual = strategy_of(accelerator)
    if actual not in ("single", "ddp"):
        raise ConfigError(
            f"strategy {actual}: prompting trains nothing, so there is nothing to divide but rows. "
            "Use launch/accelerate/ddp.yaml, and --model.quantize nf4 where memory is short."
        )


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
    """Run the block on the main process, then on the others: one download, not one for each rank.

    accelerate's own leaves the others waiting when the main process finds a mistake; these find
    the same.
    """
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
    try:
        yield
    finally:
        if accelerator.is_main_process:
            accelerator.wait_for_everyone()


def resolve_precision(precision: Literal["auto", "fp32", "bf16"]) -> Literal["fp32", "bf16"]:
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
