"""Prints which attributes real DeepSpeed engines lack; started by test_compat.py."""

from __future__ import annotations

import json
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, InitProcessGroupKwargs

from llmclf.compat.accelerate import deepspeed_settings, forget_accelerator
from llmclf.compat.deepspeed import do_without_shared_memory_kernel


def engine_of(stage: int) -> Any:
    """An engine of one rank, one step on."""
    forget_accelerator()
    accelerator = Accelerator(
        deepspeed_plugin=DeepSpeedPlugin(zero_stage=stage),
        kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")],
    )
    settings = deepspeed_settings(accelerator)
    settings["train_micro_batch_size_per_gpu"] = 1
    settings["zero_force_ds_cpu_optimizer"] = False
    model = torch.nn.Linear(4, 3)
    engine, _ = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    engine.backward(engine(torch.ones(2, 4)).sum())
    engine.step()
    return engine


def lacks(engine: Any, name: str) -> bool:
    try:
        attrgetter(name)(engine)
    except AttributeError:
        return True
    return False


if __name__ == "__main__":
    do_without_shared_memory_kernel()
    output, wanted = Path(sys.argv[1]), json.loads(sys.argv[2])
    missing = {
        stage: [name for name in names if lacks(engine, name)]
        for stage, names in wanted.items()
        for engine in [engine_of(int(stage))]
    }
    output.write_text(json.dumps(missing))
    torch.distributed.destroy_process_group()
