"""The GPUs of a machine and the processes that a launch starts on it: one each."""

from __future__ import annotations

import torch

from llmclf import ranks
from llmclf.config import LaunchError


def check_gpus(local_ranks: int, gpus: int) -> str | None:
    """What to say where GPUs of this machine stay without a process; None where none does.

    Raises LaunchError for more processes than GPUs: two would share one, and its memory.

    ``gpus``: those that are visible; 0: the processes compute on the CPU.
    """
    if gpus and local_ranks > gpus:
        raise LaunchError(
            f"{local_ranks} processes on a machine that shows {gpus} GPU(s): each needs one of its "
            f"own. Launch --num_processes {gpus} (times the number of machines), or look at "
            "CUDA_VISIBLE_DEVICES."
        )
    if local_ranks < gpus:
        return (
            f"{local_ranks} of the {gpus} GPUs of this machine will be used. For all of them: "
            "accelerate launch --config_file launch/accelerate/ddp.yaml --num_processes "
            f"{gpus} RECIPE"
        )
    return None


def idle_gpus() -> list[str]:
    """A line where GPUs of this machine stay without a process."""
    said = check_gpus(ranks.local_world_size(), torch.cuda.device_count())
    return [] if said is None else [said]
