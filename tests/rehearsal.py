"""The code paths of a GPU on a machine without one: a dry run that catches tensors on the wrong
device.

    python tests/rehearsal.py [FAMILY ...]

Tensors of a made-up accelerator have shapes and no memory, and PyTorch checks devices as it does
for CUDA: a ``torch.tensor(...)`` without a device that meets one of the accelerator's is an error.
Tiny models of each family are trained, evaluated, saved and asked so, and one is loaded past the
CPU. Numbers that the host asks
for are all 1; each time it does so, and hence would wait for a GPU, is counted: twice a step.

Not rehearsed: CUDA's own kernels, autocast, recomputed blocks. (The CPU's build of PyTorch cannot
pretend to have CUDA: it copies nothing to it and computes no gradients there.)
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils import backend_registration

from llmclf.compat.torch import TorchDispatchMode, storage_key, tensors_in

DEVICE = "rehearsal"
NOT_REHEARSED = ("longformer", "big_bird", "deberta-v2")
"""Their attention asks for values, or copies a constant, which takes a real device."""
waits: Counter[str] = Counter()
"""How often the host asked for a number, by what it asked with."""


@contextmanager
def accelerator() -> Iterator[FakeTensorMode]:
    """A machine that has one."""
    from llmclf.data import transfer

    backend_registration._setup_privateuseone_for_python_backend(DEVICE)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=DEVICE) is a copy
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    together, from_numpy = transfer._together, torch.from_numpy

    def host_buffer(arrays: Any, *, pins: bool) -> Any:
        with unset_fake_temporarily():
            host, starts = together(arrays, pins=False)
        return mode.from_tensor(host), starts

    with (
        patch.object(transfer, "_together", host_buffer),
        patch.object(transfer, "PINS", frozenset({DEVICE})),
        patch.object(torch, "from_numpy", lambda a: mode.from_tensor(from_numpy(a))),
        patch.multiple(FakeTensor, **{name: asked(name) for name in ONES}),
        mode,
    ):
        yield mode


ONES: dict[str, Callable[[torch.Tensor], Any]] = {
    "numpy": lambda t: np.ones(t.shape, str(t.dtype).removeprefix("torch.")),
    "tolist": lambda t: np.ones(t.shape).tolist(),
    "item": lambda t: 1,
    "__float__": lambda t: 1.0,
    "__int__": lambda t: 1,
    "__bool__": lambda t: True,
}


def asked(name: str) -> Any:
    """A way to ask a tensor for its values."""

    def answer(self: torch.Tensor) -> Any:
        if self.device.type == DEVICE:
            if name == "numpy":
                raise TypeError(f"can't convert {DEVICE} device type tensor to numpy")
            waits[name] += 1
        return ONES[name](self)

    return answer


def move(model: nn.Module) -> nn.Module:
    """Parameters and buffers to the accelerator; what else a module holds stays, as by ``to()``."""
    made: dict[int, Any] = {}  # tied weights stay tied
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if id(p) not in made:
                there = torch.empty(p.shape, dtype=p.dtype, device=DEVICE)
                made[id(p)] = nn.Parameter(there, p.requires_grad)
            module.register_parameter(name, made[id(p)])
        for name, b in list(module.named_buffers(recurse=False, remove_duplicate=False)):
            module._buffers[name] = torch.empty(b.shape, dtype=b.dtype, device=DEVICE)
    return model


class Alone:
    """What accelerate gives to a single process on the accelerator."""

    is_main_process, process_index, num_processes = True, 0, 1

    @property
    def device(self) -> torch.device:
        return torch.device(DEVICE)

    def prepare(self, model: nn.Module, optimizer: Any) -> Any:
        return model, optimizer

    def no_sync(self, model: nn.Module) -> Any:
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        return tensor

    def clip_grad_norm_(self, parameters: Any, norm: float) -> torch.Tensor:
        return nn.utils.clip_grad_norm_(parameters, norm)


class OnCpu(TorchDispatchMode):
    """Counts the bytes of the CPU's tensors while it is entered; :attr:`peak` has the most."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tensors_in(result):
            key, storage = storage_key(tensor), tensor.untyped_storage()
            if tensor.device.type == "cpu" and key not in self.sizes:
                self.sizes[key] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, key)
        self.peak = max(self.peak, sum(self.sizes.values()))
        return result


def load(checkpoint: Path, mode: FakeTensorMode, **settings: Any) -> None:
    """Onto the device past the CPU, which has a matrix on its way at most, and what is new."""
    from transformers import core_model_loading

    from llmclf.model.config import ModelConfig
    from llmclf.train.engine import EffectiveLaunch
    from llmclf.train.model_builder import ModelBuilder

    def from_file(tensor: Any, device: Any = None, dtype: Any = None) -> torch.Tensor:
        with unset_fake_temporarily():
            read = tensor[...]
        return mode.from_tensor(read).to(device=device, dtype=dtype)

    builder = ModelBuilder(
        config=ModelConfig(checkpoint=str(checkpoint), **settings),
        labels=("bad", "good", "meh"),
        multilabel=False,
        pad_token_id=0,
        max_length=32,
    )
    with (
        patch.dict(os.environ, HF_DEACTIVATE_ASYNC_LOAD="1"),  # a mode is one thread's
        patch.object(core_model_loading, "_materialize_copy", from_file),
        OnCpu() as cpu,
    ):
        launch = EffectiveLaunch(1, "single", "bf16", 4, 1, 8)
        model = builder.load(0, launch, torch.device(DEVICE))
    tensors = [*model.parameters(), *model.buffers()]
    assert {t.device.type for t in tensors} == {DEVICE}
    assert cpu.peak < sum(t.nbytes for t in tensors) / 4, cpu.peak


