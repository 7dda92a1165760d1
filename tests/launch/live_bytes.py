"""Live tensor bytes of one rank, by phase of its run, where there is no CUDA allocator to ask.

Every storage counts from the operation that makes it, or first meets it, until it is gone. All of
a CPU rank's tensors lie in one memory, so what a GPU would leave in that of its host is named here
(:data:`ON_THE_HOST`) and not counted.
"""

from __future__ import annotations

import functools
import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llmclf.train import loop
from llmclf.train.checkpoint import StoredTensors
from llmclf.train.fine_tune import PreparedFineTune
from llmclf.train.model_builder import ModelBuilder

ELSEWHERE = "elsewhere"
PHASES: list[tuple[Any, str, str]] = [
    (ModelBuilder, "load", "load"),
    (PreparedFineTune, "train", "train"),
    (loop, "start_strategy", "prepare"),
    (loop, "predict_logits", "evaluate"),
    (PreparedFineTune, "probe", "evaluate"),
    (PreparedFineTune, "reload", "save"),
    (PreparedFineTune, "predict", "predict"),
    (PreparedFineTune, "latencies", "predict"),
]
"""Whose attribute is which phase; the innermost counts. What predicts before anything was saved is
the trained model: that is evaluation."""
ON_THE_HOST: list[tuple[Any, str]] = [
    (ModelBuilder, "meta_model"),
    (PreparedFineTune, "save"),
    (StoredTensors, "read"),
]
"""Beside them what is read back after training where no device holds it."""


class LiveBytes(TorchDispatchMode):
    """Counts while it is entered; :attr:`peak` has the most bytes of each phase, :attr:`end` those
    that were left when it last ended."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak: Counter[str] = Counter()
        self.end: Counter[str] = Counter()
        self.phase, self.on_the_host = ELSEWHERE, False
        self.sizes: dict[int, int] = {}
        self.before = {_key(t) for t in _all_tensors()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(t, DTensor) for t in types):
            return NotImplemented  # its local operations come one by one
        result = func(*args, **(kwargs or {}))
        self.see((args, kwargs, result))
        return result

    def see(self, values: Any) -> None:
        """Count the storages of all tensors in nested values."""
        for tensor in tree_leaves(values):
            if isinstance(tensor, torch.Tensor) and type(tensor).__name__ != "FakeTensor":
                self.see_storage(tensor)
        self.peak[self.phase] = max(self.peak[self.phase], self.live)

    def see_storage(self, tensor: torch.Tensor) -> None:
        if isinstance(tensor, DTensor):
            tensor = tensor._local_tensor
        if tensor.device.type == "meta":
            return
        key, storage = _key(tensor), tensor.untyped_storage()
        if key in self.before:
            return
        if key not in self.sizes:
            weakref.finalize(storage, self.gone, key)
            self.sizes[key] = 0
            if self.on_the_host:
                self.before.add(key)
                return
        self.live += storage.nbytes() - self.sizes[key]
        self.sizes[key] = storage.nbytes()

    def gone(self, key: int) -> None:
        self.live -= self.sizes.pop(key)
        self.before.discard(key)

    @contextmanager
    def within(self, phase: str, method: Any = None, *_: Any) -> Iterator[None]:
        """Count a block of ``method`` under a name."""
        if phase == "predict" and "save" not in self.end:
            phase = "evaluate"
        outside, self.phase = self.phase, phase
        hosted = self.on_the_host
        self.on_the_host |= phase == "save" and method.saved_precision() is None
        try:
            yield
            if phase in ("load", "save"):
                self.see(_all_tensors())  # other threads read weights, and no mode sees those
            self.end[phase] = self.live
        finally:
            self.phase, self.on_the_host = outside, hosted

    @contextmanager
    def uncounted(self, *_: Any) -> Iterator[None]:
        """What is made in a block lies in the memory of the host."""
        outside, self.on_the_host = self.on_the_host, True
        try:
            yield
        finally:
            self.on_the_host = outside


def _all_tensors() -> list[torch.Tensor]:
    """Those that Python knows of."""
    gc.collect()
    return [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]


def _key(tensor: torch.Tensor) -> int:
    local = tensor._local_tensor if isinstance(tensor, DTensor) else tensor
    return local.untyped_storage()._cdata


def _around(block: Callable[..., Any], owner: Any, name: str) -> Callable[[], None]:
    """Have each call of ``owner.name`` run inside ``block``; returns how to undo it."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        with block(*args):
            return original(*args, **kwargs)

    setattr(owner, name, call)
    return lambda: setattr(owner, name, original)


@contextmanager
def counted() -> Iterator[LiveBytes]:
    """Count what runs in this block, by phase."""
    counter = LiveBytes()
    undo = [_around(functools.partial(counter.within, p), o, name) for o, name, p in PHASES]
    undo += [_around(counter.uncounted, o, name) for o, name in ON_THE_HOST]
    resize = torch.UntypedStorage.resize_

    def resized(storage: Any, size: int) -> Any:  # as FSDP2 frees what it has gathered
        key, result = storage._cdata, resize(storage, size)
        if key in counter.sizes and key not in counter.before:
            counter.live += storage.nbytes() - counter.sizes[key]
            counter.sizes[key] = storage.nbytes()
        return result

    torch.UntypedStorage.resize_ = resized  # type: ignore[method-assign]
    try:
        with counter:
            yield counter
    finally:
        torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign]
        for restore in undo:
            restore()
