"""The Accelerator of a run, checked: what is in force is what was launched."""

from __future__ import annotations

import contextlib
import gc
import os
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, InitProcessGroupKwargs

from llmclf.config import ConfigError
from llmclf.data.batches import accumulation_steps
from llmclf.train.config import TrainConfig

STRATEGIES = {
    DistributedType.NO: "single",
    DistributedType.MULTI_CPU: "ddp",
    DistributedType.MULTI_GPU: "ddp",
}


@dataclass(frozen=True)
class InForce:
    """What the engine really does, for environment.json."""

    world_size: int
    strategy: str
    precision: str
    micro_batch_size: int
    accumulation: int
    global_batch_size: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def start_engine(config: TrainConfig) -> Accelerator:
    """Create the Accelerator for this launch.

    Raises ConfigError where the launch did not do what it asked for: accelerate falls back in
    silence, for instance to one process per rank when it finds no backend.
    """
    # A comparison runs several experiments in one process; each may ask for its own precision.
    AcceleratorState._reset_state()
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    on_cpu = not torch.cuda.is_available()
    # Left to itself, accelerate finds no backend for CPU ranks, and each would train alone.
    handlers = [InitProcessGroupKwargs(backend="gloo")] if on_cpu and asked > 1 else []
    try:
        accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision={"fp32": "no", "bf16": "bf16"}[resolve_precision(config.precision)],
            kwargs_handlers=handlers,
        )
    except ValueError as error:  # WORLD_SIZE without RANK or MASTER_ADDR
        raise ConfigError(f"WORLD_SIZE={asked}, but the launch is incomplete: {error}.") from error
    if accelerator.num_processes != asked:
        raise ConfigError(
            f"launched with WORLD_SIZE={asked}, but accelerate runs {accelerator.num_processes} "
            "process(es). Use launch/accelerate/ddp.yaml: it starts real ranks on GPUs and CPUs."
        )
    if accelerator.distributed_type not in STRATEGIES:
        raise ConfigError(
            f"strategy {accelerator.distributed_type.value!r} is not supported. Supported: "
            "single, ddp (launch/accelerate/)."
        )
    return accelerator


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


@contextlib.contextmanager
def orderly_exit() -> Iterator[None]:
    """Leave the process group when the block ends, however it ends.

    Ranks that just exit may abort, since gloo's threads still run, or hang: whatever still holds
    the wrapped model by then, such as the frames of an error, takes the group down while it holds
    the interpreter's lock, for which those threads may be waiting.
    """
    try:
        yield
    except BaseException as error:
        if torch.distributed.is_initialized():
            traceback.clear_frames(error.__traceback__)
        raise
    finally:
        if torch.distributed.is_initialized():
            gc.collect()
            torch.distributed.destroy_process_group()


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


def in_force(accelerator: Accelerator, config: TrainConfig) -> InForce:
    """Derive micro-batch size and accumulation for this number of processes."""
    world_size = accelerator.num_processes
    per_rank = -(-config.global_batch_size // world_size)
    micro_batch_size = min(config.micro_batch_size or per_rank, per_rank)
    return InForce(
        world_size=world_size,
        strategy=STRATEGIES[accelerator.distributed_type],
        precision={"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision),
        micro_batch_size=micro_batch_size,
        accumulation=accumulation_steps(config.global_batch_size, micro_batch_size, world_size),
        global_batch_size=config.global_batch_size,
    )
