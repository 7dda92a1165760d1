"""Run a script on CPU ranks under FSDP2, which accelerate does on accelerators only.

    accelerate launch --config_file launch/accelerate/fsdp2.yaml --num_processes 2 \
        tests/launch/fsdp_on_cpu.py SCRIPT [ARGUMENT ...]

accelerate is made to believe that the CPU is a GPU; the sharding by its own code and PyTorch's, and
all of llmclf, are the real ones.
"""

from __future__ import annotations

import os
import runpy
import sys

import torch.distributed as dist
from accelerate.state import PartialState
from accelerate.utils import DistributedType


def believe() -> None:
    """From now on accelerate takes the ranks for GPUs that speak gloo."""
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"

    def backend(*_: object, **__: object) -> tuple[str, DistributedType]:
        if not dist.is_initialized():
            dist.init_process_group("gloo")
        return "gloo", DistributedType.MULTI_GPU

    PartialState._prepare_backend = backend  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    believe()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
