"""What tests on a GPU have in common."""

from __future__ import annotations

import torch


def free_workspaces() -> int:
    """Free what cuBLAS has taken from PyTorch's allocator for its products (8 MiB a thread and
    stream, 32 on Hopper), which is no tensor; returns its bytes."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch._C._cuda_clearCublasWorkspaces()
    return before - torch.cuda.memory_allocated()