def fine_tune(splits: Any, checkpoint: Path, **settings: Any) -> None:
    """A step of two micro-batches, an evaluation, a checkpoint there and back, a row alone."""
    from llmclf.data.batches import plan_epoch
    from llmclf.model.config import ModelConfig
    from llmclf.train import fine_tune
    from llmclf.train.checkpoint import _save_parts
    from llmclf.train.config import TrainConfig
    from llmclf.train.loop import _Run
    from llmclf.train.loss import Loss
    from llmclf.train.optimizer import build_optimizer
    from llmclf.train.predict import predict_logits
    from llmclf.train.strategy import TorchStrategy

    tune = settings.pop("tune", "full")
    config = TrainConfig(precision="fp32", global_batch_size=8, micro_batch_size=4, **settings)
    with unset_fake_temporarily():
        run = fine_tune.prepare(
            splits,
            model_config=ModelConfig(checkpoint=str(checkpoint), tune=tune),
            config=config,
            max_length=None,
            seed=0,
        )
    collate = dataclasses.replace(run.task.collate, device=DEVICE)
    task = dataclasses.replace(run.task, collate=collate)
    assert run.model is not None
    config = run.config  # with the learning rate that is the default here
    model, here = move(run.model).train(), Alone()
    optimizer = build_optimizer(model, config, run.family)
    strategy = TorchStrategy(here, model, optimizer, max_grad_norm=1.0)  # type: ignore[arg-type]
    loss = Loss(config, task.train.targets, len(task.labels), device=DEVICE)
    loop: Any = SimpleNamespace(
        task=task, config=config, loss=loss, strategy=strategy, accelerator=here,
        rows_loss=lambda rows: _Run.rows_loss(loop, rows), notes=lambda: [0.0, 0.0, 0.0],
    )  # fmt: skip
    waits.clear()
    plan = plan_epoch(
        task.train.lengths, global_batch_size=8, micro_batch_size=4, world_size=1, seed=0, epoch=0
    )
    for step in plan[:2]:
        _Run.forward_backward(loop, step)
        strategy.step()
    assert waits == {"tolist": 2, "__float__": 2}, waits  # a step's loss, and its norm
    predict_logits(model, task.validation, collate, here, batch_size=4)  # type: ignore[arg-type]
    model(**collate(task.validation, [0])).logits.softmax(-1).cpu()
    fragments = strategy.fragments()
    with tempfile.TemporaryDirectory() as folder:
        parts = {name: (f.start, f.weight) for name, f in fragments.items()}
        _save_parts(parts, Path(folder) / "weights")
    for fragment in fragments.values():
        fragment.weight.copy_(torch.empty(fragment.weight.numel()))
    strategy.written(1)


def prompt(checkpoint: Path) -> None:
    """Questions behind a shared prefix, and each whole prompt by itself."""
    from llmclf.model.causal import load_causal
    from llmclf.prompt.score import Scorer
    from tests.prompt.test_score import questions

    with unset_fake_temporarily():
        model = load_causal(
            str(checkpoint), quantize="none", precision="bf16", device=torch.device("cpu")
        )
    scorer = Scorer(move(model), pad_token_id=0, token_budget=200, precision="bf16")  # type: ignore[arg-type]
    reason = scorer.check(questions(rows=5))
    assert reason is None, reason
    scorer.score(questions(rows=5))


SETTINGS: tuple[dict[str, Any], ...] = (
    {"class_weights": "balanced"},
    {"tune": "lora", "loss": "focal"},
    {"tune": "last_n", "label_smoothing": 0.1},
)


LOADED: tuple[dict[str, Any], ...] = ({"tune": "full"}, {"tune": "last_n", "last_n": 1})


def main(names: list[str]) -> None:
    from llmclf.data.config import DataConfig
    from llmclf.data.corpus import load_splits
    from llmclf.model.family import FAMILIES
    from llmclf.terminal import quieten
    from tests.model.conftest import save_checkpoint
    from tests.tiny import make_byte_llama, write_corpus

    quieten()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder / "corpus.csv", 60)
        splits = load_splits(DataConfig(source=str(corpus)), seed=0)
        make_byte_llama(folder / "prompted")
        chosen = names or [f for f in FAMILIES if f not in NOT_REHEARSED]
        for family in chosen:
            save_checkpoint(family, folder / family)
        with accelerator() as mode:
            for family in chosen:
                for settings in SETTINGS if family == chosen[0] else SETTINGS[:1]:
                    fine_tune(splits, folder / family, **settings)
                    print("rehearsed:", family, settings, flush=True)
            deep = {"num_hidden_layers": 8, "hidden_size": 64, "intermediate_size": 128}
            with unset_fake_temporarily():
                save_checkpoint("bert", folder / "deep", **deep)
            for settings in LOADED:
                load(folder / "deep", mode, **settings)
                print("rehearsed: loading", settings, flush=True)
            prompt(folder / "prompted")
            print("rehearsed: prompt")


if __name__ == "__main__":
    main(sys.argv[1:])
