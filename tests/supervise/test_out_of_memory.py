"""What counts as a full memory: the words of the libraries, as they really say them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmclf.comparison import survivable
from llmclf.supervise import out_of_memory
from llmclf.supervise.out_of_memory import is_out_of_memory

NCCL = (
    "NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:3699, unhandled cuda error "
    "(run with NCCL_DEBUG=INFO for details), NCCL version 2.27.3\n"
    "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\n"
)
FULL = {
    "caching allocator": "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 79.11 GiB of which 1.06 GiB is free.",
    "runtime": "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at "
    "some other API call, so the stacktrace below might be incorrect.",
    "rocm": "HIP out of memory. Tried to allocate 20.00 MiB",
    "rocm runtime": "HIP error: out of memory",
    "mps": "MPS backend out of memory (MPS allocated: 8.9 GB, other allocations: 1 MB)",
    "nccl": f"{NCCL}Cuda failure 2 'out of memory'",
    "nccl before 2.20": f"{NCCL}Cuda failure 'out of memory'",
    "nccl calloc": f"{NCCL}Failed to CUDA calloc async 4 bytes",
    "nccl host": f"{NCCL}Failed to CUDA host alloc 6291456 bytes",
    "cublas": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cudnn": "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cudnn 9": "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "cusolver": "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate`",
    "windows": "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: "
    "you tried to allocate 8589934592 bytes.",
    "c++": "std::bad_alloc",
}
OTHER = {
    "illegal access": "CUDA error: an illegal memory access was encountered",
    "assertion": "CUDA error: device-side assert triggered",
    "cublas": "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(handle)`",
    "cublas not there": "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`",
    "nccl": f"{NCCL}Cuda failure 999 'unknown error'",
    "nccl, the peer": "NCCL error: remote process exited or there was a network error",
    "kernel's shared memory": "out of resource: shared memory, Required: 131072, limit: 101376",
    "file in shared memory": "unable to write to file </torch_1_2>: No space left on device (28)",
    "loader": "libgomp-d22c30c5.so.1: cannot allocate memory in static TLS block",
    "size": "Storage size calculation overflowed with sizes=[4611686018427387904]",
    "shape": "The size of tensor a (512) must match the size of tensor b (514)",
    "pinning": "cannot pin 'torch.cuda.FloatTensor': only dense CPU tensors can be pinned",
}


@pytest.mark.parametrize("text", FULL.values(), ids=FULL)
def test_full(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError])
def test_full_by_its_kind(kind: type[Exception]) -> None:
    assert is_out_of_memory(kind("injected"))


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER)
def test_not_full(text: str) -> None:
    assert not is_out_of_memory(RuntimeError(text))


def test_only_errors_of_the_machine_count() -> None:
    """A user's text may well hold such words, and an error repeat it."""
    assert not is_out_of_memory(ValueError("row 'a': CUDA out of memory"))


def test_what_this_machine_says() -> None:
    with pytest.raises(RuntimeError) as torchs:
        torch.empty(10**15)
    with pytest.raises(MemoryError) as numpys:
        np.zeros(10**15)
    assert is_out_of_memory(torchs.value)
    assert is_out_of_memory(numpys.value)


@pytest.mark.gpu
def test_what_a_gpu_says() -> None:
    with pytest.raises(torch.OutOfMemoryError) as devices:
        torch.empty(10**15, dtype=torch.uint8, device="cuda")
    assert is_out_of_memory(devices.value)


def test_a_comparison_goes_on_where_there_is_no_micro_batch_to_halve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A classical model that is too large is no reason to lose the other methods."""
    monkeypatch.setattr(out_of_memory, "_in_use", None)
    assert survivable(MemoryError())
    monkeypatch.setattr(out_of_memory, "_in_use", 8)
    assert not survivable(MemoryError())
