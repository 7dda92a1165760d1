"""Arrays reach a device whole, by one copy that nothing waits for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llmclf.data import transfer
from llmclf.data.transfer import ALIGNMENT, to_device

ARRAYS = {
    "ids": np.arange(15, dtype=np.int64).reshape(3, 5),
    "mask": np.eye(3, 5, dtype=bool),
    "types": np.full((3, 5), -7, np.int8),
    "targets": np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2),
    "none": np.zeros((0, 5), np.int64),
    "one": np.array(2.5),
}


class Recorder(TorchDispatchMode):
    """Every operation that makes a tensor of one device from one of another."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[dict[str, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        devices = {a.device for a in args if isinstance(a, torch.Tensor)}
        if isinstance(out, torch.Tensor) and devices - {out.device}:
            self.copies.append(kwargs or {})
        return out


def same(moved: dict[str, torch.Tensor]) -> None:
    assert list(moved) == list(ARRAYS)
    for name, array in ARRAYS.items():
        found = moved[name].cpu().numpy()
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found, array)
        assert moved[name].is_contiguous()


def test_on_the_cpu_nothing_is_copied() -> None:
    with Recorder() as recorder:
        moved = to_device(ARRAYS, "cpu")
    same(moved)
    assert not recorder.copies
    ARRAYS["ids"][0, 0] = 99
    assert moved["ids"][0, 0] == 99
    ARRAYS["ids"][0, 0] = 0


def test_elsewhere_all_share_one_copy_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device stands in for one that pins: what is asked of torch is the same."""
    asked: list[dict[str, Any]] = []
    empty = torch.empty

    def recorded(*size: int, **settings: Any) -> torch.Tensor:
        asked.append(dict(settings))
        return empty(*size, **settings | {"pin_memory": False})

    monkeypatch.setattr(torch, "empty", recorded)
    for pins in (True, False):
        monkeypatch.setattr(transfer, "PINS", frozenset({"meta"} if pins else ()))
        with Recorder() as recorder:
            moved = to_device(ARRAYS, "meta")
        (copy,), (memory,) = recorder.copies, asked
        assert (copy.get("non_blocking", False), memory["pin_memory"]) == (pins, pins)
        assert copy["device"] == torch.device("meta")
        asked.clear()
        for name, array in ARRAYS.items():
            assert moved[name].shape == array.shape
            assert moved[name].storage_offset() * moved[name].itemsize % ALIGNMENT == 0


def test_the_copy_holds_the_values() -> None:
    host, starts = transfer._together(ARRAYS, pins=False)
    same({name: transfer._part(host, starts[name], array) for name, array in ARRAYS.items()})


@pytest.mark.gpu
def test_on_a_gpu_nothing_waits() -> None:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved = to_device(ARRAYS, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    same(moved)
