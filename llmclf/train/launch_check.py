"""What a launch asks for, checked before a process group is joined: what cannot be kept is refused.

Launchers tell it by environment variables; what they drop stands on the command line of our parent.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from typing import Literal

import psutil

from llmclf import ranks
from llmclf.compat.accelerate import launch_arguments
from llmclf.compat.deepspeed import do_without_shared_memory_kernel
from llmclf.config import LaunchError
from llmclf.extras import install_hint
from llmclf.train.config import Precision, TrainConfig

Strategy = Literal["single", "ddp", "zero1", "zero2", "zero3", "zero3_offload", "fsdp2"]

RENDEZVOUS = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher tells each of several ranks beside their number."""
PRECISION, ACCUMULATION, CLIPPING = (
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "ACCELERATE_GRADIENT_CLIPPING",
)


def shards_weights(strategy: Strategy) -> bool:
    """Whether weights are sharded, so that no device holds the whole model."""
    return strategy in ("zero3", "zero3_offload", "fsdp2")


def asked_strategy() -> Strategy:
    """The strategy that ``accelerate launch`` put into the environment.

    Raises LaunchError for one that no file of launch/accelerate/ asks for.
    """
    asks = {name for name in ("DEEPSPEED", "FSDP") if _on(f"ACCELERATE_USE_{name}")}
    if "DEEPSPEED" in asks:
        if "ACCELERATE_DEEPSPEED_CONFIG_FILE" in os.environ:
            raise LaunchError(
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
            raise LaunchError(
                f"DeepSpeed stage {stage} with offload to {', '.join(sorted(offload))}: supported "
                "are the stages 1, 2 and 3, and stage 3 with offload to cpu (launch/accelerate/)."
            )
        return strategy  # type: ignore[return-value]
    if "FSDP" in asks:
        version = os.environ.get("FSDP_VERSION", "1")
        if version != "2":
            raise LaunchError(
                f"fsdp_version={version}: supported is 2. Use launch/accelerate/fsdp2.yaml."
            )
        return "fsdp2"
    return "ddp" if ranks.world_size() > 1 else "single"


def _on(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("1", "true", "yes")


def check_launch(strategy: Strategy, on_cpu: bool) -> None:
    """Raise LaunchError for a launch that cannot do what it says, before a process group is
    joined."""
    launch = parent_launch()
    lonely = getattr(launch, "num_processes", None)
    if lonely is not None and lonely > 1 and not ranks.launched():
        raise LaunchError(
            f"accelerate launch --num_processes {lonely}: it started a single process, which would "
            "train alone (it does so with --cpu, without mpirun). For real ranks on a CPU: "
            f"accelerate launch --config_file launch/accelerate/ddp.yaml --num_processes {lonely} "
            "RECIPE."
        )
    size = ranks.world_size()
    missing = [name for name in RENDEZVOUS if name not in os.environ]
    if size > 1 and missing:  # accelerate would make up a rank for each, or run one process
        raise LaunchError(
            f"WORLD_SIZE={size}, but the launch is incomplete: {', '.join(missing)} not set. Start "
            "the ranks by accelerate launch or torchrun, or unset WORLD_SIZE for one process."
        )
    if strategy.startswith("zero"):
        if importlib.util.find_spec("deepspeed") is None:
            raise LaunchError(
                f"strategy {strategy}: deepspeed is not installed. Install it: "
                f"DS_BUILD_OPS=0 {install_hint('deepspeed')}. Or use ddp.yaml or fsdp2.yaml."
            )
        if on_cpu:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
            do_without_shared_memory_kernel()


def parent_launch() -> argparse.Namespace | None:
    """What the ``accelerate launch`` that is our parent understood, by its own parser; None where
    there is no such parent.

    The environment does not hold all: a launch for a CPU starts one process whatever it says.
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
    return launch_arguments(words[is_launch[0] + 1 :]) if is_launch else None


def check_settings(config: TrainConfig, precision: Precision) -> None:
    """Raise LaunchError where the launch sets what the recipe decides, and to something else: it
    would be dropped.

    ``precision``: what the recipe computes in here.
    """
    launch = parent_launch()
    asked = os.environ.get(PRECISION, "no").lower()
    if asked not in ("no", precision):
        more = " fp16 is not supported: a GPU without bf16 takes fp32." if asked == "fp16" else ""
        raise LaunchError(
            f"accelerate launch --mixed_precision {asked}: the recipe decides, and computes in "
            f"{precision}. Leave it out, there and in configuration files, and set "
            f"--train.precision (prompting: --prompt.precision).{more}"
        )
    steps = _given(ACCUMULATION, launch)
    if steps is not None and steps != 1:
        raise LaunchError(
            f"accelerate launch --gradient_accumulation_steps {steps:g}: accumulation follows from "
            "the recipe's batch sizes and the number of processes. Leave it out, and set "
            "--train.micro-batch-size or --train.global-batch-size."
        )
    norm = _given(CLIPPING, launch)
    if norm is not None and norm != config.max_grad_norm:
        raise LaunchError(
            f"accelerate launch --gradient_clipping {norm:g}: the recipe decides, and clips to "
            f"{config.max_grad_norm:g}. Leave it out, and set --train.max-grad-norm."
        )


def _given(variable: str, launch: argparse.Namespace | None) -> float | None:
    """A number that the launch sets: accelerate passes it on to DeepSpeed alone."""
    name = variable.removeprefix("ACCELERATE_").lower()
    value = os.environ.get(variable, getattr(launch, name, None))
    try:
        return None if value is None else float(value)
    except ValueError:
        return None  # "auto": as the recipe wants it
