"""Checkpoints that are whole or absent, and resume to the same bits.

``checkpoints/step-000120/`` holds what learns, the optimizer and each rank's random state, as
safetensors and JSON: nothing is unpickled on resume. ``checkpoints/best-000080/`` holds the best
weights so far. Each rank's file holds the parts of the tensors that the rank updates.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

from llmclf.atomic import replace_folder, sync, temporary_name, write_text
from llmclf.config import UserError, dump_json
from llmclf.supervise.waiting import doing
from llmclf.train.strategy import DeepSpeedStrategy, TorchStrategy

MANIFEST = "manifest.json"

Parts = dict[str, tuple[int, torch.Tensor]]
"""Name -> where the part starts in the flattened tensor, and the part, (elements,)."""


@dataclass
class State:
    """How far a run has come."""

    step: int = 0
    best_step: int = 0
    best_score: float | None = None
    evaluations_since_best: int = 0
    stopped_early: bool = False
    train_seconds: float = 0.0
    train_tokens: int = 0


class Checkpoints:
    """The ``checkpoints`` folder of one run, for the parameters that learn.

    Every rank writes the parts it updates, under names and positions that depend on no strategy: a
    run goes on under any strategy and with any number of ranks. The folder must be one that all
    machines share.
    """

    def __init__(self, folder: Path, accelerator: Accelerator) -> None:
        self.folder = folder
        self.accelerator = accelerator

    def save(self, state: State, strategy: TorchStrategy | DeepSpeedStrategy) -> None:
        """Write ``step-N``, then remove what it replaces. All ranks must call this."""
        fragments = strategy.fragments()
        weights = {name: (f.start, f.weight) for name, f in fragments.items()}
        moments = {
            f"{name}/{key}": (f.start, tensor)
            for name, f in fragments.items()
            for key, tensor in f.moments.items()
        }
        rng = gather_object([_rng_state()])
        step = self.folder / f"step-{state.step:06d}"
        self._write(
            step,
            strategy,
            {"weights": weights, "optimizer": moments},
            {"rng.json": json.dumps(rng), "state.json": dump_json(asdict(state))},
        )
        if self.accelerator.is_main_process:
            keep = {step.name, _best_name(state.best_step)}
            for old in self.folder.iterdir():
                if old.name not in keep:
                    shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    def save_best(self, state: State, strategy: TorchStrategy | DeepSpeedStrategy) -> None:
        """Write the weights of the best evaluation so far. All ranks must call this."""
        fragments = strategy.fragments()
        weights = {name: (f.start, f.weight) for name, f in fragments.items()}
        self._write(self.best(state), strategy, {"weights": weights}, {})

    def best(self, state: State) -> Path:
        """The folder of the best weights so far."""
        return self.folder / _best_name(state.best_step)

    def load_best(self, state: State, strategy: TorchStrategy | DeepSpeedStrategy) -> None:
        """Put the best weights into the model."""
        check(self.best(state))
        self._load_weights(self.best(state), strategy)
        strategy.written(state.step)

    def newest(self) -> Path | None:
        """The folder that a run would go on from; None at its start."""
        return max(self.folder.glob("step-*"), default=None) if self.folder.is_dir() else None

    def resume(self, strategy: TorchStrategy | DeepSpeedStrategy) -> State:
        """Restore the newest whole checkpoint; a new State when there is none.

        With the number of ranks that wrote it, to the same bits; with another, to the same weights
        and the same rows in the same order, but other dropout. Raises UserError when it is damaged.
        """
        folder = self.newest()
        if folder is None:
            return State()
        check(folder)
        state = State(**json.loads((folder / "state.json").read_text()))
        self._load_weights(folder, strategy)
        stored = StoredTensors(folder, "optimizer")
        for name, fragment in strategy.fragments().items():
            for key, tensor in fragment.moments.items():
                tensor.copy_(stored.read(f"{name}/{key}", fragment.start, tensor.numel()))
        strategy.written(state.step)
        rng = json.loads((folder / "rng.json").read_text())
        if len(rng) == self.accelerator.num_processes:
            _restore_rng(rng[self.accelerator.process_index])
        return state

    def _load_weights(self, folder: Path, strategy: TorchStrategy | DeepSpeedStrategy) -> None:
        stored = StoredTensors(folder, "weights")
        for name, fragment in strategy.fragments().items():
            fragment.weight.copy_(stored.read(name, fragment.start, fragment.weight.numel()))

    @doing("saving a checkpoint")
    def _write(
        self,
        target: Path,
        strategy: TorchStrategy | DeepSpeedStrategy,
        parts: Mapping[str, Parts],
        texts: Mapping[str, str],
    ) -> None:
        """Write the ranks' files and a manifest of their sha256 beside the target, then rename: a
        crash leaves no half folder."""
        temporary = temporary_name(target)
        try:
            self._write_files(temporary, strategy, parts, texts)
            if self.accelerator.is_main_process:
                replace_folder(temporary, target)
        except Exception:
            shutil.rmtree(temporary, ignore_errors=True)  # it may be what fills the disk
            raise
        self.accelerator.wait_for_everyone()

    def _write_files(
        self,
        temporary: Path,
        strategy: TorchStrategy | DeepSpeedStrategy,
        parts: Mapping[str, Parts],
        texts: Mapping[str, str],
    ) -> None:
        main, rank = self.accelerator.is_main_process, self.accelerator.process_index
        if main:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        digests: dict[str, str] = {}
        if main or strategy.sharded:
            for name, tensors in parts.items():
                path = temporary / f"{name}-{rank:05d}.safetensors"
                _save_parts(tensors, path)
                digests[path.name] = _sync_and_digest(path)
        if main:
            for name, text in texts.items():
                (temporary / name).write_text(text, encoding="utf-8")
                digests[name] = _sync_and_digest(temporary / name)
        gathered = gather_object([digests])
        if main:
            manifest = {name: digest for files in gathered for name, digest in files.items()}
            write_text(temporary / MANIFEST, dump_json(manifest))


class StoredTensors:
    """The tensors of a checkpoint, whoever wrote which part of them; read range by range."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open the tensors of ``folder`` called ``name``: weights or optimizer."""
        self.folder = folder
        self._parts: dict[str, list[tuple[int, int, Any]]] = defaultdict(list)
        for path in sorted(folder.glob(f"{name}-*.safetensors")):
            file = safe_open(path, framework="pt")
            starts = json.loads(file.metadata()["starts"])
            for tensor, start in starts.items():
                size = file.get_slice(tensor).get_shape()[0]
                self._parts[tensor].append((start, start + size, file))

    def read(self, name: str, start: int, size: int) -> torch.Tensor:
        """Elements ``start`` to ``start + size`` of a flattened tensor, fp32 (size,)."""
        values = torch.empty(size)
        filled = 0
        for first, end, file in self._parts[name]:
            a, b = max(first, start), min(end, start + size)
            if a < b:
                values[a - start : b - start] = file.get_slice(name)[a - first : b - first]
                filled += b - a
        assert filled == size, f"{self.folder}: {filled} of {size} elements of {name}"
        return values


