"""Out of memory on any rank: all ranks start again from the newest checkpoint, with half the
micro-batch.

A rank cannot repeat a step by itself: with sharded weights the others already wait in the next
collective. So every rank replaces its own process by the same command line with ``--resume``. The
global batch, and with it the result, stays as it was.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any, NoReturn

LIMIT = "LLMCLF_MICRO_BATCH_LIMIT"
REMEDY = (
    "Set --train.gradient-checkpointing, or shard over more devices "
    "(launch/accelerate/zero3.yaml), and go on with --resume; or start anew with a smaller "
    "--data.max-length, or --model.quantize nf4 with --model.tune lora."
)
SIGNS = re.compile(
    r"\b(CUDA|HIP|XPU|MPS)( error:| backend)? out of memory"
    r"|Cuda failure (2 )?'out of memory'|Failed to CUDA (host )?(calloc|alloc|malloc)"  # NCCL
    r"|CU(BLAS|BLASLT|SOLVER|SPARSE|DNN)_STATUS_ALLOC_FAILED|DEVICE_ALLOCATION_FAILED"
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory|std::bad_alloc",
    re.IGNORECASE,  # libraries spell CUDA and Cuda
)
"""What libraries say that raise a RuntimeError of no kind of its own. Not merely "out of memory" or
"allocate memory": a kernel's shared memory and the loader's static TLS run out of those, too, and
no smaller batch helps."""

_in_use: int | None = None


def limited(micro_batch_size: int) -> int:
    """The micro-batch size to use: smaller than asked for after a restart."""
    global _in_use
    # The run that ran out is the first one after the restart; later runs of a comparison may fit.
    _in_use = min(micro_batch_size, int(os.environ.pop(LIMIT, micro_batch_size)))
    return _in_use


def in_use() -> int | None:
    """The micro-batch size of the current run; None before one has started."""
    return _in_use


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left."""
    torch: Any = sys.modules.get("torch")  # without it nothing can have run out of its memory
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and SIGNS.search(str(error)) is not None


def message(rank: int, micro_batch_size: int) -> str:
    """What happened and what follows."""
    what = f"out of memory on rank {rank} with micro-batches of {micro_batch_size}"
    if micro_batch_size == 1:
        return f"error: {what} row. {REMEDY}"
    return (
        f"{what} rows: starting again from the newest checkpoint with {micro_batch_size // 2}; "
        "the global batch size stays"
    )


def restart(micro_batch_limit: int) -> NoReturn:
    """Replace this process by itself, resuming. May be called from any thread."""
    os.environ[LIMIT] = str(micro_batch_limit)
    arguments = sys.orig_argv[1:]
    if "--resume" not in arguments:
        arguments = [*arguments, "--resume"]
    sys.stdout.flush()
    sys.stderr.flush()
    # Connections and devices that libraries left inheritable would stay open, and peers waiting.
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                continue  # the folder's own
    os.execv(sys.executable, [sys.executable, *arguments])
