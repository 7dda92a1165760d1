"""NumPy arrays of the host -> tensors of a device, in one copy that nothing waits for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

ALIGNMENT = 64
"""Bytes: where each array begins in the common copy, so that vector instructions can read it."""
PINS = frozenset({"cuda"})
"""Devices that copy by themselves from memory that the system does not move."""


def to_device(
    arrays: Mapping[str, np.ndarray], device: torch.device | str
) -> dict[str, torch.Tensor]:
    """The same values as tensors on a device.

    On a CUDA device they share one buffer, which is filled in pinned memory and sent without
    waiting: each copy from ordinary memory would hold up the host until the device has done all
    that it was asked for before. On the CPU they share the arrays' own memory.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    pins = device.type in PINS
    host, starts = _together(arrays, pins=pins)
    moved = host.to(device, non_blocking=pins)
    return {name: _part(moved, starts[name], array) for name, array in arrays.items()}


def _together(
    arrays: Mapping[str, np.ndarray], *, pins: bool
) -> tuple[torch.Tensor, dict[str, int]]:
    """The bytes of all arrays, pinned or not, and where each begins."""
    starts, size = {}, 0
    for name, array in arrays.items():
        starts[name] = size
        size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    host = torch.empty(size, dtype=torch.uint8, pin_memory=pins)
    for name, array in arrays.items():
        _part(host, starts[name], array).numpy()[...] = array
    return host, starts


def _part(buffer: torch.Tensor, start: int, like: np.ndarray) -> torch.Tensor:
    """The bytes of a buffer from ``start`` as a tensor of an array's shape and type."""
    flat = buffer[start : start + like.nbytes].view(torch.from_numpy(like).dtype)
    return flat.view(like.shape)