def load_learned(model: nn.Module, folder: Path) -> None:
    """Put the weights of a checkpoint into a whole model on one device."""
    check(folder)
    stored = StoredTensors(folder, "weights")
    for name, parameter in learned(model).items():
        parameter.copy_(stored.read(name, 0, parameter.numel()).view_as(parameter))


def learned(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that learn, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _rng_state() -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [np.asarray(keys).tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state().tolist(),
        "cuda": torch.cuda.get_rng_state().tolist() if torch.cuda.is_available() else None,
    }


def _restore_rng(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(("MT19937", *state["numpy"]))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(state["cuda"], dtype=torch.uint8))


def _best_name(step: int) -> str:
    return f"best-{step:06d}"


def _save_parts(parts: Parts, path: Path) -> None:
    # Through numpy: safetensors' torch front end refuses views of one tensor, which partitions are.
    tensors = {name: tensor.detach().float().cpu().numpy() for name, (_, tensor) in parts.items()}
    starts = {name: start for name, (start, _) in parts.items()}
    save_file(tensors, path, metadata={"starts": json.dumps(starts)})


def _sync_and_digest(path: Path) -> str:
    sync(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(folder: Path) -> None:
    """Raise UserError unless every file is as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name, digest in manifest.items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise ValueError(f"{name}: its checksum differs")
    except (OSError, ValueError) as error:  # ValueError: not JSON, or not UTF-8
        raise UserError(
            f"checkpoint {folder} is damaged ({error}). Remove the run folder and start again."
        ) from error
